/** What is sent to connected devices only and never stored: typing notices. */

import type { DeviceAddress } from "@murmuration/base";
import { type AccountId, groupId, submitId } from "@murmuration/base";
import type { DeviceCiphertext } from "@murmuration/pairwise";
import { type Content, encodeContent } from "../core/content.ts";
import { isTemporary } from "../core/refusal.ts";
import type { ConversationRow } from "../store/conversations.ts";
import type { Connection } from "./connection.ts";
import type { Context } from "./context.ts";

export class Passing {
  private readonly context: Context;
  private readonly connection: Connection;

  constructor(context: Context, connection: Connection) {
    this.context = context;
    this.connection = connection;
  }

  /** Best effort: whoever cannot be reached at once is left out. */
  async typing(conversation: ConversationRow, started: boolean): Promise<void> {
    const { context } = this;
    if (this.connection.state !== "connected") return;
    const messageId = context.newMessageId();
    const group = conversation.kind === "group" ? context.conversations.group(conversation.id) : undefined;
    const where: Partial<Content> =
      group === undefined ? {} : { group: { groupId: groupId(conversation.id), revision: group.revision } };
    const accounts = this.reachable(conversation);
    const devices = accounts.flatMap((account) => context.engine.devicesOf(account)) as DeviceAddress[];
    if (devices.length === 0) return;
    let ciphertexts: readonly DeviceCiphertext[] = [];
    const outcome = await context.engine.encrypt(
      {
        recipients: devices,
        body: encodeContent({ messageId, ...where, typing: { started } }),
        mode: "sealed",
      },
      ({ writeSet, output }) =>
        context.transaction(() => {
          context.pairwiseRows.applyWriteSet(writeSet);
          ciphertexts = output.ciphertexts;
        }),
    );
    if (outcome.kind === "not-ready") return;
    const recipients = accounts.flatMap((account) => {
      const accessKey = context.contacts.accessKey(account);
      const own = ciphertexts.filter((c) => Buffer.compare(c.address.accountId, account) === 0);
      if (accessKey === undefined || own.length === 0) return [];
      const devicesOf = own.map((c) => ({
        deviceId: (c.address as DeviceAddress).deviceId,
        registrationId: c.registrationId,
        ciphertext: c.ciphertext,
      }));
      return [{ accountId: account, accessKey, devices: devicesOf }];
    });
    const fence =
      group === undefined ? {} : { fence: { groupId: groupId(conversation.id), fence: group.fence } };
    const id = submitId(context.environment.random(16));
    try {
      await this.connection.submit({
        kind: "submitSealed",
        submitId: id,
        recipients,
        ephemeral: true,
        ...fence,
      });
    } catch (error) {
      // Nobody waits for a typing notice.
      if (!isTemporary(error)) return;
    }
  }

  private reachable(conversation: ConversationRow): readonly AccountId[] {
    const { context } = this;
    const accounts =
      conversation.kind === "group"
        ? context.conversations
            .members(conversation.id)
            .filter((member) => !member.invited && !context.isOwn(member.account))
            .map((member) => member.account)
        : [conversation.id as AccountId];
    return accounts.filter((account) => context.contacts.get(account)?.profileKey !== undefined);
  }
}

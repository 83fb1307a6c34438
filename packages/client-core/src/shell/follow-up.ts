/** What a received batch sets off, after it was persisted: invites to take up, group records to read. */
import { type Bytes, groupId, RejectionError, toBase64Url } from "@murmuration/base";
import { decodeContent } from "../core/content.ts";
import { isTemporary } from "../core/refusal.ts";
import type { HeldRow } from "../store/held.ts";
import type { Context } from "./context.ts";
import type { Groups } from "./groups.ts";
import type { Receiver } from "./receiver.ts";

/** The record has another key by now, or the service was set back behind the invite. */
const COMES_LATER: ReadonlySet<string> = new Set([
  "group/access-denied",
  "group/rolled-back",
  "group/unknown",
]);

export class FollowUp {
  private readonly context: Context;
  private readonly groups: Groups;
  private readonly receiver: Receiver;
  /** Invites whose record could not be read, with how much of their group was held when that was tried. */
  private readonly waitsForKey = new Map<number, number>();
  /** At which revision groups were whose record could not be read. */
  private readonly revisions = new Map<string, number>();

  constructor(context: Context, groups: Groups, receiver: Receiver) {
    this.context = context;
    this.groups = groups;
    this.receiver = receiver;
  }

  /** A new connection: what could not be taken up on the one before is tried again. */
  connected(): void {
    this.waitsForKey.clear();
  }

  /** Does what can be done now; what needs a service that does not answer stays held. */
  async run(): Promise<void> {
    try {
      for (const row of this.context.held.of("invite")) await this.takeUp(row);
      await this.readGroups();
    } catch (error) {
      if (!isTemporary(error)) throw error;
    }
  }

  private async takeUp(row: HeldRow): Promise<void> {
    const { context } = this;
    const { group, groupInvite } = decodeContent(row.bytes);
    if (group !== undefined && groupInvite !== undefined && row.sender !== undefined) {
      const waiting = context.held.of("group", group.groupId).length;
      if (this.waitsForKey.get(row.id) === waiting) return;
      try {
        await this.groups.acceptInvite(group.groupId, row.sender.accountId, groupInvite);
      } catch (error) {
        if (error instanceof RejectionError && COMES_LATER.has(error.code)) {
          this.waitsForKey.set(row.id, waiting);
          return;
        }
        // An invite that does not fit its record is worth nothing.
        if (isTemporary(error) || !(error instanceof RejectionError)) throw error;
      }
    }
    context.transaction(() => context.held.remove(row.id));
    if (group !== undefined) this.retry(group.groupId);
  }

  /** Contents that wait for a group's record. */
  private async readGroups(): Promise<void> {
    const { conversations, held } = this.context;
    const groups = new Map(held.of("group").map((row) => [toBase64Url(row.subject!), row.subject!]));
    for (const group of groups.values()) {
      if (conversations.group(group) === undefined) continue;
      // Also where the record cannot be read any more: a change that came late may be the one before what is held.
      if ((await this.groups.refresh(group)) || this.hasGoneOn(group)) this.retry(group);
    }
  }

  /** Whether the group is at another revision than when this was asked last. */
  private hasGoneOn(group: Bytes): boolean {
    const key = toBase64Url(group);
    const { revision = 0 } = this.context.conversations.group(group) ?? {};
    const before = this.revisions.get(key) ?? revision;
    this.revisions.set(key, revision);
    return revision !== before;
  }

  private retry(group: Bytes): void {
    this.receiver.retryHeld(group);
    this.context.notifier.flush();
  }

  /** Groups whose key has to be replaced because somebody left. */
  async rotate(): Promise<void> {
    for (const id of this.context.conversations.groupsToRotate()) await this.groups.rotateIfDue(groupId(id));
  }
}

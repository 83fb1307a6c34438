/**
 * Old copies, on either side. A device that was restored from one would use message keys a second time; a service
 * that was restored, or lost its mailboxes, has lost messages that their senders saw accepted.
 */
import { type AccountId, equalBytes, formatId, toBase64Url } from "@murmuration/base";
import type { HelloReply } from "@murmuration/wire";
import { content } from "../core/content.ts";
import { decideAtHello, deviceWasRestored } from "../core/recovery-decision.ts";
import type { OutboxRow } from "../store/outbox.ts";
import type { Context } from "./context.ts";
import type { Directory } from "./directory.ts";
import type { Inbox } from "./inbox.ts";
import type { KeptMark } from "./kept-mark.ts";
import { lanes } from "./lanes.ts";

/** Why fresh keys are needed; remembered until it is done. */
const RESTORED = 1;
const SERVICE_LOST = 2;

export class Recovery {
  private readonly context: Context;
  private readonly mark: KeptMark;
  private readonly directory: Directory;
  private readonly wake: (lane: string) => void;
  private readonly communities: { noteRestored(): void; noteServiceLost(): void };
  private readonly groups: { noteServiceLost(): void };

  constructor(
    context: Context,
    mark: KeptMark,
    directory: Directory,
    communities: { noteRestored(): void; noteServiceLost(): void },
    groups: { noteServiceLost(): void },
    wake: (lane: string) => void,
  ) {
    this.communities = communities;
    this.groups = groups;
    this.context = context;
    this.mark = mark;
    this.directory = directory;
    this.wake = wake;
  }

  /** Runs before anything is sent on a new connection. */
  async atHello(reply: HelloReply, inbox: Inbox): Promise<void> {
    const { meta } = this.context;
    // A batch of the connection before would move the cursor after it was compared, or set back.
    await inbox.idle();
    const known = meta.bytes("store-id");
    const cursor = meta.number("cursor");
    const isUnknown = cursor === 0 && meta.number("store-replaced") === 1;
    const decision = decideAtHello({
      knownStore: known && toBase64Url(known),
      store: toBase64Url(reply.storeId),
      cursor: isUnknown ? undefined : cursor,
      lastEnvelopeId: reply.lastEnvelopeId,
    });
    if (decision.kind === "service-lost") this.noteServiceLost(reply, decision.cursor);
    else if (known === undefined) this.context.transaction(() => meta.setBytes("store-id", reply.storeId));
    // After what a new store id asks for was written down: the mark is of that store.
    this.mark.hear(reply.storeMark);
    this.mark.keep();
    if (decision.kind === "look-first") {
      const first = await inbox.firstDelivered();
      if (deviceWasRestored(cursor, first)) this.noteRestored();
    }
    await this.repair();
    inbox.release();
  }

  /**
   * The mailbox or the log of a community shows that this database is an old copy. What has to be done anew is written
   * down, and done before anything is sent on the next connection.
   */
  noteRestored(): void {
    const { meta } = this.context;
    this.context.transaction(() => {
      meta.setNumber("repair-needed", meta.number("repair-needed") | RESTORED);
      this.communities.noteRestored();
    });
  }

  /** The resends are queued in the same transaction that forgets the old store: they cannot be left out. */
  private noteServiceLost(reply: HelloReply, cursor: number): void {
    const { context } = this;
    const { meta } = context;
    context.transaction(() => {
      const known = meta.bytes("store-id");
      if (known !== undefined && !equalBytes(known, reply.storeId)) meta.setNumber("store-replaced", 1);
      meta.setBytes("store-id", reply.storeId);
      meta.setNumber("cursor", cursor);
      meta.setNumber("repair-needed", meta.number("repair-needed") | SERVICE_LOST);
      this.communities.noteServiceLost();
      this.groups.noteServiceLost();
      context.push.doubtHandles();
      const since = context.now() - context.settings.resendMemoryMs;
      for (const row of context.outbox.unconfirmed(since)) this.resend(row);
    });
  }

  /** Inside a transaction: a message again, under its id, to each account of which no receipt came. */
  private resend(row: OutboxRow): void {
    const { context } = this;
    const delivered = new Set(context.history.confirmedBy(row.messageId).map(formatId));
    for (const account of row.accounts ?? []) {
      if (delivered.has(formatId(account)) || !this.stillMeant(row, account)) continue;
      const lane = lanes.account(account);
      context.outbox.append({
        lane,
        target: { kind: "account", account },
        messageId: row.messageId,
        content: row.content,
        confirm: false,
        createdAtMs: context.now(),
      });
      this.wake(lane);
    }
  }

  /** Whoever has left a group since gets nothing more of it. */
  private stillMeant(row: OutboxRow, account: AccountId): boolean {
    const group = content.decode(row.content).group?.groupId;
    return group === undefined || this.context.conversations.member(group, account) !== undefined;
  }

  /** Sessions and prekeys anew, as far as that is still to be done. */
  private async repair(): Promise<void> {
    const { meta } = this.context;
    const needed = meta.number("repair-needed");
    if (needed === 0) return;
    if ((needed & RESTORED) !== 0) await this.directory.forgetSessions(undefined);
    await this.directory.renew();
    this.context.transaction(() => meta.setNumber("repair-needed", 0));
  }
}

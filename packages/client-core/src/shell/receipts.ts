/**
 * Receipts. Ours are written down with the message they confirm, gathered for a moment, and sent to the devices of
 * the message's author and nobody else; those of others are noted at our own messages.
 */
import {
  type AccountId,
  accountId,
  type Bytes,
  type DeviceAddress,
  type MessageId,
  messageId,
} from "@murmuration/base";
import { type Content, encodeContent, MAX_RECEIPT_IDS } from "../core/content.ts";
import { receiptDelayOf } from "../core/receipt-delay.ts";
import type { Context } from "./context.ts";
import { lanes } from "./lanes.ts";

export class Receipts {
  private readonly context: Context;
  private readonly wake: (lane: string) => void;
  private gathering: { readonly untilMs: number; readonly over: AbortController } | undefined;
  /** When the first of those that are due has to go. */
  private dueAtMs = Number.POSITIVE_INFINITY;
  /** What those wait for others that have to go first. */
  private delayMs = Number.POSITIVE_INFINITY;
  /** They wait for quiet once: somebody may be at something again and again. */
  private haveWaited = false;
  /** Drawn anew for each gathering. */
  private luck = 0;

  constructor(context: Context, wake: (lane: string) => void) {
    this.context = context;
    this.wake = wake;
  }

  /**
   * Inside a transaction: this message of this author is to be confirmed, in a conversation of so many members
   * ({@link receiptDelayOf}).
   */
  due(author: AccountId, message: MessageId, read: boolean, members: number): void {
    if (this.dueAtMs === Number.POSITIVE_INFINITY) this.luck = this.context.environment.random(1)[0]! / 255;
    const delayMs = receiptDelayOf(members, this.context.settings.receiptDelayMs, this.luck);
    this.delayMs = Math.min(this.delayMs, delayMs);
    this.dueAtMs = Math.min(this.dueAtMs, this.context.now() + this.context.quietMs + delayMs);
    this.context.storage.run(
      "INSERT INTO receipt_due (author, message_id, read) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
      [author, message, read ? 1 : 0],
    );
  }

  /** Inside a transaction: somebody confirms messages of ours. */
  receive(sender: DeviceAddress, receipt: NonNullable<Content["receipt"]>, atMs: number): void {
    const { context } = this;
    if (receipt.read && !context.settings.readReceipts) return;
    for (const id of receipt.messageIds) {
      const [line] = context.history.linesOf(context.own.accountId, id);
      const news = context.history.confirm(id, sender.accountId, sender.deviceId, receipt.read, atMs);
      if (line === undefined || !news) continue;
      context.events.append({
        kind: "line-changed",
        conversation: line.conversation,
        historyId: line.id,
        detail: receipt.read ? "read" : "delivered",
        atMs,
      });
    }
  }

  /** Sends what is due after a short while, in which more may come. */
  gather(): void {
    if (!this.anyDue()) return;
    const { closing, environment, settings } = this.context;
    // What a crash has left waits no longer than what is due now.
    if (this.dueAtMs === Number.POSITIVE_INFINITY) {
      this.delayMs = settings.receiptDelayMs;
      this.dueAtMs = this.context.now() + this.delayMs;
    }
    if (this.gathering !== undefined && this.gathering.untilMs <= this.dueAtMs) return;
    this.gathering?.over.abort();
    const gathering = { untilMs: this.dueAtMs, over: new AbortController() };
    this.gathering = gathering;
    const abort = AbortSignal.any([gathering.over.signal, closing.signal]);
    environment
      .sleep(Math.max(0, this.dueAtMs - this.context.now()), abort)
      .then(() => {
        if (abort.aborted || this.gathering !== gathering) return;
        this.gathering = undefined;
        const { quietMs } = this.context;
        if (quietMs === 0 || this.haveWaited) return this.sendDue();
        this.haveWaited = true;
        this.dueAtMs = this.context.now() + quietMs + this.delayMs;
        this.gather();
      })
      .catch(this.context.failed);
  }

  private anyDue(): boolean {
    return this.context.storage.get("SELECT 1 AS due FROM receipt_due LIMIT 1") !== undefined;
  }

  /** Turns everything that is due into messages, one for each author and kind. */
  sendDue(): void {
    const { context } = this;
    const woken: string[] = [];
    this.dueAtMs = Number.POSITIVE_INFINITY;
    this.delayMs = Number.POSITIVE_INFINITY;
    this.haveWaited = false;
    context.transaction(() => {
      const groups = context.storage.all("SELECT DISTINCT author, read FROM receipt_due");
      for (const row of groups) {
        const author = accountId(row["author"] as Bytes);
        const read = row["read"] === 1;
        const ids = context.storage
          .all("SELECT message_id FROM receipt_due WHERE author = ? AND read = ?", [author, row["read"]!])
          .map((due) => messageId(due["message_id"] as Bytes));
        for (let at = 0; at < ids.length; at += MAX_RECEIPT_IDS) {
          this.append(author, read, ids.slice(at, at + MAX_RECEIPT_IDS));
        }
        woken.push(lanes.receipts(author));
      }
      context.storage.run("DELETE FROM receipt_due");
      // They are due again where this is forgotten; what makes ciphertexts of them waits for the disk.
    }, "with-the-next");
    for (const lane of woken) this.wake(lane);
  }

  private append(author: AccountId, read: boolean, messageIds: readonly MessageId[]): void {
    const { context } = this;
    const id = context.newMessageId();
    context.outbox.append({
      lane: lanes.receipts(author),
      target: { kind: "account", account: author },
      messageId: id,
      content: encodeContent({ messageId: id, receipt: { read, messageIds } }),
      confirm: false,
      createdAtMs: context.now(),
    });
  }
}

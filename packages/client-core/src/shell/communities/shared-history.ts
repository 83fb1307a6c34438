/**
 * The past for newcomers. MLS keeps from them what was said before they came; an owner or admin may tell it again. What
 * is told so is that account's word and marked with its name: nobody else has signed who said what and when.
 */
import { type AccountId, deviceId, type GroupId, RejectionError, UsageError } from "@murmuration/base";
import { roleOf } from "@murmuration/mls-groups";
import {
  type Content,
  encodeContent,
  MAX_SHARED_BYTES,
  MAX_SHARED_ITEMS,
  type SharedMessage,
  sharedMessage,
  textBody,
} from "../../core/content.ts";
import type { HistoryRow } from "../../store/history.ts";
import type { Context } from "../context.ts";
import { lanes } from "../lanes.ts";
import type { Lines } from "../lines.ts";
import type { Registry } from "./registry.ts";

/** Lines of one conversation that stand on somebody's word, at most: admins must not fill the disks of newcomers. */
const MAX_SHARED_LINES = 1_000;
/** How far a message's time may lie behind our coming: clocks differ. */
const CLOCK_TOLERANCE_MS = 300_000;
/** Tag and length before an item, bytes. */
const ITEM_OVERHEAD = 4;

export class SharedHistory {
  private readonly context: Context;
  private readonly registry: Registry;
  private readonly lines: Lines;
  private readonly wake: (lane: string) => void;

  constructor(context: Context, registry: Registry, lines: Lines, wake: (lane: string) => void) {
    this.context = context;
    this.registry = registry;
    this.lines = lines;
    this.wake = wake;
  }

  // -------------------------------------------------------------------------------------------- sharing

  /** Puts the last messages into the outbox. Returns how many they are. */
  share(id: GroupId, count: number = MAX_SHARED_ITEMS): number {
    const { context } = this;
    if (!Number.isInteger(count) || count < 1 || count > MAX_SHARED_ITEMS)
      throw new UsageError("group/bad-count");
    if (roleOf(this.registry.communityOf(id), context.own.accountId) === "member")
      throw new UsageError("group/not-an-admin");
    const items = context.history.lasting(id, count).map(itemOf);
    const pages = paged(items);
    context.transaction(() => {
      for (const page of pages) this.append(id, { items: page });
    });
    this.wake(lanes.group(id));
    return pages.flat().length;
  }

  private append(id: GroupId, sharedHistory: NonNullable<Content["sharedHistory"]>): void {
    const { context } = this;
    const messageId = context.newMessageId();
    const { accountId: author, deviceId: device } = context.own;
    context.history.noteSeen({ conversation: id, author, device, message: messageId }, context.now());
    context.outbox.append({
      lane: lanes.group(id),
      target: { kind: "group", group: id },
      messageId,
      content: encodeContent({ messageId, group: { groupId: id, revision: 0 }, sharedHistory }),
      confirm: false,
      createdAtMs: context.now(),
    });
  }

  // ------------------------------------------------------------------------------------------ receiving

  /**
   * Inside a transaction: lines for what was said before we came and is not here. What we have, or have had and deleted,
   * stays as it is.
   */
  receive(id: GroupId, sharedBy: AccountId, items: readonly SharedMessage[]): void {
    const { history, mls } = this.context;
    if (roleOf(this.registry.communityOf(id), sharedBy) === "member")
      throw new RejectionError("content/not-an-admin");
    const enteredAtMs = mls.group(id)?.enteredAtMs ?? 0;
    // Whoever made the group has nothing to be told.
    if (enteredAtMs === 0) return;
    const untilMs = enteredAtMs + CLOCK_TOLERANCE_MS;
    let room = MAX_SHARED_LINES - history.countShared(id);
    for (const item of items) {
      if (room <= 0) return;
      if (item.sentAtMs > untilMs || (item.body?.expireAfterSeconds ?? 0) > 0) continue;
      if (history.wasSeen(item.accountId, item.deviceId, item.messageId)) continue;
      // Known from its author, or told before, in whatever conversation and under whatever device.
      if (history.linesOf(item.accountId, item.messageId).length > 0) continue;
      if (this.insert(id, sharedBy, item)) room--;
    }
  }

  private insert(id: GroupId, sharedBy: AccountId, item: SharedMessage): boolean {
    const { context } = this;
    const { accountId: author, body, edited, messageId, sentAtMs } = item;
    const outgoing = context.isOwn(author);
    const line = context.history.appendShared({
      conversation: id,
      messageId,
      author,
      authorDevice: deviceId(item.deviceId),
      outgoing,
      body: body && textBody.encode(body),
      edited: edited && body !== undefined,
      sentAtMs,
      storedAtMs: context.now(),
      sendState: outgoing ? "accepted" : undefined,
      sharedBy,
    });
    if (line === undefined) return false;
    this.lines.lineAdded(id, line);
    this.lines.applyWaiting(line, { conversation: id, author }, messageId);
    return true;
  }
}

function itemOf(row: HistoryRow): SharedMessage {
  const { author, authorDevice, body, edited, messageId, sentAtMs } = row;
  const item = { accountId: author, deviceId: authorDevice, messageId, sentAtMs, edited };
  return body === undefined ? item : { ...item, body: textBody.decode(body) };
}

/** In messages that a group takes; an item that alone is too large is left out. */
function paged(items: readonly SharedMessage[]): SharedMessage[][] {
  const pages: SharedMessage[][] = [];
  let room = 0;
  for (const item of items) {
    const size = sharedMessage.encode(item).length + ITEM_OVERHEAD;
    if (size > MAX_SHARED_BYTES) continue;
    if (size > room) {
      pages.push([]);
      room = MAX_SHARED_BYTES;
    }
    pages.at(-1)!.push(item);
    room -= size;
  }
  return pages;
}

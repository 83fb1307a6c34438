/** Puts own messages into history and outbox, in one transaction with what they change here. */
import type { AccountId, Bytes, MessageId } from "@murmuration/base";
import { UsageError } from "@murmuration/base";
import type { SentMessage } from "../api.ts";
import { bodyKind, type Content, encodeContent, type Sync, textBody } from "../core/content.ts";
import { isConfirmed } from "../core/delivery.ts";
import type { ConversationRow } from "../store/conversations.ts";
import type { OutboxTarget } from "../store/outbox.ts";
import type { Outgoing } from "./communities/outgoing.ts";
import type { Loaded } from "./communities/registry.ts";
import type { Context } from "./context.ts";
import { lanes } from "./lanes.ts";
import type { Lines } from "./lines.ts";

/** What a message to a community needs to be encrypted where it is written down. */
export type DirectSpeech = Pick<Outgoing, "canSayNow" | "say" | "update">;

export class Sender {
  private readonly context: Context;
  private readonly lines: Lines;
  private readonly wake: (lane: string) => void;
  private readonly communities: DirectSpeech;

  constructor(context: Context, lines: Lines, wake: (lane: string) => void, communities: DirectSpeech) {
    this.communities = communities;
    this.context = context;
    this.lines = lines;
    this.wake = wake;
  }

  /**
   * Persists a message of this device to a conversation and sets it on its way. UsageError
   * `conversation/not-active`, `conversation/outbox-full`.
   */
  send(conversation: ConversationRow, body: Partial<Content>): { id: MessageId; sent: SentMessage } {
    const { context } = this;
    const lane = laneOf(conversation);
    const id = context.newMessageId();
    const content = { messageId: id, ...body };
    const put = (loaded?: Loaded) => this.put(conversation, content, lane, loaded);
    const result = this.canSayNow(conversation)
      ? this.communities.update(conversation.id, put)
      : context.transaction(() => put());
    if (result === "full") throw new UsageError("conversation/outbox-full");
    context.notifier.flush();
    this.wake(lane);
    if (conversation.protocol === "pairwise") this.wake(lanes.own);
    return { id, sent: { messageId: Buffer.from(id).toString("base64url"), historyId: result } };
  }

  private canSayNow({ id, protocol }: ConversationRow): boolean {
    return protocol === "mls" && this.communities.canSayNow(id);
  }

  /**
   * Inside the transaction: into history and outbox, and where nothing of this conversation waits before it and its group
   * is at hand, encrypted as well. Returns its line. Writes nothing when the outbox is full.
   */
  private put(
    conversation: ConversationRow,
    content: Content,
    lane: string,
    loaded: Loaded | undefined,
  ): number | "full" | undefined {
    const { outbox, settings } = this.context;
    const waiting = outbox.waiting(lane);
    if (waiting >= settings.outboxLimit) return "full";
    const historyId = this.apply(conversation, content);
    const now = waiting === 0 ? loaded : undefined;
    const { row, bytes } = this.enqueue(
      conversation,
      content,
      historyId,
      now === undefined ? "new" : "ready",
    );
    if (now !== undefined) this.communities.say(now, row, bytes);
    return historyId;
  }

  /** Inside the transaction: what the message does here. Returns its line. */
  private apply(conversation: ConversationRow, content: Content): number | undefined {
    const { context } = this;
    const own = context.own;
    const place = {
      conversation: conversation.id,
      author: own.accountId,
      authorDevice: own.deviceId,
      outgoing: true,
      sentAtMs: context.now(),
    };
    const seen = { conversation: conversation.id, author: own.accountId, device: own.deviceId };
    context.history.noteSeen({ ...seen, message: content.messageId }, context.now());
    if (content.text === undefined) return this.lines.apply(content, place);
    const line = context.history.append({
      conversation: conversation.id,
      messageId: content.messageId,
      author: own.accountId,
      authorDevice: own.deviceId,
      outgoing: true,
      kind: "message",
      body: textBody.encode(content.text),
      sentAtMs: place.sentAtMs,
      storedAtMs: place.sentAtMs,
      expireAfterSeconds: content.text.expireAfterSeconds ?? 0,
      sendState: "waiting",
    });
    if (line !== undefined) this.lines.lineAdded(conversation.id, line);
    return line;
  }

  /** Inside the transaction: rows for the others and for the own other devices. */
  private enqueue(
    conversation: ConversationRow,
    content: Content,
    historyId: number | undefined,
    state: "new" | "ready",
  ): { readonly row: number; readonly bytes: Bytes } {
    const { context } = this;
    const addressed: Content =
      conversation.kind === "group" ? { ...content, group: this.groupContext(conversation) } : content;
    const withProfile =
      conversation.kind === "direct" ? this.introduce(conversation.id, addressed) : addressed;
    const community = conversation.protocol === "mls";
    const bytes = encodeContent(withProfile);
    const target: OutboxTarget =
      conversation.kind === "group"
        ? { kind: "group", group: conversation.id }
        : { kind: "account", account: conversation.id as AccountId };
    const row = context.outbox.append({
      lane: laneOf(conversation),
      target,
      messageId: content.messageId,
      content: bytes,
      // In a community the log itself shows that a message is there: nobody confirms it.
      confirm: !community && isConfirmed(bodyKind(content)),
      createdAtMs: context.now(),
      state,
      ...(historyId === undefined ? {} : { historyId }),
    });
    // The own other devices are members of it themselves.
    if (community) return { row, bytes };
    const sent = {
      conversationId: conversation.id,
      content: encodeContent(addressed),
      sentAtMs: context.now(),
    };
    this.sync({ sent }, content.messageId);
    return { row, bytes };
  }

  private groupContext({ id, protocol }: ConversationRow): NonNullable<Content["group"]> {
    const { conversations, meta, migration } = this.context;
    const group = id as NonNullable<Content["group"]>["groupId"];
    if (protocol === "mls") return { groupId: group, revision: 0, name: meta.text("name") };
    return {
      groupId: group,
      revision: conversations.group(id)?.revision ?? 0,
      // Numbered, so that everybody knows what is still to come when the group moves to MLS.
      counter: migration.countSent(id),
    };
  }

  /** Adds the own profile where the other side has not got the present one. */
  private introduce(id: Bytes, content: Content): Content {
    const { contacts, meta } = this.context;
    const account = id as AccountId;
    if (contacts.get(account)?.shared === true) return content;
    contacts.setFlags(account, { shared: true });
    return { ...content, profile: { profileKey: meta.require("profile-key"), name: meta.text("name") } };
  }

  /** Inside a transaction: tells the own other devices, if there are any. The row goes with the message it copies. */
  sync(sync: Sync, of?: MessageId): void {
    const { context } = this;
    if (context.engine.devicesOf(context.own.accountId).length === 0) return;
    const id = context.newMessageId();
    context.outbox.append({
      lane: lanes.own,
      target: { kind: "own", account: context.own.accountId },
      messageId: of ?? id,
      content: encodeContent({ messageId: id, sync }),
      confirm: false,
      createdAtMs: context.now(),
    });
  }

  /** Inside a transaction: sends the own profile to an account. Returns the lane to wake. */
  shareProfile(account: AccountId): string {
    const { context } = this;
    const id = context.newMessageId();
    context.contacts.setFlags(account, { shared: true });
    const profile = { profileKey: context.meta.require("profile-key"), name: context.meta.text("name") };
    context.outbox.append({
      lane: lanes.account(account),
      target: { kind: "account", account },
      messageId: id,
      content: encodeContent({ messageId: id, profile }),
      confirm: false,
      createdAtMs: context.now(),
    });
    return lanes.account(account);
  }
}

function laneOf(conversation: ConversationRow): string {
  return conversation.kind === "group"
    ? lanes.group(conversation.id)
    : lanes.account(conversation.id as AccountId);
}

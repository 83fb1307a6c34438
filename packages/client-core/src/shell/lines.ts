/** Lines of the history: made and changed by content, whoever wrote it. Runs inside transactions. */
import {
  type AccountId,
  type Bytes,
  equalBytes,
  formatId,
  type MessageId,
  RejectionError,
  utf8,
} from "@murmuration/base";
import type { Notice } from "../api.ts";
import { type Content, content as contentType, MAX_PINS, textBody } from "../core/content.ts";
import type { HistoryRow } from "../store/history.ts";
import type { Context } from "./context.ts";
import { forgetTold } from "./forget-told.ts";

/** Where a content belongs, once that is settled. */
export interface Place {
  readonly conversation: Bytes;
  readonly author: AccountId;
  readonly authorDevice: number;
  readonly outgoing: boolean;
  readonly sentAtMs: number;
}

/**
 * Under which device the lines of commits and of a record's changes stand. Devices are 1 to 127, so no content takes their
 * place: whoever makes a change knows the ids of its lines before anybody else does.
 */
export const NO_DEVICE = 0;

export class Lines {
  private readonly context: Context;

  constructor(context: Context) {
    this.context = context;
  }

  /** What all conversations have in common, whoever wrote it. Also used for own messages. */
  apply(content: Content, place: Place): number | undefined {
    if (content.text !== undefined) return this.applyText(content.messageId, content.text, place);
    if (content.edit !== undefined) {
      this.change(content, place, place.author, content.edit.messageId);
    } else if (content.reaction !== undefined) {
      this.change(content, place, content.reaction.target.accountId, content.reaction.target.messageId);
    } else if (content.delete !== undefined) {
      this.change(content, place, content.delete.target.accountId, content.delete.target.messageId);
    } else if (content.pin !== undefined) {
      return this.applyPin(content, content.pin, place);
    } else if (content.expiry !== undefined) {
      return this.applyExpiry(content.messageId, content.expiry.seconds, place);
    }
    return undefined;
  }

  private applyText(id: MessageId, body: NonNullable<Content["text"]>, place: Place): number | undefined {
    const { context } = this;
    this.makeRoom(place.author, id);
    const line = context.history.append({
      conversation: place.conversation,
      messageId: id,
      author: place.author,
      authorDevice: place.authorDevice,
      outgoing: place.outgoing,
      kind: "message",
      body: textBody.encode(body),
      sentAtMs: place.sentAtMs,
      storedAtMs: context.now(),
      expireAfterSeconds: body.expireAfterSeconds ?? 0,
      sendState: place.outgoing ? "accepted" : undefined,
    });
    if (line === undefined) return undefined;
    this.lineAdded(place.conversation, line);
    if (place.outgoing) context.history.startExpiry(line, context.now());
    this.applyWaiting(line, place, id);
    return line;
  }

  /**
   * What an author says itself takes the place of what others told of it, in whatever conversation and under whatever
   * device they did: others know its id from there.
   */
  private makeRoom(author: AccountId, id: MessageId): void {
    const { context } = this;
    for (const line of context.history.sharedOf(author, id)) {
      context.history.remove(line.id);
      const { conversation, id: historyId } = line;
      context.events.append({ kind: "line-removed", conversation, historyId, atMs: context.now() });
    }
  }

  /** Changes that came before their message. One that is not allowed must not take the message with it. */
  applyWaiting(line: number, place: Pick<Place, "author" | "conversation">, id: MessageId): void {
    const { history } = this.context;
    for (const { author, content } of history.takeChanges(place.conversation, place.author, id)) {
      const row = history.get(line);
      if (row === undefined) continue;
      try {
        const change = contentType.decode(content);
        const read = this.context.isOwn(author) ? change.sync?.read : undefined;
        if (read === undefined) this.applyChangeTo(row, change, author);
        else history.wasRead(line, read.readAtMs);
      } catch (error) {
        if (!(error instanceof RejectionError)) throw error;
      }
    }
  }

  lineAdded(conversation: Bytes, historyId: number): void {
    const atMs = this.context.now();
    this.context.conversations.touch(conversation, atMs);
    this.context.events.append({ kind: "line-added", conversation, historyId, atMs });
  }

  private applyExpiry(id: MessageId, seconds: number, place: Place): number | undefined {
    const { context } = this;
    const conversation = context.conversations.get(place.conversation);
    // In a group the timer is part of the record.
    if (conversation?.kind !== "direct") throw new RejectionError("content/expiry-in-group");
    // Each own device says so to one that was linked, and all others hear it.
    if (place.outgoing && conversation.expireAfterSeconds === seconds) return undefined;
    context.conversations.setExpiry(place.conversation, seconds);
    const line = this.appendNotice(id, place, { code: "conversation/expiry-changed", seconds });
    context.events.append({
      kind: "conversation-changed",
      conversation: place.conversation,
      atMs: context.now(),
    });
    return line;
  }

  /** What moderators of a community pin. Where the message is not here yet, the pin waits for it, and is no news then. */
  private applyPin(
    content: Content,
    { target, pinned }: NonNullable<Content["pin"]>,
    place: Place,
  ): number | undefined {
    const { context } = this;
    if (context.conversations.get(place.conversation)?.protocol !== "mls")
      throw new RejectionError("content/not-a-community");
    if (!this.isModerator(place.conversation, place.author)) throw new RejectionError("content/not-an-admin");
    const news = this.change(content, place, target.accountId, target.messageId);
    if (!news || !pinned) return undefined;
    const message = { author: formatId(target.accountId), messageId: formatId(target.messageId) };
    return this.appendNotice(content.messageId, place, { code: "group/message-pinned", message });
  }

  /** Appends a line in which the conversation speaks. */
  appendNotice(id: MessageId, place: Place, notice: Notice): number | undefined {
    const line = this.context.history.append({
      conversation: place.conversation,
      messageId: id,
      author: place.author,
      authorDevice: place.authorDevice,
      outgoing: place.outgoing,
      kind: "notice",
      body: utf8(JSON.stringify(notice)),
      sentAtMs: place.sentAtMs,
      storedAtMs: this.context.now(),
      expireAfterSeconds: 0,
      sendState: place.outgoing ? "accepted" : undefined,
    });
    if (line !== undefined) this.lineAdded(place.conversation, line);
    return line;
  }

  /** An edit, reaction, delete or pin: applied to its message, or kept until the message comes. True if it changed anything. */
  private change(content: Content, place: Place, targetAuthor: AccountId, target: MessageId): boolean {
    const { context } = this;
    const rows = context.history.linesOf(targetAuthor, target, place.conversation);
    if (rows.length === 0) {
      context.history.keepChange({
        conversation: place.conversation,
        targetAuthor,
        targetMessage: target,
        author: place.author,
        authorDevice: place.authorDevice,
        content: contentType.encode(content),
        atMs: context.now(),
      });
      return false;
    }
    // All that it may mean: whoever says one id twice must not have one of them stay.
    return rows.map((row) => this.applyChangeTo(row, content, place.author)).includes(true);
  }

  private applyChangeTo(row: HistoryRow, content: Content, by: AccountId): boolean {
    const { context } = this;
    if (row.deleted || row.kind !== "message" || row.body === undefined) return false;
    let change: string;
    if (content.edit !== undefined) {
      if (!equalBytes(row.author, by)) throw new RejectionError("content/not-the-author");
      context.history.setBody(
        row.id,
        textBody.encode({ ...textBody.decode(row.body), text: content.edit.text }),
      );
      change = "edited";
    } else if (content.reaction !== undefined) {
      context.history.react(row.id, by, content.reaction.emoji);
      change = "reaction";
    } else if (content.pin !== undefined) {
      if (!this.isModerator(row.conversation, by)) throw new RejectionError("content/not-an-admin");
      const { pinned } = content.pin;
      const news = pinned
        ? context.history.pin(row.conversation, row.id, MAX_PINS)
        : context.history.unpin(row.conversation, row.id);
      if (!news) return false;
      change = pinned ? "pinned" : "unpinned";
    } else {
      if (!this.mayDelete(row, by)) throw new RejectionError("content/not-the-author");
      context.history.markDeleted(row.id);
      context.eraseAfterwards();
      forgetTold(context, row);
      change = "deleted";
    }
    context.events.append({
      kind: "line-changed",
      conversation: row.conversation,
      historyId: row.id,
      detail: change,
      atMs: context.now(),
    });
    return true;
  }

  private mayDelete(row: HistoryRow, by: AccountId): boolean {
    return equalBytes(row.author, by) || this.isModerator(row.conversation, by);
  }

  private isModerator(conversation: Bytes, account: AccountId): boolean {
    const member = this.context.conversations.member(conversation, account);
    return member !== undefined && member.role !== "member";
  }
}

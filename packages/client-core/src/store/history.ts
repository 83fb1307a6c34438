import {
  type AccountId,
  accountId,
  type Bytes,
  compareBytes,
  equalBytes,
  type MessageId,
  messageId,
} from "@murmuration/base";
import type { SendState } from "../api.ts";
import type { Row, Storage } from "../ports/storage.ts";
import { KeptRows, type KeptStorage } from "./kept-storage.ts";

export interface HistoryRow {
  readonly id: number;
  readonly conversation: Bytes;
  readonly messageId: MessageId;
  readonly author: AccountId;
  readonly authorDevice: number;
  readonly outgoing: boolean;
  readonly kind: "message" | "notice";
  /** An encoded Text or notice; undefined once deleted. */
  readonly body: Bytes | undefined;
  readonly sentAtMs: number;
  readonly storedAtMs: number;
  readonly edited: boolean;
  readonly deleted: boolean;
  readonly expireAfterSeconds: number;
  readonly expiresAtMs: number | undefined;
  readonly sendState: SendState | undefined;
  readonly failure: string | undefined;
  readonly readAtMs: number | undefined;
  /** Who told us of a message that its author sent before we came. */
  readonly sharedBy: AccountId | undefined;
}

export type NewHistoryRow = Pick<
  HistoryRow,
  | "conversation"
  | "messageId"
  | "author"
  | "authorDevice"
  | "outgoing"
  | "kind"
  | "sentAtMs"
  | "storedAtMs"
  | "expireAfterSeconds"
  | "sendState"
> & { readonly body: Bytes };

/** What a new line is not yet. */
const FRESH = {
  edited: false,
  deleted: false,
  expiresAtMs: undefined,
  failure: undefined,
  readAtMs: undefined,
  sharedBy: undefined,
} as const;

interface Reaction {
  readonly author: AccountId;
  readonly emoji: string;
}

interface Aside {
  readonly reactions: readonly Reaction[];
  readonly delivered: readonly AccountId[];
  readonly read: readonly AccountId[];
  /** Accounts that have a row of their own in the outbox, and have not got it: it waits, or was given up. */
  readonly notReached: readonly AccountId[];
}

function rowOf(row: Row): HistoryRow {
  return {
    id: row["id"] as number,
    conversation: new Uint8Array(row["conversation"] as Bytes),
    messageId: messageId(row["message_id"] as Bytes),
    author: accountId(row["author"] as Bytes),
    authorDevice: row["author_device"] as number,
    outgoing: row["outgoing"] === 1,
    kind: row["kind"] as HistoryRow["kind"],
    body: row["body"] === null ? undefined : new Uint8Array(row["body"] as Bytes),
    sentAtMs: row["sent_at"] as number,
    storedAtMs: row["stored_at"] as number,
    edited: row["edited"] === 1,
    deleted: row["deleted"] === 1,
    expireAfterSeconds: row["expire_after"] as number,
    expiresAtMs: (row["expires_at"] as number | null) ?? undefined,
    sendState: (row["send_state"] as SendState | null) ?? undefined,
    failure: (row["failure"] as string | null) ?? undefined,
    readAtMs: (row["read_at"] as number | null) ?? undefined,
    sharedBy: row["shared_by"] === null ? undefined : accountId(row["shared_by"] as Bytes),
  };
}

/** Lines, and what hangs on them: reactions, receipts, changes that came before their line. */
/** One message that has come. */
export interface Seen {
  readonly conversation: Bytes;
  readonly author: AccountId;
  readonly device: number;
  readonly message: MessageId;
}

/** Those noted by an older version name no conversation, and count for each. */
const IS_SEEN = "author = ? AND device = ? AND message_id = ? AND conversation IN (?, x'')";

export class HistoryStore {
  private readonly storage: Storage;
  private readonly changesWait: KeptRows<boolean>;
  /** The line that was written last: whoever is told of it reads it. No older text is kept. */
  private readonly newest: KeptRows<HistoryRow>;

  constructor(storage: KeptStorage) {
    this.storage = storage;
    this.changesWait = new KeptRows(storage, "waiting_change");
    this.newest = new KeptRows(storage, "history");
  }

  /** Appends a line and returns its id; undefined when this author's device said this message id here before. */
  append(line: NewHistoryRow): number | undefined {
    const { changes, lastId } = this.storage.run(
      `INSERT INTO history (conversation, message_id, author, author_device, outgoing, kind, body, sent_at, stored_at,
         expire_after, send_state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
      [
        line.conversation,
        line.messageId,
        line.author,
        line.authorDevice,
        line.outgoing ? 1 : 0,
        line.kind,
        line.body,
        line.sentAtMs,
        line.storedAtMs,
        line.expireAfterSeconds,
        line.sendState ?? null,
      ],
    );
    if (changes === 0) return undefined;
    this.newest.put(String(lastId), { ...line, ...FRESH, id: lastId });
    return lastId;
  }

  // What others tell of the past.

  /** Appends a line on somebody's word; undefined when there is one. Without a body it was deleted. */
  appendShared(
    line: Omit<NewHistoryRow, "kind" | "body" | "expireAfterSeconds"> & {
      readonly body: Bytes | undefined;
      readonly edited: boolean;
      readonly sharedBy: AccountId;
    },
  ): number | undefined {
    const { changes, lastId } = this.storage.run(
      `INSERT INTO history (conversation, message_id, author, author_device, outgoing, kind, body, sent_at, stored_at,
         edited, deleted, send_state, shared_by) VALUES (?, ?, ?, ?, ?, 'message', ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING`,
      [
        line.conversation,
        line.messageId,
        line.author,
        line.authorDevice,
        line.outgoing ? 1 : 0,
        line.body ?? null,
        line.sentAtMs,
        line.storedAtMs,
        line.edited ? 1 : 0,
        line.body === undefined ? 1 : 0,
        line.sendState ?? null,
        line.sharedBy,
      ],
    );
    return changes === 0 ? undefined : lastId;
  }

  countShared(conversation: Bytes): number {
    const row = this.storage.get(
      "SELECT count(*) AS n FROM history WHERE conversation = ? AND shared_by IS NOT NULL",
      [conversation],
    );
    return (row?.["n"] as number | undefined) ?? 0;
  }

  /** Lines of this message that stand on somebody's word. */
  sharedOf(author: AccountId, id: MessageId): readonly HistoryRow[] {
    return this.storage
      .all("SELECT * FROM history WHERE author = ? AND message_id = ? AND shared_by IS NOT NULL", [
        author,
        id,
      ])
      .map(rowOf);
  }

  /** The last messages that this device had from their authors and that stay, oldest first. */
  lasting(conversation: Bytes, limit: number): readonly HistoryRow[] {
    return this.storage
      .all(
        `SELECT * FROM history WHERE conversation = ? AND kind = 'message' AND shared_by IS NULL
           AND expire_after = 0 AND expires_at IS NULL AND (send_state IS NULL OR send_state = 'accepted')
           ORDER BY id DESC LIMIT ?`,
        [conversation, limit],
      )
      .map(rowOf)
      .reverse();
  }

  get(id: number): HistoryRow | undefined {
    const newest = this.newest.peek(String(id));
    if (newest !== undefined) return newest;
    const row = this.storage.get("SELECT * FROM history WHERE id = ?", [id]);
    return row === undefined ? undefined : rowOf(row);
  }

  /** What this author said in a conversation under this id. A message before a notice: who picks a notice's id must not hide behind it. */
  find(conversation: Bytes, author: AccountId, id: MessageId): HistoryRow | undefined {
    return this.linesOf(author, id, conversation)[0];
  }

  /**
   * Every line of this author under this id, messages before notices; in one conversation, or in all. An author picks its ids, and
   * may say one with each of its devices and in each conversation.
   */
  linesOf(author: AccountId, id: MessageId, conversation?: Bytes): readonly HistoryRow[] {
    const lines = this.storage
      .all("SELECT * FROM history WHERE author = ? AND message_id = ? ORDER BY kind, id", [author, id])
      .map(rowOf);
    if (conversation === undefined) return lines;
    return lines.filter((line) => equalBytes(line.conversation, conversation));
  }

  after(conversation: Bytes, after: number, limit: number): readonly HistoryRow[] {
    return this.storage
      .all("SELECT * FROM history WHERE conversation = ? AND id > ? ORDER BY id LIMIT ?", [
        conversation,
        after,
        limit,
      ])
      .map(rowOf);
  }

  before(conversation: Bytes, before: number, limit: number): readonly HistoryRow[] {
    return this.storage
      .all("SELECT * FROM history WHERE conversation = ? AND id < ? ORDER BY id DESC LIMIT ?", [
        conversation,
        before,
        limit,
      ])
      .map(rowOf)
      .reverse();
  }

  /** Whose lines have come since a time, each once. O(lines of the conversation). */
  authorsSince(conversation: Bytes, atMs: number): readonly AccountId[] {
    return this.storage
      .all("SELECT DISTINCT author FROM history WHERE conversation = ? AND stored_at >= ?", [
        conversation,
        atMs,
      ])
      .map((row) => accountId(row["author"] as Bytes));
  }

  /** Incoming messages up to a line that were not marked read. */
  unreadThrough(conversation: Bytes, through: number): readonly HistoryRow[] {
    return this.storage
      .all(
        `SELECT * FROM history WHERE conversation = ? AND id <= ? AND outgoing = 0 AND kind = 'message'
           AND read_at IS NULL ORDER BY id`,
        [conversation, through],
      )
      .map(rowOf);
  }

  setBody(id: number, body: Bytes): void {
    this.storage.run("UPDATE history SET body = ?, edited = 1 WHERE id = ?", [body, id]);
  }

  /** The line stays as a mark that something was deleted; its content goes. */
  markDeleted(id: number): void {
    this.storage.run("UPDATE history SET body = NULL, deleted = 1, edited = 0 WHERE id = ?", [id]);
    this.storage.run("DELETE FROM reaction WHERE history_id = ?", [id]);
    this.storage.run("DELETE FROM pin WHERE history_id = ?", [id]);
  }

  remove(id: number): void {
    this.storage.run("DELETE FROM history WHERE id = ?", [id]);
    this.storage.run("DELETE FROM pin WHERE history_id = ?", [id]);
  }

  /**
   * What became of an own message. Once it was accepted, the timer of a disappearing one runs. Undefined where the line is
   * gone; one statement.
   */
  settle(
    id: number,
    state: "accepted" | "failed",
    failure: string | undefined,
    atMs: number,
  ): Pick<HistoryRow, "id" | "conversation"> | undefined {
    const newest = this.newest.peek(String(id));
    const [row] = this.storage.all(
      `UPDATE history SET send_state = ?, failure = ?, expires_at = CASE WHEN ? = 1 AND expire_after > 0
         THEN coalesce(expires_at, ? + expire_after * 1000) ELSE expires_at END WHERE id = ? RETURNING conversation, expires_at`,
      [state, failure ?? null, state === "accepted" ? 1 : 0, atMs, id],
    );
    if (row === undefined) return undefined;
    const expiresAtMs = (row["expires_at"] as number | null) ?? undefined;
    if (newest !== undefined)
      this.newest.put(String(id), { ...newest, sendState: state, failure, expiresAtMs });
    return { id, conversation: new Uint8Array(row["conversation"] as Bytes) };
  }

  /** Read, here or on another own device: the timer of a disappearing message runs from then on. */
  wasRead(id: number, atMs: number): void {
    this.storage.run("UPDATE history SET read_at = ? WHERE id = ?", [atMs, id]);
    this.startExpiry(id, atMs);
  }

  /** Starts the timer of a disappearing message, once. */
  startExpiry(id: number, atMs: number): void {
    this.storage.run(
      "UPDATE history SET expires_at = ? + expire_after * 1000 WHERE id = ? AND expire_after > 0 AND expires_at IS NULL",
      [atMs, id],
    );
  }

  expired(nowMs: number): readonly HistoryRow[] {
    return this.storage
      .all("SELECT * FROM history WHERE expires_at IS NOT NULL AND expires_at <= ? LIMIT 500", [nowMs])
      .map(rowOf);
  }

  nextExpiry(): number | undefined {
    const row = this.storage.get("SELECT min(expires_at) AS at FROM history WHERE expires_at IS NOT NULL");
    return (row?.["at"] as number | null) ?? undefined;
  }

  /** All lines of one conversation are those of another. */
  moveConversation(from: Bytes, to: Bytes): void {
    for (const table of ["history", "waiting_change", "pin", "seen"])
      this.storage.run(`UPDATE OR IGNORE ${table} SET conversation = ? WHERE conversation = ?`, [to, from]);
  }

  /** Own lines whose text was changed. O(lines of the conversation). */
  ownEdited(conversation: Bytes): readonly HistoryRow[] {
    return this.storage
      .all("SELECT * FROM history WHERE conversation = ? AND outgoing = 1 AND edited = 1", [conversation])
      .map(rowOf);
  }

  removeConversation(conversation: Bytes): void {
    this.storage.run("DELETE FROM history WHERE conversation = ?", [conversation]);
    this.storage.run("DELETE FROM waiting_change WHERE conversation = ?", [conversation]);
    this.storage.run("DELETE FROM pin WHERE conversation = ?", [conversation]);
  }

  // Pins.

  /** Pins a line, as the newest; of more than `most` the oldest falls out. Returns false for one that is pinned already. */
  pin(conversation: Bytes, historyId: number, most: number): boolean {
    const { changes } = this.storage.run(
      `INSERT INTO pin (conversation, history_id, at)
         SELECT ?, ?, coalesce(max(at), 0) + 1 FROM pin WHERE conversation = ? ON CONFLICT DO NOTHING`,
      [conversation, historyId, conversation],
    );
    if (changes === 0) return false;
    this.storage.run(
      `DELETE FROM pin WHERE conversation = ? AND history_id NOT IN
         (SELECT history_id FROM pin WHERE conversation = ? ORDER BY at DESC LIMIT ?)`,
      [conversation, conversation, most],
    );
    return true;
  }

  unpin(conversation: Bytes, historyId: number): boolean {
    const key = [conversation, historyId];
    return this.storage.run("DELETE FROM pin WHERE conversation = ? AND history_id = ?", key).changes > 0;
  }

  /** Pinned lines, the newest pin first. */
  pinned(conversation: Bytes): readonly HistoryRow[] {
    return this.storage
      .all(
        `SELECT history.* FROM pin JOIN history ON history.id = pin.history_id
           WHERE pin.conversation = ? ORDER BY pin.at DESC`,
        [conversation],
      )
      .map(rowOf);
  }

  // Reactions.

  react(historyId: number, author: AccountId, emoji: string | undefined): void {
    if (emoji === undefined) {
      this.storage.run("DELETE FROM reaction WHERE history_id = ? AND author = ?", [historyId, author]);
      return;
    }
    this.storage.run(
      "INSERT INTO reaction (history_id, author, emoji) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET emoji = excluded.emoji",
      [historyId, author, emoji],
    );
  }

  reactions(historyId: number): readonly Reaction[] {
    return this.storage
      .all("SELECT author, emoji FROM reaction WHERE history_id = ? ORDER BY author", [historyId])
      .map((row) => ({ author: accountId(row["author"] as Bytes), emoji: row["emoji"] as string }));
  }

  /** What hangs on a line, each by account id. Of somebody else's message it is only the reactions. One statement. */
  aside({ id, outgoing, messageId: message }: HistoryRow): Aside {
    const aside: Aside = { reactions: [], delivered: [], read: [], notReached: [] };
    if (!outgoing) return { ...aside, reactions: this.reactions(id) };
    const rows = this.storage.all(
      `SELECT 'reaction' AS kind, author AS account, emoji AS detail FROM reaction WHERE history_id = ?
         UNION ALL SELECT 'receipt', account, max(read_at) FROM receipt WHERE message_id = ? GROUP BY account
         UNION ALL SELECT DISTINCT 'waiting', target, NULL FROM outbox
           WHERE message_id = ? AND target_kind = 'account' AND state <> 'accepted'`,
      [id, message, message],
    );
    if (rows.length === 0) return aside;
    const of = (kind: string) =>
      rows
        .filter((row) => row["kind"] === kind)
        .map((row) => ({ account: accountId(row["account"] as Bytes), detail: row["detail"] }))
        .sort((a, b) => compareBytes(a.account, b.account));
    const receipts = of("receipt");
    return {
      reactions: of("reaction").map(({ account, detail }) => ({ author: account, emoji: detail as string })),
      delivered: receipts.map(({ account }) => account),
      read: receipts.filter(({ detail }) => detail !== null).map(({ account }) => account),
      notReached: of("waiting").map(({ account }) => account),
    };
  }

  // Receipts.

  /** Notes a receipt of one device. Returns true when it says something new. */
  confirm(message: MessageId, account: AccountId, device: number, read: boolean, atMs: number): boolean {
    const key = [message, account, device] as const;
    const added = this.storage.run(
      "INSERT INTO receipt (message_id, account, device, delivered_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
      [...key, atMs],
    ).changes;
    if (!read) return added > 0;
    return (
      this.storage.run(
        "UPDATE receipt SET read_at = ? WHERE message_id = ? AND account = ? AND device = ? AND read_at IS NULL",
        [atMs, ...key],
      ).changes > 0
    );
  }

  /** Accounts of which some device has the message. */
  confirmedBy(message: MessageId): readonly AccountId[] {
    return this.storage
      .all("SELECT DISTINCT account FROM receipt WHERE message_id = ?", [message])
      .map((row) => accountId(row["account"] as Bytes));
  }

  removeReceipts(message: MessageId): void {
    this.storage.run("DELETE FROM receipt WHERE message_id = ?", [message]);
  }

  // Changes that came before their message.

  keepChange(change: {
    readonly conversation: Bytes;
    readonly targetAuthor: AccountId;
    readonly targetMessage: MessageId;
    readonly author: AccountId;
    readonly authorDevice: number;
    readonly content: Bytes;
    readonly atMs: number;
  }): void {
    this.storage.run(
      `INSERT INTO waiting_change (conversation, target_author, target_message, author, author_device, content, at)
         VALUES (?, ?, ?, ?, ?, ?, ?)`,
      [
        change.conversation,
        change.targetAuthor,
        change.targetMessage,
        change.author,
        change.authorDevice,
        change.content,
        change.atMs,
      ],
    );
  }

  /** Takes out what waited for a message in this conversation, or in whatever one, in the order it came. */
  takeChanges(
    conversation: Bytes,
    author: AccountId,
    message: MessageId,
  ): readonly { readonly author: AccountId; readonly content: Bytes }[] {
    // Hardly anything ever waits, and every message asks.
    const some = "SELECT 1 AS waits FROM waiting_change LIMIT 1";
    if (!this.changesWait.get("any", () => this.storage.get(some) !== undefined)) return [];
    const key = [author, message, conversation];
    const which = "target_author = ? AND target_message = ? AND conversation IN (?, x'')";
    const rows = this.storage.all(
      `SELECT author, content FROM waiting_change WHERE ${which} ORDER BY id`,
      key,
    );
    if (rows.length === 0) return [];
    this.storage.run(`DELETE FROM waiting_change WHERE ${which}`, key);
    return rows.map((row) => ({
      author: accountId(row["author"] as Bytes),
      content: new Uint8Array(row["content"] as Bytes),
    }));
  }

  forgetOldChanges(beforeMs: number): void {
    this.storage.run("DELETE FROM waiting_change WHERE at < ?", [beforeMs]);
  }

  // Messages seen.

  /**
   * Notes a message of a conversation, which is its author for what is said to one account; false when it was seen before. Whoever
   * says it in another conversation too hides it nowhere.
   */
  noteSeen({ conversation, author, device, message }: Seen, atMs: number): boolean {
    const { changes } = this.storage.run(
      `INSERT INTO seen (author, device, message_id, conversation, at) SELECT ?, ?, ?, ?, ?
         WHERE NOT EXISTS (SELECT 1 FROM seen WHERE ${IS_SEEN})`,
      [author, device, message, conversation, atMs, author, device, message, conversation],
    );
    return changes > 0;
  }

  /** In whatever conversation. */
  wasSeen(author: AccountId, device: number, message: MessageId): boolean {
    const sql = "SELECT 1 AS seen FROM seen WHERE author = ? AND device = ? AND message_id = ? LIMIT 1";
    return this.storage.get(sql, [author, device, message]) !== undefined;
  }

  forgetSeen({ conversation, author, device, message }: Seen): void {
    this.storage.run(`DELETE FROM seen WHERE ${IS_SEEN}`, [author, device, message, conversation]);
  }

  forgetOldSeen(beforeMs: number): void {
    this.storage.run("DELETE FROM seen WHERE at < ?", [beforeMs]);
  }
}

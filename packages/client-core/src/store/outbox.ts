import {
  type AccountId,
  accountId,
  type Bytes,
  type DeviceId,
  decodeWhole,
  deviceId,
  encode,
  type MessageId,
  messageId,
  type SubmitId,
  submitId,
  type Writer,
} from "@murmuration/base";
import { SHARED_HISTORY_TAG } from "../core/content.ts";
import { type Row, type Storage, viewOf } from "../ports/storage.ts";
import { KeptRows, type KeptStorage } from "./kept-storage.ts";

/** Whom a message is for. `own`: the account's other devices. `device`: one device of an account. */
export type OutboxTarget =
  | { readonly kind: "account"; readonly account: AccountId }
  | { readonly kind: "group"; readonly group: Bytes }
  | { readonly kind: "own"; readonly account: AccountId }
  | { readonly kind: "device"; readonly account: AccountId; readonly device: DeviceId };

/** `new`: no ciphertext yet, or not for all. `ready`: only submits are left. */
export type OutboxState = "new" | "ready" | "accepted" | "failed";

export interface OutboxRow {
  readonly id: number;
  /** Rows of one lane leave one after the other. */
  readonly lane: string;
  readonly target: OutboxTarget;
  readonly messageId: MessageId;
  readonly content: Bytes;
  readonly historyId: number | undefined;
  /** The pairwise reference, from the first encryption on. */
  readonly reference: number | undefined;
  readonly state: OutboxState;
  /** Accounts that ciphertexts were made for, from the first encryption on. */
  readonly accounts: readonly AccountId[] | undefined;
  /** Members of the group that do not get it. */
  readonly exclude: readonly AccountId[];
  /** A delivery receipt is expected; until it came the message may have to be sent again. */
  readonly confirm: boolean;
  readonly createdAtMs: number;
}

export type NewOutboxRow = Pick<OutboxRow, "lane" | "target" | "messageId" | "content" | "confirm"> & {
  readonly historyId?: number;
  readonly reference?: number;
  readonly exclude?: readonly AccountId[];
  readonly createdAtMs: number;
  /** `new` if it is left out. `ready`: its ciphertext is written in the same transaction. */
  readonly state?: "new" | "ready";
};

export interface PartDevice {
  readonly deviceId: DeviceId;
  readonly registrationId: number;
  readonly ciphertext: Bytes;
}

export interface PartRecipient {
  readonly account: AccountId;
  readonly devices: readonly PartDevice[];
}

/** One submit. Its bytes stay as they are until it was answered. */
export interface OutboxPart {
  readonly id: number;
  readonly submitId: SubmitId;
  readonly mode: "sealed" | "identified";
  readonly recipients: readonly PartRecipient[];
  /** The group whose fence the submit carries, and that fence when the part was made. */
  readonly group: Bytes | undefined;
  readonly fence: Bytes | undefined;
  /** When the sender certificate inside runs out; sealed parts only. */
  readonly certificateUntilMs: number;
}

function encodeRecipients(recipients: readonly PartRecipient[]): Bytes {
  const write = (writer: Writer, all: readonly PartRecipient[]) => {
    writer.uint16(all.length);
    for (const { account, devices } of all) {
      writer.fixed(account).uint8(devices.length);
      for (const device of devices) {
        writer.uint8(device.deviceId).uint16(device.registrationId).bytes(device.ciphertext);
      }
    }
  };
  return encode(recipients, write, encodedSize(recipients));
}

/** At least what `encodeRecipients` writes: half a megabyte would otherwise be moved ten times while it grows. */
function encodedSize(recipients: readonly PartRecipient[]): number {
  let size = 2;
  for (const { devices } of recipients) {
    size += 17;
    for (const { ciphertext } of devices) size += 7 + ciphertext.length;
  }
  return size;
}

const decodeRecipients = (input: Uint8Array): PartRecipient[] =>
  decodeWhole(input, (reader) =>
    Array.from({ length: reader.uint16() }, () => ({
      account: accountId(reader.fixed(16)),
      devices: Array.from({ length: reader.uint8() }, () => ({
        deviceId: deviceId(reader.uint8()),
        registrationId: reader.uint16(),
        // A view: half a megabyte of them for a large group, and the row's bytes are nobody else's.
        ciphertext: reader.bytes() as Bytes,
      })),
    })),
  );

const joinAccounts = (accounts: readonly AccountId[]): Bytes => new Uint8Array(Buffer.concat(accounts));

function splitAccounts(bytes: Bytes): AccountId[] {
  return Array.from({ length: bytes.length / 16 }, (_, i) => accountId(bytes.subarray(i * 16, i * 16 + 16)));
}

function targetOf(row: Row): OutboxTarget {
  const kind = row["target_kind"] as OutboxTarget["kind"];
  const id = new Uint8Array(row["target"] as Bytes);
  if (kind === "group") return { kind, group: id };
  if (kind === "device") return { kind, account: accountId(id), device: deviceId(row["device"] as number) };
  return { kind, account: accountId(id) };
}

function rowOf(row: Row): OutboxRow {
  return {
    id: row["id"] as number,
    lane: row["lane"] as string,
    target: targetOf(row),
    messageId: messageId(row["message_id"] as Bytes),
    content: new Uint8Array(row["content"] as Bytes),
    historyId: (row["history_id"] as number | null) ?? undefined,
    reference: (row["reference"] as number | null) ?? undefined,
    state: row["state"] as OutboxState,
    // Read by few: most steps of a message need to know nothing of its recipients.
    get accounts() {
      return row["accounts"] === null ? undefined : splitAccounts(row["accounts"] as Bytes);
    },
    exclude: row["exclude"] === null ? [] : splitAccounts(new Uint8Array(row["exclude"] as Bytes)),
    confirm: row["confirm"] === 1,
    createdAtMs: row["created_at"] as number,
  };
}

function partOf(row: Row): OutboxPart {
  const optionalBytes = (key: string) => (row[key] === null ? undefined : new Uint8Array(row[key] as Bytes));
  return {
    id: row["id"] as number,
    submitId: submitId(row["submit_id"] as Bytes),
    mode: row["mode"] as OutboxPart["mode"],
    recipients: decodeRecipients(viewOf(row["recipients"] as Bytes)),
    group: optionalBytes("group_id"),
    fence: optionalBytes("fence"),
    certificateUntilMs: row["certificate_until"] as number,
  };
}

/**
 * A content that has no line of its own. A request to send again has none: it is an envelope, in which the one who is asked has
 * chosen bytes.
 */
const IS_TOLD = "history_id IS NULL AND NOT (target_kind = 'device' AND reference IS NULL)";

export class OutboxStore {
  private readonly storage: Storage;
  /** The oldest row that waits in a lane; null where none does. */
  private readonly firsts: KeptRows<OutboxRow | null>;

  constructor(storage: KeptStorage) {
    this.storage = storage;
    this.firsts = new KeptRows(storage, "outbox");
  }

  append(row: NewOutboxRow): number {
    const { lane, target } = row;
    const isFirst = this.firsts.peek(lane) === null;
    const { lastId: id } = this.storage.run(
      `INSERT INTO outbox (lane, target_kind, target, device, message_id, content, history_id, reference, state, exclude,
         confirm, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      [
        row.lane,
        target.kind,
        target.kind === "group" ? target.group : target.account,
        target.kind === "device" ? target.device : null,
        row.messageId,
        row.content,
        row.historyId ?? null,
        row.reference ?? null,
        row.state ?? "new",
        row.exclude === undefined || row.exclude.length === 0 ? null : joinAccounts(row.exclude),
        row.confirm ? 1 : 0,
        row.createdAtMs,
      ],
    );
    const { exclude = [], historyId, reference, state = "new" } = row;
    if (isFirst)
      this.firsts.put(lane, { ...row, id, exclude, historyId, reference, state, accounts: undefined });
    return id;
  }

  get(id: number): OutboxRow | undefined {
    const row = this.storage.get("SELECT * FROM outbox WHERE id = ?", [id]);
    return row === undefined ? undefined : rowOf(row);
  }

  /** Lanes that have something to send. */
  busyLanes(): readonly string[] {
    return this.storage
      .all("SELECT DISTINCT lane FROM outbox WHERE state IN ('new', 'ready')")
      .map((row) => row["lane"] as string);
  }

  /** The oldest row that waits in a lane. That there is none is known until something is written to the outbox. */
  next(lane: string): OutboxRow | undefined {
    const known = this.firsts.peek(lane);
    if (known !== undefined) return known ?? undefined;
    const row = this.storage.get(
      "SELECT * FROM outbox WHERE lane = ? AND state IN ('new', 'ready') ORDER BY id LIMIT 1",
      [lane],
    );
    if (row === undefined) this.firsts.put(lane, null);
    return row === undefined ? undefined : rowOf(row);
  }

  /** Rows that wait, of one lane or of all. */
  waiting(lane?: string): number {
    if (lane !== undefined && this.firsts.peek(lane) === null) return 0;
    const row =
      lane === undefined
        ? this.storage.get("SELECT count(*) AS n FROM outbox WHERE state IN ('new', 'ready')")
        : this.storage.get("SELECT count(*) AS n FROM outbox WHERE state IN ('new', 'ready') AND lane = ?", [
            lane,
          ]);
    const waiting = row?.["n"] as number;
    if (lane !== undefined && waiting === 0) this.firsts.put(lane, null);
    return waiting;
  }

  waitingRows(lane: string): readonly OutboxRow[] {
    return this.storage
      .all("SELECT * FROM outbox WHERE lane = ? AND state IN ('new', 'ready') ORDER BY id", [lane])
      .map(rowOf);
  }

  /** Ids of rows that wait: all of them, or those of one message. */
  waitingIds(message?: MessageId): readonly number[] {
    const rows =
      message === undefined
        ? this.storage.all("SELECT id FROM outbox WHERE state IN ('new', 'ready')")
        : this.storage.all("SELECT id FROM outbox WHERE state IN ('new', 'ready') AND message_id = ?", [
            message,
          ]);
    return rows.map((row) => row["id"] as number);
  }

  setState(id: number, state: OutboxState, atMs: number, failure?: string): void {
    this.storage.run("UPDATE outbox SET state = ?, failure = ?, accepted_at = ? WHERE id = ?", [
      state,
      failure ?? null,
      state === "accepted" ? atMs : null,
      id,
    ]);
  }

  setContent(id: number, content: Bytes): void {
    this.storage.run("UPDATE outbox SET content = ? WHERE id = ?", [content, id]);
  }

  /** As if nothing had been encrypted for anybody; its parts are gone. */
  beginAnew(id: number): void {
    this.storage.run(
      `UPDATE outbox SET state = 'new', failure = NULL, accounts = NULL, exclude = NULL, reference = NULL,
         confirm = 0, accepted_at = NULL WHERE id = ?`,
      [id],
    );
  }

  /** What was accepted in a lane since then is said again, under its id, to a group that begins anew. */
  sayAgainSince(lane: string, sinceMs: number): void {
    this.storage.run(
      `UPDATE outbox SET state = 'new', failure = NULL, accepted_at = NULL
         WHERE lane = ? AND target_kind = 'group' AND (state = 'ready' OR (state = 'accepted' AND accepted_at >= ?))`,
      [lane, sinceMs],
    );
  }

  /** What waits for one group waits for another. */
  readdress(from: Bytes, fromLane: string, to: Bytes, toLane: string): void {
    this.storage.run("UPDATE outbox SET lane = ?, target = ? WHERE lane = ? AND target = ?", [
      toLane,
      to,
      fromLane,
      from,
    ]);
  }

  /** Puts another content in the place of each that has these bytes in it, and was accepted or given up. O(outbox). */
  blank(secret: Bytes, content: Bytes): void {
    this.storage.run(
      "UPDATE outbox SET content = ? WHERE instr(content, ?) > 0 AND state IN ('accepted', 'failed')",
      [content, secret],
    );
  }

  /** Rows that wait for one account each. */
  waitingForMembers(): readonly OutboxRow[] {
    return this.storage
      .all("SELECT * FROM outbox WHERE target_kind = 'account' AND state IN ('new', 'ready') ORDER BY id")
      .map(rowOf);
  }

  /** A row that waits is accepted. False for one that was settled before, or is gone. */
  accept(id: number, atMs: number): boolean {
    const sql =
      "UPDATE outbox SET state = 'accepted', failure = NULL, accepted_at = ? WHERE id = ? AND state IN ('new', 'ready')";
    return this.storage.run(sql, [atMs, id]).changes > 0;
  }

  setPlan(id: number, accounts: readonly AccountId[], reference: number | undefined): void {
    this.storage.run("UPDATE outbox SET accounts = ?, reference = coalesce(?, reference) WHERE id = ?", [
      joinAccounts(accounts),
      reference ?? null,
      id,
    ]);
  }

  /** What it takes to name the message in a request to send it again; undefined before the first encryption. */
  reference(id: number): number | undefined {
    const row = this.storage.get("SELECT reference FROM outbox WHERE id = ?", [id]);
    return (row?.["reference"] as number | null | undefined) ?? undefined;
  }

  state(id: number): OutboxState | undefined {
    return this.storage.get("SELECT state FROM outbox WHERE id = ?", [id])?.["state"] as
      | OutboxState
      | undefined;
  }

  /**
   * Nobody is left whom this row could reach: its line goes with the first of the rows that members of the same
   * message have for themselves, so that it is not shown as accepted before one of them was.
   */
  handOverLine(id: number): void {
    const row = this.get(id);
    if (row?.historyId === undefined) return;
    const heir = this.storage.get(
      `SELECT id FROM outbox WHERE message_id = ? AND target_kind = 'account' AND state IN ('new', 'ready')
         ORDER BY id LIMIT 1`,
      [row.messageId],
    );
    if (heir === undefined) return;
    this.storage.run("UPDATE outbox SET history_id = ? WHERE id = ?", [row.historyId, heir["id"]!]);
    this.storage.run("UPDATE outbox SET history_id = NULL WHERE id = ?", [id]);
  }

  delete(id: number): void {
    this.storage.run("DELETE FROM outbox WHERE id = ?", [id]);
  }

  /**
   * Rows that have no line of their own and name this message in their content. O(bytes of such contents): what this device
   * said in the last weeks besides texts, and its copies for the own other devices.
   */
  naming(message: MessageId): readonly OutboxRow[] {
    const sql = `SELECT * FROM outbox WHERE ${IS_TOLD} AND message_id <> ? AND instr(content, ?) > 0`;
    return this.storage.all(sql, [message, message]).map(rowOf);
  }

  /**
   * Those among them that may tell newcomers of it: only these are read, whatever id somebody has given to a message. O(bytes
   * of such contents).
   */
  tellingPastOf(message: MessageId): readonly OutboxRow[] {
    const sql = `SELECT * FROM outbox WHERE ${IS_TOLD} AND instr(content, ?) > 0 AND instr(content, ?) > 0`;
    return this.storage.all(sql, [SHARED_HISTORY_TAG, message]).map(rowOf);
  }

  /** Rows that may tell newcomers of this group what was said in it. */
  tellingPastTo(group: Bytes): readonly OutboxRow[] {
    const sql = `SELECT * FROM outbox WHERE ${IS_TOLD} AND target = ? AND instr(content, ?) > 0`;
    return this.storage.all(sql, [group, SHARED_HISTORY_TAG]).map(rowOf);
  }

  /** Everything that carries an own message of this conversation; what else was said in it is still said. O(lines). */
  deleteSaidIn(conversation: Bytes): void {
    this.storage.run(
      `DELETE FROM outbox WHERE message_id IN
         (SELECT message_id FROM history WHERE conversation = ? AND outgoing = 1 AND kind = 'message'
            AND shared_by IS NULL)`,
      [conversation],
    );
  }

  /** Everything that carries this message, also to the own other devices. */
  deleteOfMessage(message: MessageId): void {
    this.storage.run("DELETE FROM outbox WHERE message_id = ?", [message]);
  }

  /** Rows of this message that have not been accepted. */
  waitingOf(message: MessageId): readonly OutboxRow[] {
    return this.storage
      .all("SELECT * FROM outbox WHERE message_id = ? AND state IN ('new', 'ready')", [message])
      .map(rowOf);
  }

  /** What a peer asks to have again. */
  byReference(reference: number): OutboxRow | undefined {
    const row = this.storage.get(
      "SELECT * FROM outbox WHERE reference = ? AND target_kind <> 'device' ORDER BY id LIMIT 1",
      [reference],
    );
    return row === undefined ? undefined : rowOf(row);
  }

  /** Accepted messages that expect receipts, younger than `sinceMs`. */
  unconfirmed(sinceMs: number): readonly OutboxRow[] {
    return this.storage
      .all(
        "SELECT * FROM outbox WHERE state = 'accepted' AND confirm = 1 AND target_kind <> 'device' AND created_at >= ? ORDER BY id",
        [sinceMs],
      )
      .map(rowOf);
  }

  /** Forgets settled messages before `beforeMs`, and those that nobody confirms before `unconfirmedBeforeMs`, but for
   * what a community's log may lose. */
  forgetSettled(beforeMs: number, unconfirmedBeforeMs: number): void {
    this.storage.run(
      `DELETE FROM outbox WHERE state IN ('accepted', 'failed')
         AND (created_at < ? OR (confirm = 0 AND created_at < ? AND id NOT IN (SELECT outbox_id FROM mls_sent)))`,
      [beforeMs, unconfirmedBeforeMs],
    );
  }

  // Parts.

  /** Undefined, and nothing done, where the row is gone: its message may be deleted, or expire, while it is encrypted. */
  addPart(outboxId: number, part: Omit<OutboxPart, "id">): number | undefined {
    const { changes, lastId } = this.storage.run(
      `INSERT INTO outbox_part (outbox_id, submit_id, mode, recipients, group_id, fence, certificate_until)
         SELECT id, ?, ?, ?, ?, ?, ? FROM outbox WHERE id = ?`,
      [
        part.submitId,
        part.mode,
        encodeRecipients(part.recipients),
        part.group ?? null,
        part.fence ?? null,
        part.certificateUntilMs,
        outboxId,
      ],
    );
    return changes === 0 ? undefined : lastId;
  }

  parts(outboxId: number): readonly OutboxPart[] {
    return this.storage
      .all("SELECT * FROM outbox_part WHERE outbox_id = ? ORDER BY id", [outboxId])
      .map(partOf);
  }

  /** How many parts wait. Reads no ciphertext. */
  countParts(outboxId: number): number {
    const row = this.storage.get("SELECT count(*) AS n FROM outbox_part WHERE outbox_id = ?", [outboxId]);
    return row?.["n"] as number;
  }

  deletePart(id: number): void {
    this.storage.run("DELETE FROM outbox_part WHERE id = ?", [id]);
  }
}

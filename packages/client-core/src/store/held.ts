import { accountId, type Bytes, type DeviceAddress, deviceId } from "@murmuration/base";
import type { Row, Storage } from "../ports/storage.ts";

/**
 * `device-list`, `certificate`, `identity`: an envelope; `subject` is the account.
 * `invite`, `group`: a decrypted content; `subject` is the group. `mls`: one that was said in the MLS group of a
 * conversation, the `subject`, before its turn.
 */
export type HeldReason = "device-list" | "certificate" | "identity" | "invite" | "group" | "mls";

export interface HeldRow {
  readonly id: number;
  readonly reason: HeldReason;
  readonly bytes: Bytes;
  /** Of a content: who sent it. Of an envelope: whom the service named as its sender, if it did. */
  readonly sender: DeviceAddress | undefined;
  /** Of what was said over MLS: the account identity key that the sender's leaf stood for. */
  readonly identityKey?: Bytes | undefined;
  readonly subject: Bytes | undefined;
  readonly sentAtMs: number;
  readonly acceptedAtMs: number;
}

function rowOf(row: Row): HeldRow {
  return {
    id: row["id"] as number,
    reason: row["reason"] as HeldReason,
    bytes: new Uint8Array(row["bytes"] as Bytes),
    sender:
      row["sender"] === null
        ? undefined
        : {
            accountId: accountId(row["sender"] as Bytes),
            deviceId: deviceId(row["sender_device"] as number),
          },
    identityKey: row["identity_key"] === null ? undefined : new Uint8Array(row["identity_key"] as Bytes),
    subject: row["subject"] === null ? undefined : new Uint8Array(row["subject"] as Bytes),
    sentAtMs: row["sent_at"] as number,
    acceptedAtMs: row["accepted_at"] as number,
  };
}

/** What was received and waits: it is in the database, so the service may forget it. */
export class HeldStore {
  private readonly storage: Storage;

  constructor(storage: Storage) {
    this.storage = storage;
  }

  add(row: Omit<HeldRow, "id">, heldAtMs: number): void {
    this.storage.run(
      `INSERT INTO held (reason, bytes, sender, sender_device, identity_key, subject, sent_at, accepted_at, held_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      [
        row.reason,
        row.bytes,
        row.sender?.accountId ?? null,
        row.sender?.deviceId ?? null,
        row.identityKey ?? null,
        row.subject ?? null,
        row.sentAtMs,
        row.acceptedAtMs,
        heldAtMs,
      ],
    );
  }

  /** In the order they came. */
  of(reason: HeldReason, subject?: Bytes): readonly HeldRow[] {
    const rows =
      subject === undefined
        ? this.storage.all("SELECT * FROM held WHERE reason = ? ORDER BY id LIMIT 500", [reason])
        : this.storage.all("SELECT * FROM held WHERE reason = ? AND subject = ? ORDER BY id", [
            reason,
            subject,
          ]);
    return rows.map(rowOf);
  }

  /** The first that came behind this one, 0 for the first of all: for whoever goes through however many there are. */
  after(reason: HeldReason, id: number): HeldRow | undefined {
    const row = this.storage.get("SELECT * FROM held WHERE reason = ? AND id > ? ORDER BY id LIMIT 1", [
      reason,
      id,
    ]);
    return row === undefined ? undefined : rowOf(row);
  }

  /** How much is held of a subject, and when the service took the last of it, ms since 1970; 0 for nothing. */
  extent(reason: HeldReason, subject: Bytes): { readonly count: number; readonly lastAtMs: number } {
    const row = this.storage.get(
      "SELECT count(*) AS n, max(accepted_at) AS last FROM held WHERE reason = ? AND subject = ?",
      [reason, subject],
    );
    return { count: row?.["n"] as number, lastAtMs: (row?.["last"] as number | null | undefined) ?? 0 };
  }

  hasOf(reason: HeldReason, subject: Bytes): boolean {
    return (
      this.storage.get("SELECT 1 AS ok FROM held WHERE reason = ? AND subject = ? LIMIT 1", [
        reason,
        subject,
      ]) !== undefined
    );
  }

  /** How much is held of what one device said, in one group or in all. */
  countFrom(
    reason: HeldReason,
    { accountId: account, deviceId: device }: DeviceAddress,
    subject?: Bytes,
  ): number {
    const from = "SELECT count(*) AS n FROM held WHERE reason = ? AND sender = ? AND sender_device = ?";
    const row =
      subject === undefined
        ? this.storage.get(from, [reason, account, device])
        : this.storage.get(`${from} AND subject = ?`, [reason, account, device, subject]);
    return row?.["n"] as number;
  }

  /** Whether so much is held of what one device said in a group. O(what is held of it). */
  hasFromOne(reason: HeldReason, subject: Bytes, count: number): boolean {
    const sql = `SELECT 1 AS ok FROM held WHERE reason = ? AND subject = ?
                   GROUP BY sender, sender_device HAVING count(*) >= ? LIMIT 1`;
    return this.storage.get(sql, [reason, subject, count]) !== undefined;
  }

  /** When the oldest was put down, ms since 1970. */
  oldest(reason: HeldReason): number | undefined {
    const row = this.storage.get("SELECT min(held_at) AS at FROM held WHERE reason = ?", [reason]);
    return (row?.["at"] as number | null | undefined) ?? undefined;
  }

  /** Conversations or groups of which something is held. */
  subjects(reason: HeldReason): readonly Bytes[] {
    return this.storage
      .all("SELECT DISTINCT subject FROM held WHERE reason = ?", [reason])
      .map((row) => new Uint8Array(row["subject"] as Bytes));
  }

  remove(id: number): void {
    this.storage.run("DELETE FROM held WHERE id = ?", [id]);
  }

  removeOf(subject: Bytes): void {
    this.storage.run("DELETE FROM held WHERE subject = ?", [subject]);
  }

  forgetOld(beforeMs: number): void {
    this.storage.run("DELETE FROM held WHERE held_at < ?", [beforeMs]);
  }
}

import type { Bytes } from "@murmuration/base";
import type { GroupMark, GroupPastCommit } from "@murmuration/wire";
import type { Row, Storage } from "../ports/storage.ts";

const bytesOf = (row: Row, key: string): Bytes => new Uint8Array(row[key] as Bytes);

/** Marks of the newest entries are all kept; of older ones fewer and fewer: every so many within this distance. */
const SPACING = [
  { within: 64, every: 16 },
  { within: 1_024, every: 256 },
  { within: 65_536, every: 4_096 },
] as const;
/** Every entry with such a number is marked; others where a batch ends. */
export const MARKED_EVERY = 16;

/** An own message that the log has shown, or that the service has accepted. */
export interface SentRow {
  readonly outboxId: number;
  /** SHA-256 of the message. */
  readonly hash: Bytes;
}

/** A group in its first epoch, as the service was told of it. */
export interface Creation {
  readonly groupInfo: Bytes;
  readonly ratchetTree: Bytes;
}

/** What this device keeps of a group's past, in case the service is set back: handshakes, marks, own messages. */
export class MlsPast {
  private readonly storage: Storage;

  constructor(storage: Storage) {
    this.storage = storage;
  }

  // Handshakes.

  /** `epoch`: that of the message. The same message again changes nothing. */
  addHandshake(
    id: Bytes,
    handshake: {
      readonly kind: "proposal" | "commit";
      readonly epoch: number;
      readonly message: Bytes;
      readonly hash: Bytes;
      readonly banList?: Bytes | undefined;
    },
    atMs: number,
  ): void {
    const { banList, epoch, hash, kind, message } = handshake;
    this.storage.run(
      `INSERT INTO mls_past (group_id, epoch, kind, message, hash, ban_list, at) VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING`,
      [id, epoch, kind, message, hash, banList ?? null, atMs],
    );
  }

  /** The commit that led on from this epoch was taken back; proposals of the epoch stay. */
  takeBack(id: Bytes, epoch: number): void {
    this.storage.run(
      "DELETE FROM mls_past WHERE group_id = ? AND (epoch > ? OR (epoch = ? AND kind = 'commit'))",
      [id, epoch, epoch],
    );
  }

  /** SHA-256 of the commit that led on from this epoch. */
  commitHash(id: Bytes, epoch: number): Bytes | undefined {
    const row = this.storage.get(
      "SELECT hash FROM mls_past WHERE group_id = ? AND epoch = ? AND kind = 'commit'",
      [id, epoch],
    );
    return row === undefined ? undefined : bytesOf(row, "hash");
  }

  /** Proposals of this epoch, in the order of the log. */
  proposals(id: Bytes, epoch: number): readonly Bytes[] {
    return this.storage
      .all(
        "SELECT message FROM mls_past WHERE group_id = ? AND epoch = ? AND kind = 'proposal' ORDER BY number",
        [id, epoch],
      )
      .map((row) => bytesOf(row, "message"));
  }

  /** The commits from one epoch to another, each with the proposals of its epoch; undefined where one is missing. */
  commits(id: Bytes, from: number, to: number): readonly GroupPastCommit[] | undefined {
    const rows = this.storage.all(
      "SELECT epoch, kind, message, ban_list FROM mls_past WHERE group_id = ? AND epoch >= ? AND epoch < ? ORDER BY number",
      [id, from, to],
    );
    const commits: GroupPastCommit[] = [];
    for (let epoch = from; epoch < to; epoch++) {
      const ofEpoch = rows.filter((row) => row["epoch"] === epoch);
      const commit = ofEpoch.find((row) => row["kind"] === "commit");
      if (commit === undefined) return undefined;
      commits.push({
        commit: bytesOf(commit, "message"),
        proposals: ofEpoch.filter((row) => row["kind"] === "proposal").map((row) => bytesOf(row, "message")),
        ...(commit["ban_list"] === null ? {} : { banList: bytesOf(commit, "ban_list") }),
      });
    }
    return commits;
  }

  /** Bytes that are kept of one group. Reads no message. */
  private bytes(id: Bytes): number {
    const row = this.storage.get(
      "SELECT total(length(message) + ifnull(length(ban_list), 0)) AS n FROM mls_past WHERE group_id = ?",
      [id],
    );
    return row?.["n"] as number;
  }

  /** Forgets the oldest epochs of a group until what is left is small enough. */
  shrink(id: Bytes, maxBytes: number): void {
    while (this.bytes(id) > maxBytes) {
      this.storage.run(
        `DELETE FROM mls_past WHERE group_id = ? AND epoch IN
           (SELECT DISTINCT epoch FROM mls_past WHERE group_id = ? ORDER BY epoch LIMIT 8)`,
        [id, id],
      );
    }
  }

  // How it began.

  /** What this device told the service when it made the group. */
  putCreation(id: Bytes, { groupInfo, ratchetTree }: Creation, atMs: number): void {
    this.storage.run(
      "INSERT OR REPLACE INTO mls_creation (group_id, group_info, tree, at) VALUES (?, ?, ?, ?)",
      [id, groupInfo, ratchetTree, atMs],
    );
  }

  creation(id: Bytes): Creation | undefined {
    const row = this.storage.get("SELECT group_info, tree FROM mls_creation WHERE group_id = ?", [id]);
    return row && { groupInfo: bytesOf(row, "group_info"), ratchetTree: bytesOf(row, "tree") };
  }

  // Marks.

  addMark(id: Bytes, { sequence, hash }: GroupMark): void {
    this.storage.run("INSERT OR REPLACE INTO mls_mark VALUES (?, ?, ?)", [id, sequence, hash]);
    if (sequence % MARKED_EVERY !== 0) return;
    for (const { within, every } of SPACING) {
      this.storage.run("DELETE FROM mls_mark WHERE group_id = ? AND sequence < ? AND sequence % ? <> 0", [
        id,
        sequence - within,
        every,
      ]);
    }
  }

  /** Newest first. */
  marks(id: Bytes): readonly GroupMark[] {
    return this.storage
      .all("SELECT sequence, hash FROM mls_mark WHERE group_id = ? ORDER BY sequence DESC", [id])
      .map((row) => ({ sequence: row["sequence"] as number, hash: bytesOf(row, "hash") }));
  }

  // Own messages.

  putSent(id: Bytes, sent: SentRow, sequence: number, atMs: number): void {
    this.storage.run("INSERT OR REPLACE INTO mls_sent VALUES (?, ?, ?, ?, 0, ?)", [
      sent.outboxId,
      id,
      sequence,
      sent.hash,
      atMs,
    ]);
  }

  /** The log shows it (again), at this place. False where it is none of those. */
  foundSent(id: Bytes, hash: Bytes, sequence: number): boolean {
    const { changes } = this.storage.run(
      "UPDATE mls_sent SET sequence = ?, lost = 0 WHERE group_id = ? AND hash = ?",
      [sequence, id, hash],
    );
    return changes > 0;
  }

  deleteSent(outboxId: number): void {
    this.storage.run("DELETE FROM mls_sent WHERE outbox_id = ?", [outboxId]);
  }

  /** Of these numbers, as the log has them. */
  sentBetween(id: Bytes, after: number, before: number): readonly SentRow[] {
    return this.storage
      .all(
        "SELECT outbox_id, hash FROM mls_sent WHERE group_id = ? AND sequence > ? AND sequence < ? ORDER BY sequence",
        [id, after, before],
      )
      .map(sentOf);
  }

  lost(id: Bytes): readonly SentRow[] {
    return this.storage
      .all("SELECT outbox_id, hash FROM mls_sent WHERE group_id = ? AND lost = 1 ORDER BY outbox_id", [id])
      .map(sentOf);
  }

  /** Marks as lost what was accepted and has not been shown. */
  loseUnshown(id: Bytes, atMs: number): void {
    this.storage.run(
      `INSERT OR REPLACE INTO mls_sent
         SELECT p.outbox_id, p.group_id, 0, p.hash, 1, ? FROM mls_part p JOIN outbox o ON o.id = p.outbox_id
         WHERE p.group_id = ? AND p.shown_at IS NULL AND o.state = 'accepted'`,
      [atMs, id],
    );
  }

  // The log is another one.

  /** Back to the newest entry that both logs have; what is read up to `through` is known in part. */
  goBack(id: Bytes, cursor: number, through: number): void {
    this.storage.run(
      "UPDATE mls_group SET cursor = ?, reread_through = ?, refused_at = 0, refusal = '' WHERE id = ?",
      [cursor, through, id],
    );
    this.storage.run("DELETE FROM mls_mark WHERE group_id = ? AND sequence > ?", [id, cursor]);
    this.storage.run("UPDATE mls_sent SET lost = 1 WHERE group_id = ? AND sequence > ?", [id, cursor]);
  }

  dropUndoBehind(id: Bytes, sequence: number): void {
    this.storage.run("DELETE FROM mls_undo WHERE group_id = ? AND sequence > ?", [id, sequence]);
  }

  endReread(id: Bytes): void {
    this.storage.run("UPDATE mls_group SET reread_through = 0 WHERE id = ?", [id]);
  }

  // Forgetting.

  /** The group begins anew for this device: of what was before it knows too little to tell anybody. */
  forget(id: Bytes): void {
    this.storage.run("DELETE FROM mls_past WHERE group_id = ?", [id]);
    this.storage.run("DELETE FROM mls_mark WHERE group_id = ?", [id]);
    this.storage.run("DELETE FROM mls_creation WHERE group_id = ?", [id]);
    this.endReread(id);
  }

  /** Own messages are known as long as the outbox has them to send again. */
  forgetOld(beforeMs: number): void {
    this.storage.run("DELETE FROM mls_past WHERE at < ?", [beforeMs]);
    this.storage.run("DELETE FROM mls_creation WHERE at < ?", [beforeMs]);
    this.storage.run("DELETE FROM mls_sent WHERE outbox_id NOT IN (SELECT id FROM outbox)");
  }
}

const sentOf = (row: Row): SentRow => ({
  outboxId: row["outbox_id"] as number,
  hash: bytesOf(row, "hash"),
});

import {
  type AccountId,
  accountId,
  type Bytes,
  type DeviceId,
  deviceId,
  equalBytes,
  type GroupId,
  ID_BYTES,
  UsageError,
} from "@murmuration/base";
import type { GroupStore, GroupWrites, JoinApproval } from "@murmuration/mls-groups";
import { formatInviteLink, type InviteLink, parseInviteLink } from "../core/invite-link.ts";
import type { Row, Storage } from "../ports/storage.ts";
import { KeptRows, type KeptStorage, keyOf } from "./kept-storage.ts";
import { MlsNames } from "./mls-names.ts";
import { MlsPast } from "./mls-past.ts";

/**
 * `creating`: the service has not taken it yet. `waiting`: somebody has to let us in: an admin who approves, or whoever prepares
 * the group of a conversation that migrates. `joining`: our external commit is on its way. `stuck`: a commit cannot
 * be followed, and we join again. `over`: removed, left, or never came into being.
 */
export type MlsGroupState = "creating" | "waiting" | "joining" | "active" | "stuck" | "over";

/** In the place of the time when a profile was said. */
export const PROFILE_OWED = -1;

/** In mls_undo, behind a prefix: no key of the engine ends so. */
const WHATEVER_FOLLOWS = "*";

export interface MlsGroupRow {
  readonly id: Bytes;
  readonly state: MlsGroupState;
  /** The log entry up to which everything is in this database. */
  readonly cursor: number;
  readonly slot: number;
  /** The group profile as it was last said. */
  readonly profile: Bytes | undefined;
  /** {@link PROFILE_OWED}: this device has added members and did not know yet what to tell them. */
  readonly profileSaidAtMs: number;
  /** Somebody has asked for the group profile since it was last said. */
  readonly profileWanted: boolean;
  /** When this device came into the group, the last time. */
  readonly enteredAtMs: number;
  /** The group profile that a commit of ours brings, from before it is made until the log shows it. */
  readonly nextProfile: Bytes | undefined;
  /** When our leaf last got fresh keys. */
  readonly updatedAtMs: number;
  /** The commit that this device cannot follow and has refused; 0 for none. */
  readonly refusedAt: number;
  /** The code of the refusal. */
  readonly refusal: string;
  /** Other members are in another group under the same name: nothing is said any more. */
  readonly forked: boolean;
  readonly reportedEpoch: number;
  readonly reportedAtMs: number;
  /** This device joins from outside as one of an account that the group expects. */
  readonly joinsExpected: boolean;
  /** Up to there the log is read a second time; 0: it is not. */
  readonly rereadThrough: number;
}

/** What has to be known of a commit to judge whether it was taken back. */
export interface ProvisionalRow {
  /** SHA-256 of the commit message. */
  readonly hash: Bytes;
  /** Accounts whose word against it does not count. */
  readonly silent: readonly AccountId[];
}

export interface LeafRow {
  readonly leaf: number;
  readonly account: AccountId;
  readonly device: DeviceId;
}

export interface KeyPackageRow {
  readonly reference: Bytes;
  readonly message: Bytes;
  readonly initPrivateKey: Bytes;
  readonly leafPrivateKey: Bytes;
  readonly lastResort: boolean;
  readonly expiresAtMs: number;
}

export interface WelcomeRow {
  readonly id: number;
  /** Of the MLS group, which a conversation may have under another id. */
  readonly groupId: Bytes;
  readonly welcome: Bytes;
  readonly treeHash: Bytes;
  readonly sequence: number;
}

export interface MlsPart {
  readonly outboxId: number;
  readonly groupId: Bytes;
  readonly submitId: Bytes;
  readonly message: Bytes;
  readonly hash: Bytes;
  readonly epoch: number;
}

export type JobAction = "add" | "remove";
/** A ban that was ordered stays written down until its commit is through. */
export type WrittenAction = JobAction | "ban";
/** `claimed`: KeyPackages are here. `failed`: the application is told why. */
export interface JobRow {
  readonly account: AccountId;
  readonly action: WrittenAction;
  readonly state: "waiting" | "claimed" | "failed";
  readonly failure: string | undefined;
}

/** A device that asks to be let in by a link of ours. */
export interface JoinRequestRow {
  readonly account: AccountId;
  readonly device: DeviceId;
  readonly linkId: Bytes;
  /** Of the leaf that it would join with. */
  readonly signatureKey: Bytes;
  readonly refused: boolean;
  readonly atMs: number;
}

export interface ClaimedRow {
  readonly account: AccountId;
  readonly device: DeviceId;
  readonly keyPackage: Bytes;
}

const bytesOf = (row: Row, key: string): Bytes => new Uint8Array(row[key] as Bytes);

function groupOf(row: Row): MlsGroupRow {
  return {
    id: bytesOf(row, "id"),
    state: row["state"] as MlsGroupState,
    cursor: row["cursor"] as number,
    slot: row["slot"] as number,
    profile: row["profile"] === null ? undefined : bytesOf(row, "profile"),
    profileSaidAtMs: row["profile_said_at"] as number,
    profileWanted: row["profile_wanted"] === 1,
    enteredAtMs: row["entered_at"] as number,
    nextProfile: row["next_profile"] === null ? undefined : bytesOf(row, "next_profile"),
    updatedAtMs: row["updated_at"] as number,
    refusedAt: row["refused_at"] as number,
    refusal: row["refusal"] as string,
    forked: row["forked"] === 1,
    reportedEpoch: row["reported_epoch"] as number,
    reportedAtMs: row["reported_at"] as number,
    joinsExpected: row["joins_expected"] === 1,
    rereadThrough: row["reread_through"] as number,
  };
}

function partOf(row: Row): MlsPart {
  return {
    outboxId: row["outbox_id"] as number,
    groupId: bytesOf(row, "group_id"),
    submitId: bytesOf(row, "submit_id"),
    message: bytesOf(row, "message"),
    hash: bytesOf(row, "hash"),
    epoch: row["epoch"] as number,
  };
}

/** The rows of one group in the engine's own form, under one slot. */
class SlotRows implements GroupStore {
  private readonly storage: Storage;
  private readonly group: Bytes;
  private readonly slot: number;

  constructor(storage: Storage, group: Bytes, slot: number) {
    this.storage = storage;
    this.group = group;
    this.slot = slot;
  }

  get(key: string): Uint8Array | undefined {
    const row = this.storage.get("SELECT value FROM mls_row WHERE group_id = ? AND slot = ? AND key = ?", [
      this.group,
      this.slot,
      key,
    ]);
    return row === undefined ? undefined : bytesOf(row, "value");
  }

  keys(prefix: string): Iterable<string> {
    return this.storage
      .all("SELECT key FROM mls_row WHERE group_id = ? AND slot = ? AND substr(key, 1, ?) = ?", [
        this.group,
        this.slot,
        prefix.length,
        prefix,
      ])
      .map((row) => row["key"] as string);
  }

  apply(writes: GroupWrites): void {
    for (const key of writes.deletes) {
      this.storage.run("DELETE FROM mls_row WHERE group_id = ? AND slot = ? AND key = ?", [
        this.group,
        this.slot,
        key,
      ]);
    }
    for (const prefix of writes.deletePrefixes) {
      this.storage.run("DELETE FROM mls_row WHERE group_id = ? AND slot = ? AND substr(key, 1, ?) = ?", [
        this.group,
        this.slot,
        prefix.length,
        prefix,
      ]);
    }
    for (const [key, value] of writes.puts) {
      this.storage.run(
        `INSERT INTO mls_row (group_id, slot, key, value) VALUES (?, ?, ?, ?)
           ON CONFLICT DO UPDATE SET value = excluded.value`,
        [this.group, this.slot, key, value],
      );
    }
  }
}

/** What is kept of a group beside its row and the rows of the engine. */
const GROUP_TABLES = [
  "mls_leaf",
  "mls_commit",
  "mls_part",
  "mls_job",
  "mls_claimed",
  "mls_link",
  "mls_join",
  "mls_join_request",
  "mls_undo",
  "mls_provisional",
  "mls_epoch",
  "mls_dispute",
  "mls_past",
  "mls_creation",
  "mls_mark",
  "mls_sent",
] as const;

/** MLS groups in the database of the client. */
const leafOf = (row: Row): LeafRow => ({
  leaf: row["leaf"] as number,
  account: accountId(bytesOf(row, "account")),
  device: deviceId(row["device"] as number),
});

export class MlsStore {
  readonly past: MlsPast;
  private readonly names: MlsNames;
  private readonly storage: Storage;
  /** What every message asks for several times. */
  private readonly groupRows: KeptRows<MlsGroupRow>;
  private readonly newestEpochs: KeptRows<{ readonly epoch: number; readonly hash: Bytes }>;
  private readonly undoable: KeptRows<boolean>;
  /** Parts that the log has not shown, from when they are made to when it does. */
  private readonly unshown: KeptRows<MlsPart>;

  constructor(storage: KeptStorage) {
    this.past = new MlsPast(storage);
    this.names = new MlsNames(storage);
    this.storage = storage;
    this.groupRows = new KeptRows(storage, "mls_group");
    this.newestEpochs = new KeptRows(storage, "mls_epoch");
    this.undoable = new KeptRows(storage, "mls_undo");
    this.unshown = new KeptRows(storage, "mls_part");
  }

  // Groups.

  group(id: Bytes): MlsGroupRow | undefined {
    return this.groupRows.get(keyOf(id), () => {
      const row = this.storage.get("SELECT * FROM mls_group WHERE id = ?", [id]);
      return row === undefined ? undefined : groupOf(row);
    });
  }

  groups(): readonly MlsGroupRow[] {
    return this.storage.all("SELECT * FROM mls_group ORDER BY id").map(groupOf);
  }

  // What others call a group: shell/communities/group-names.ts.

  /** The id of the MLS group that carries a conversation. O(1), no statement. */
  wireIdOf(id: Bytes): GroupId {
    return this.names.wireIdOf(id);
  }

  /** The conversation that an MLS group carries. O(1), no statement. */
  conversationOf(wireId: Bytes): GroupId {
    return this.names.conversationOf(wireId);
  }

  /** A transaction was undone, and with it whatever it had said of names. */
  undone(): void {
    this.names.undone();
  }

  /**
   * Inside a transaction: from here on this MLS group is the one that carries a conversation, and this device waits to
   * come in; of a group that carried it before nothing counts any more. UsageError `group/name-taken` where another
   * conversation has the group.
   */
  expectGroup(id: GroupId, wireId: GroupId): void {
    const owner = this.conversationOf(wireId);
    const taken = equalBytes(owner, wireId) ? this.group(wireId) !== undefined : !equalBytes(owner, id);
    if (taken && !equalBytes(id, wireId)) throw new UsageError("group/name-taken");
    // Its Welcome may have come before this device knew what for.
    this.forgetGroup(id, { keepWelcomes: true });
    this.putGroup(id, { state: "waiting", cursor: 0, slot: 0, updatedAtMs: 0, wireId });
  }

  /**
   * Inside a transaction: a group that this device knows by the group's own name carries another conversation. Whatever is
   * kept of it goes by that one from here on.
   */
  giveTo(id: GroupId, wireId: GroupId): void {
    this.forgetGroup(id, { keepWelcomes: true });
    for (const table of [...GROUP_TABLES, "mls_row"])
      this.storage.run(`UPDATE ${table} SET group_id = ? WHERE group_id = ?`, [id, wireId]);
    this.storage.run("UPDATE mls_group SET id = ?, wire_id = ? WHERE id = ?", [id, wireId, wireId]);
    this.names.changed();
  }

  /** A group that begins anew, whatever was known of it before. `wireId`: it has another id than the conversation. */
  putGroup(
    id: Bytes,
    row: Pick<MlsGroupRow, "state" | "cursor" | "slot" | "updatedAtMs"> & { readonly wireId?: GroupId },
  ): void {
    this.storage.run(
      `INSERT INTO mls_group (id, state, cursor, slot, updated_at, wire_id) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET state = excluded.state, cursor = excluded.cursor, slot = excluded.slot,
         updated_at = excluded.updated_at, wire_id = coalesce(excluded.wire_id, wire_id),
         refused_at = 0, forked = 0, joins_expected = 0`,
      [id, row.state, row.cursor, row.slot, row.updatedAtMs, row.wireId ?? null],
    );
    if (row.wireId !== undefined) this.names.changed();
    this.past.forget(id);
  }

  setState(id: Bytes, state: MlsGroupState): void {
    this.storage.run("UPDATE mls_group SET state = ? WHERE id = ?", [state, id]);
  }

  setCursor(id: Bytes, cursor: number): void {
    const write = () => this.storage.run("UPDATE mls_group SET cursor = ? WHERE id = ?", [cursor, id]);
    this.groupRows.writeThrough(keyOf(id), write, (row) => ({ ...row, cursor }));
  }

  /** 0: the group is where this device is. */
  setRefused(id: Bytes, sequence: number, code = ""): void {
    this.storage.run("UPDATE mls_group SET refused_at = ?, refusal = ? WHERE id = ?", [sequence, code, id]);
  }

  setForked(id: Bytes, forked: boolean): void {
    this.storage.run("UPDATE mls_group SET forked = ? WHERE id = ?", [forked ? 1 : 0, id]);
  }

  setReported(id: Bytes, epoch: number, atMs: number): void {
    this.storage.run("UPDATE mls_group SET reported_epoch = ?, reported_at = ? WHERE id = ?", [
      epoch,
      atMs,
      id,
    ]);
  }

  setUpdated(id: Bytes, atMs: number): void {
    this.storage.run("UPDATE mls_group SET updated_at = ? WHERE id = ?", [atMs, id]);
  }

  /** The group profile as it is said now, by whomever. */
  setProfile(id: Bytes, profile: Bytes, atMs: number): void {
    this.storage.run(
      "UPDATE mls_group SET profile = ?, profile_said_at = ?, profile_wanted = 0 WHERE id = ?",
      [profile, atMs, id],
    );
  }

  setJoinsExpected(id: Bytes, expected: boolean): void {
    this.storage.run("UPDATE mls_group SET joins_expected = ? WHERE id = ?", [expected ? 1 : 0, id]);
  }

  setEntered(id: Bytes, atMs: number): void {
    this.storage.run("UPDATE mls_group SET entered_at = ? WHERE id = ?", [atMs, id]);
  }

  wantProfile(id: Bytes): void {
    this.storage.run("UPDATE mls_group SET profile_wanted = 1 WHERE id = ?", [id]);
  }

  setProfileOwed(id: Bytes): void {
    this.storage.run("UPDATE mls_group SET profile_said_at = ? WHERE id = ?", [PROFILE_OWED, id]);
  }

  setNextProfile(id: Bytes, profile: Bytes | null): void {
    this.storage.run("UPDATE mls_group SET next_profile = ? WHERE id = ?", [profile, id]);
  }

  rows(id: Bytes, slot: number): GroupStore {
    return new SlotRows(this.storage, id, slot);
  }

  // Taking the newest commit back.

  /**
   * Applies what a commit writes and keeps what it replaces; what an earlier commit replaced is past recall. Whatever comes
   * to stand under a prefix that the commit clears belongs to its epoch, and is taken back with it.
   */
  applyCommit(id: Bytes, slot: number, writes: GroupWrites, sequence: number, atMs: number): void {
    const store = this.rows(id, slot);
    this.dropUndo(id);
    const keys = new Set([...writes.puts.keys(), ...writes.deletes]);
    for (const prefix of writes.deletePrefixes) {
      keys.add(prefix + WHATEVER_FOLLOWS);
      for (const key of store.keys(prefix)) keys.add(key);
    }
    for (const key of keys) {
      const before = store.get(key);
      this.storage.run("INSERT INTO mls_undo VALUES (?, ?, ?, ?, ?)", [
        id,
        key,
        before === undefined ? null : new Uint8Array(before),
        sequence,
        atMs,
      ]);
    }
    store.apply(writes);
  }

  /** Puts everything back to before the commit at this sequence number. False where that cannot be done any more. */
  undo(id: Bytes, slot: number, sequence: number): boolean {
    const rows = this.storage.all("SELECT key, value FROM mls_undo WHERE group_id = ? AND sequence = ?", [
      id,
      sequence,
    ]);
    if (rows.length === 0) return false;
    const puts = new Map<string, Bytes>();
    const deletes: string[] = [];
    const deletePrefixes: string[] = [];
    for (const row of rows) {
      const key = row["key"] as string;
      if (row["value"] !== null) puts.set(key, bytesOf(row, "value"));
      else if (key.endsWith(WHATEVER_FOLLOWS)) deletePrefixes.push(key.slice(0, -1));
      else deletes.push(key);
    }
    this.rows(id, slot).apply({ puts, deletes, deletePrefixes });
    this.dropUndo(id);
    return true;
  }

  /**
   * What a void entry for the commit at this sequence number will have to prove. What is known of others goes, but for one
   * that can still be taken back: where this one is, it becomes the newest again.
   */
  noteProvisional(id: Bytes, sequence: number, { hash, silent }: ProvisionalRow): void {
    this.storage.run(
      `DELETE FROM mls_provisional WHERE group_id = ? AND sequence NOT IN
         (SELECT sequence FROM mls_undo WHERE group_id = ?)`,
      [id, id],
    );
    const accounts = new Uint8Array(Buffer.concat(silent));
    this.storage.run("INSERT OR REPLACE INTO mls_provisional VALUES (?, ?, ?, ?)", [
      id,
      sequence,
      hash,
      accounts,
    ]);
  }

  provisional(id: Bytes, sequence: number): ProvisionalRow | undefined {
    const sql = "SELECT hash, silent FROM mls_provisional WHERE group_id = ? AND sequence = ?";
    const row = this.storage.get(sql, [id, sequence]);
    if (row === undefined) return undefined;
    const accounts = bytesOf(row, "silent");
    const silent = Array.from({ length: accounts.length / ID_BYTES }, (_, at) =>
      accountId(accounts.subarray(at * ID_BYTES, (at + 1) * ID_BYTES)),
    );
    return { hash: bytesOf(row, "hash"), silent };
  }

  dropUndo(id: Bytes): void {
    this.storage.run("DELETE FROM mls_undo WHERE group_id = ?", [id]);
  }

  /** Whether there is a state of the group that can be loaded. */
  hasRows(id: Bytes): boolean {
    const slot = this.group(id)?.slot ?? 0;
    const known = this.storage.get("SELECT 1 AS known FROM mls_row WHERE group_id = ? AND slot = ? LIMIT 1", [
      id,
      slot,
    ]);
    return known !== undefined;
  }

  hasUndo(id: Bytes): boolean {
    const sql = "SELECT 1 AS known FROM mls_undo WHERE group_id = ? LIMIT 1";
    return this.undoable.get(keyOf(id), () => this.storage.get(sql, [id]) !== undefined)!;
  }

  /** When the oldest commit that can be taken back was applied. */
  oldestUndo(): number | undefined {
    return (this.storage.get("SELECT min(at) AS at FROM mls_undo")?.["at"] as number | null) ?? undefined;
  }

  /** What can be taken back no longer, with the messages that would have had to be said again. True for anything. */
  dropOldUndo(beforeMs: number): boolean {
    if (this.storage.run("DELETE FROM mls_undo WHERE at < ?", [beforeMs]).changes === 0) return false;
    this.storage.run(
      "DELETE FROM mls_part WHERE shown_at IS NOT NULL AND group_id NOT IN (SELECT group_id FROM mls_undo)",
    );
    return true;
  }

  // Epochs.

  putEpoch(id: Bytes, epoch: number, hash: Bytes): void {
    this.storage.run("INSERT OR REPLACE INTO mls_epoch VALUES (?, ?, ?)", [id, epoch, hash]);
  }

  epochHash(id: Bytes, epoch: number): Bytes | undefined {
    const row = this.storage.get("SELECT hash FROM mls_epoch WHERE group_id = ? AND epoch = ?", [id, epoch]);
    return row === undefined ? undefined : bytesOf(row, "hash");
  }

  newestEpoch(id: Bytes): { readonly epoch: number; readonly hash: Bytes } | undefined {
    const sql = "SELECT epoch, hash FROM mls_epoch WHERE group_id = ? ORDER BY epoch DESC LIMIT 1";
    return this.newestEpochs.get(keyOf(id), () => {
      const row = this.storage.get(sql, [id]);
      return row === undefined ? undefined : { epoch: row["epoch"] as number, hash: bytesOf(row, "hash") };
    });
  }

  /** Groups that this device is in beside this account. A search by key for each group of ours. */
  sharedWith(account: AccountId): readonly Bytes[] {
    return this.storage
      .all(
        `SELECT id FROM mls_group JOIN group_member ON group_id = id AND account = ?
           WHERE mls_group.state = 'active' AND removed_at IS NULL`,
        [account],
      )
      .map((row) => bytesOf(row, "id"));
  }

  /** With what others said of them. */
  forgetEpochs(id: Bytes, before: number): void {
    for (const table of ["mls_epoch", "mls_dispute"])
      this.storage.run(`DELETE FROM ${table} WHERE group_id = ? AND epoch < ?`, [id, before]);
  }

  /** With what others said of them. */
  deleteEpochsFrom(id: Bytes, epoch: number): void {
    for (const table of ["mls_epoch", "mls_dispute"])
      this.storage.run(`DELETE FROM ${table} WHERE group_id = ? AND epoch >= ?`, [id, epoch]);
  }

  /** An account says that it knows this epoch otherwise. False where it has said so of some epoch before. */
  addDispute(id: Bytes, account: AccountId, epoch: number): boolean {
    const sql = "INSERT OR IGNORE INTO mls_dispute VALUES (?, ?, ?)";
    return this.storage.run(sql, [id, account, epoch]).changes > 0;
  }

  disputants(id: Bytes): readonly AccountId[] {
    return this.storage
      .all("SELECT account FROM mls_dispute WHERE group_id = ?", [id])
      .map((row) => accountId(bytesOf(row, "account")));
  }

  /** The secrets of a group that is over, or of a slot that is not in force. */
  deleteRows(id: Bytes, slot?: number): void {
    this.dropUndo(id);
    if (slot === undefined) this.storage.run("DELETE FROM mls_row WHERE group_id = ?", [id]);
    else this.storage.run("DELETE FROM mls_row WHERE group_id = ? AND slot = ?", [id, slot]);
  }

  /** Everything of a group but its history. */
  delete(id: Bytes): void {
    this.forgetGroup(id, { keepWelcomes: false });
  }

  private forgetGroup(id: Bytes, { keepWelcomes }: { readonly keepWelcomes: boolean }): void {
    this.deleteRows(id);
    for (const table of GROUP_TABLES) this.storage.run(`DELETE FROM ${table} WHERE group_id = ?`, [id]);
    if (!keepWelcomes)
      this.storage.run("DELETE FROM mls_welcome WHERE group_id = ?", [new Uint8Array(this.wireIdOf(id))]);
    this.storage.run("DELETE FROM mls_group WHERE id = ?", [id]);
    this.names.changed();
  }

  // Leaves.

  putLeaf(id: Bytes, { leaf, account, device }: LeafRow): void {
    this.storage.run(
      `INSERT INTO mls_leaf (group_id, leaf, account, device) VALUES (?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET account = excluded.account, device = excluded.device`,
      [id, leaf, account, device],
    );
  }

  deleteLeaf(id: Bytes, leaf: number): void {
    this.storage.run("DELETE FROM mls_leaf WHERE group_id = ? AND leaf = ?", [id, leaf]);
  }

  /** Replaces all leaves. One question, and a write for each that is another than before. */
  saveLeaves(id: Bytes, leaves: readonly LeafRow[]): void {
    const before = new Map(this.leaves(id).map((row) => [row.leaf, row]));
    for (const row of leaves) {
      const known = before.get(row.leaf);
      before.delete(row.leaf);
      if (known?.device === row.device && equalBytes(known.account, row.account)) continue;
      this.putLeaf(id, row);
    }
    for (const leaf of before.keys()) this.deleteLeaf(id, leaf);
  }

  /** Every leaf. O(members). */
  leaves(id: Bytes): readonly LeafRow[] {
    return this.storage.all("SELECT * FROM mls_leaf WHERE group_id = ? ORDER BY leaf", [id]).map(leafOf);
  }

  leavesOf(id: Bytes, account: AccountId): readonly LeafRow[] {
    return this.storage
      .all("SELECT * FROM mls_leaf WHERE group_id = ? AND account = ? ORDER BY leaf", [id, account])
      .map(leafOf);
  }

  // KeyPackages.

  addKeyPackage(row: KeyPackageRow, upload: Bytes, atMs: number): void {
    this.storage.run("INSERT INTO mls_key_package VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [
      row.reference,
      row.message,
      row.initPrivateKey,
      row.leafPrivateKey,
      row.lastResort ? 1 : 0,
      row.expiresAtMs,
      upload,
      atMs,
    ]);
  }

  keyPackage(reference: Bytes): KeyPackageRow | undefined {
    const row = this.storage.get("SELECT * FROM mls_key_package WHERE reference = ?", [reference]);
    return row === undefined ? undefined : keyPackageOf(row);
  }

  /** Those of an upload that the service has not confirmed yet. */
  unconfirmedKeyPackages(): { readonly upload: Bytes; readonly rows: readonly KeyPackageRow[] } | undefined {
    const first = this.storage.get(
      "SELECT upload FROM mls_key_package WHERE upload IS NOT NULL ORDER BY created_at LIMIT 1",
    );
    if (first === undefined) return undefined;
    const upload = bytesOf(first, "upload");
    const rows = this.storage.all("SELECT * FROM mls_key_package WHERE upload = ?", [upload]);
    return { upload, rows: rows.map(keyPackageOf) };
  }

  confirmKeyPackages(upload: Bytes): void {
    this.storage.run("UPDATE mls_key_package SET upload = NULL WHERE upload = ?", [upload]);
  }

  /** Pictures that are looked after. O(their number). */
  picturesDue(): readonly Bytes[] {
    return this.storage.all("SELECT blob FROM picture_due").map((row) => bytesOf(row, "blob"));
  }

  forgetPicture(blob: Bytes): void {
    this.storage.run("DELETE FROM picture_due WHERE blob = ?", [blob]);
  }

  /** When a picture is to be uploaded anew; undefined for one that was never seen here. */
  pictureDueAt(blob: Bytes): number | undefined {
    const row = this.storage.get("SELECT due_at FROM picture_due WHERE blob = ?", [blob]);
    return row?.["due_at"] as number | undefined;
  }

  setPictureDueAt(blob: Bytes, dueAtMs: number): void {
    this.storage.run(
      "INSERT INTO picture_due (blob, due_at) VALUES (?, ?) ON CONFLICT DO UPDATE SET due_at = excluded.due_at",
      [blob, dueAtMs],
    );
  }

  deleteKeyPackage(reference: Bytes): void {
    this.storage.run("DELETE FROM mls_key_package WHERE reference = ?", [reference]);
  }

  /** A last-resort KeyPackage that is good for longer than this. */
  hasLastResort(untilMs: number): boolean {
    return (
      this.storage.get(
        "SELECT 1 AS ok FROM mls_key_package WHERE last_resort = 1 AND expires_at > ? LIMIT 1",
        [untilMs],
      ) !== undefined
    );
  }

  /** A Welcome for one of these may still be on its way for a while after it expired. */
  forgetKeyPackages(expiredBeforeMs: number): void {
    this.storage.run("DELETE FROM mls_key_package WHERE expires_at < ?", [expiredBeforeMs]);
  }

  deleteKeyPackages(): void {
    this.storage.run("DELETE FROM mls_key_package");
  }

  // Welcomes.

  /** The same Welcome again changes nothing. */
  addWelcome(welcome: Omit<WelcomeRow, "id">, atMs: number): void {
    const known = this.storage.get("SELECT 1 AS known FROM mls_welcome WHERE group_id = ? AND sequence = ?", [
      welcome.groupId,
      welcome.sequence,
    ]);
    if (known !== undefined) return;
    this.storage.run(
      "INSERT INTO mls_welcome (group_id, welcome, tree_hash, sequence, received_at) VALUES (?, ?, ?, ?, ?)",
      [welcome.groupId, welcome.welcome, welcome.treeHash, welcome.sequence, atMs],
    );
  }

  welcomes(): readonly WelcomeRow[] {
    return this.storage.all("SELECT * FROM mls_welcome ORDER BY id").map((row) => ({
      id: row["id"] as number,
      groupId: bytesOf(row, "group_id"),
      welcome: bytesOf(row, "welcome"),
      treeHash: bytesOf(row, "tree_hash"),
      sequence: row["sequence"] as number,
    }));
  }

  deleteWelcome(id: number): void {
    this.storage.run("DELETE FROM mls_welcome WHERE id = ?", [id]);
  }

  // The commit on its way.

  pendingCommit(id: Bytes): Bytes | undefined {
    const row = this.storage.get("SELECT body FROM mls_commit WHERE group_id = ?", [id]);
    return row === undefined ? undefined : bytesOf(row, "body");
  }

  putPendingCommit(id: Bytes, body: Bytes): void {
    this.storage.run(
      "INSERT INTO mls_commit (group_id, body) VALUES (?, ?) ON CONFLICT DO UPDATE SET body = excluded.body",
      [id, body],
    );
  }

  deletePendingCommit(id: Bytes): void {
    this.storage.run("DELETE FROM mls_commit WHERE group_id = ?", [id]);
  }

  // Own application messages.

  putPart(part: MlsPart): void {
    this.storage.run("INSERT OR REPLACE INTO mls_part VALUES (?, ?, ?, ?, ?, ?, NULL)", [
      part.outboxId,
      part.groupId,
      part.submitId,
      part.message,
      part.hash,
      part.epoch,
    ]);
    this.unshown.put(String(part.outboxId), part);
  }

  /** The message as it is to be sent; undefined once the log has shown it. */
  part(outboxId: number): MlsPart | undefined {
    const sql = "SELECT * FROM mls_part WHERE outbox_id = ? AND shown_at IS NULL";
    return this.unshown.get(String(outboxId), () => {
      const row = this.storage.get(sql, [outboxId]);
      return row === undefined ? undefined : partOf(row);
    });
  }

  partByHash(id: Bytes, hash: Bytes): MlsPart | undefined {
    for (const part of this.unshown.values())
      if (equalBytes(part.hash, hash) && equalBytes(part.groupId, id)) return part;
    const row = this.storage.get("SELECT * FROM mls_part WHERE group_id = ? AND hash = ?", [id, hash]);
    return row === undefined ? undefined : partOf(row);
  }

  /** The log shows it, at this place. */
  setShown(outboxId: number, sequence: number): void {
    this.storage.run("UPDATE mls_part SET shown_at = ? WHERE outbox_id = ?", [sequence, outboxId]);
  }

  /** Those that the log showed before this place can be taken back no longer. */
  forgetShown(id: Bytes, before: number): void {
    this.storage.run("DELETE FROM mls_part WHERE group_id = ? AND shown_at < ?", [id, before]);
  }

  /** Own messages of this epoch or a later one, shown or not. */
  partsFrom(id: Bytes, epoch: number): readonly MlsPart[] {
    return this.storage
      .all("SELECT * FROM mls_part WHERE group_id = ? AND epoch >= ?", [id, epoch])
      .map(partOf);
  }

  parts(id: Bytes): readonly MlsPart[] {
    return this.storage.all("SELECT * FROM mls_part WHERE group_id = ?", [id]).map(partOf);
  }

  deletePart(outboxId: number): void {
    this.storage.run("DELETE FROM mls_part WHERE outbox_id = ?", [outboxId]);
  }

  // Bulk changes.

  addJob(id: Bytes, accounts: readonly AccountId[], action: WrittenAction): void {
    const last = this.storage.get("SELECT max(position) AS n FROM mls_job WHERE group_id = ?", [id]);
    let position = ((last?.["n"] as number | null) ?? 0) + 1;
    for (const account of accounts) {
      this.storage.run(
        `INSERT INTO mls_job (group_id, account, action, state, position) VALUES (?, ?, ?, 'waiting', ?)
           ON CONFLICT DO UPDATE SET state = 'waiting', failure = NULL, position = excluded.position`,
        [id, account, action, position++],
      );
    }
  }

  /** What is left to do, in order; failed ones stay until the application has heard of them. */
  jobs(id: Bytes, action: WrittenAction, limit = -1): readonly JobRow[] {
    return this.storage
      .all(
        `SELECT * FROM mls_job WHERE group_id = ? AND action = ? AND state <> 'failed' ORDER BY position LIMIT ?`,
        [id, action, limit],
      )
      .map(jobOf);
  }

  failedJobs(id: Bytes, action: JobAction): readonly JobRow[] {
    return this.storage
      .all("SELECT * FROM mls_job WHERE group_id = ? AND action = ? AND state = 'failed' ORDER BY position", [
        id,
        action,
      ])
      .map(jobOf);
  }

  groupsWithJobs(): readonly Bytes[] {
    return this.storage
      .all("SELECT DISTINCT group_id FROM mls_job WHERE state <> 'failed'")
      .map((row) => bytesOf(row, "group_id"));
  }

  setJob(id: Bytes, account: AccountId, action: JobAction, state: JobRow["state"], failure?: string): void {
    this.storage.run(
      "UPDATE mls_job SET state = ?, failure = ? WHERE group_id = ? AND account = ? AND action = ?",
      [state, failure ?? null, id, account, action],
    );
  }

  deleteJob(id: Bytes, account: AccountId, action: WrittenAction): void {
    this.storage.run("DELETE FROM mls_job WHERE group_id = ? AND account = ? AND action = ?", [
      id,
      account,
      action,
    ]);
    if (action !== "add") return;
    this.storage.run("DELETE FROM mls_claimed WHERE group_id = ? AND account = ?", [id, account]);
  }

  /** Whatever was to be done in a group: nobody who is not in it can do it. */
  deleteJobs(id: Bytes): void {
    this.storage.run("DELETE FROM mls_job WHERE group_id = ?", [id]);
    this.storage.run("DELETE FROM mls_claimed WHERE group_id = ?", [id]);
  }

  putClaimed(id: Bytes, row: ClaimedRow): void {
    this.storage.run("INSERT OR REPLACE INTO mls_claimed VALUES (?, ?, ?, ?)", [
      id,
      row.account,
      row.device,
      row.keyPackage,
    ]);
  }

  claimed(id: Bytes, account: AccountId): readonly ClaimedRow[] {
    return this.storage
      .all("SELECT * FROM mls_claimed WHERE group_id = ? AND account = ? ORDER BY device", [id, account])
      .map((row) => ({
        account: accountId(bytesOf(row, "account")),
        device: deviceId(row["device"] as number),
        keyPackage: bytesOf(row, "key_package"),
      }));
  }

  deleteClaimed(id: Bytes, account: AccountId, device: number): void {
    this.storage.run("DELETE FROM mls_claimed WHERE group_id = ? AND account = ? AND device = ?", [
      id,
      account,
      device,
    ]);
  }

  // Invite links.

  putLink(id: Bytes, linkId: Bytes, seed: Bytes): void {
    this.storage.run("INSERT INTO mls_link VALUES (?, ?, ?)", [id, linkId, seed]);
  }

  linkSeed(id: Bytes, linkId: Bytes): Bytes | undefined {
    const row = this.storage.get("SELECT seed FROM mls_link WHERE group_id = ? AND link_id = ?", [
      id,
      linkId,
    ]);
    return row === undefined ? undefined : bytesOf(row, "seed");
  }

  deleteLink(id: Bytes, linkId: Bytes): void {
    this.storage.run("DELETE FROM mls_link WHERE group_id = ? AND link_id = ?", [id, linkId]);
  }

  /** The link by which this device is joining a group. */
  putJoin(id: Bytes, link: InviteLink): void {
    this.storage.run("INSERT OR REPLACE INTO mls_join (group_id, link) VALUES (?, ?)", [
      id,
      formatInviteLink("", link),
    ]);
  }

  join(id: Bytes): InviteLink | undefined {
    const row = this.storage.get("SELECT link FROM mls_join WHERE group_id = ?", [id]);
    return row === undefined ? undefined : parseInviteLink(row["link"] as string);
  }

  /** The account whose word this device waits for. */
  setAsked(id: Bytes, inviter: AccountId): void {
    this.storage.run("UPDATE mls_join SET inviter = ?, approver = NULL, approval = NULL WHERE group_id = ?", [
      inviter,
      id,
    ]);
  }

  waitingJoin(id: Bytes): { readonly link: InviteLink; readonly inviter: AccountId } | undefined {
    const row = this.storage.get("SELECT link, inviter FROM mls_join WHERE group_id = ?", [id]);
    if (row === undefined || row["inviter"] === null) return undefined;
    return {
      link: parseInviteLink(row["link"] as string),
      inviter: accountId(bytesOf(row, "inviter")),
    };
  }

  setApproval(id: Bytes, { approver, signature }: JoinApproval): void {
    this.storage.run("UPDATE mls_join SET approver = ?, approval = ? WHERE group_id = ?", [
      approver,
      signature,
      id,
    ]);
  }

  approval(id: Bytes): JoinApproval | undefined {
    const row = this.storage.get("SELECT approver, approval FROM mls_join WHERE group_id = ?", [id]);
    if (row === undefined || row["approval"] === null) return undefined;
    return { approver: row["approver"] as number, signature: bytesOf(row, "approval") };
  }

  /** Joins that were approved and have not come about yet. */
  approvedJoins(): readonly Bytes[] {
    return this.storage
      .all("SELECT group_id FROM mls_join WHERE approval IS NOT NULL")
      .map((row) => bytesOf(row, "group_id"));
  }

  deleteJoin(id: Bytes): void {
    this.storage.run("DELETE FROM mls_join WHERE group_id = ?", [id]);
  }

  // Who asks to join.

  /** Oldest first. */
  joinRequests(id: Bytes): readonly JoinRequestRow[] {
    return this.storage
      .all("SELECT * FROM mls_join_request WHERE group_id = ? ORDER BY at, account, device", [id])
      .map((row) => ({
        account: accountId(bytesOf(row, "account")),
        device: deviceId(row["device"] as number),
        linkId: bytesOf(row, "link_id"),
        signatureKey: bytesOf(row, "signature_key"),
        refused: row["refused"] === 1,
        atMs: row["at"] as number,
      }));
  }

  putJoinRequest(id: Bytes, request: Omit<JoinRequestRow, "refused">): void {
    const { account, device, linkId, signatureKey, atMs } = request;
    this.storage.run("INSERT OR REPLACE INTO mls_join_request VALUES (?, ?, ?, ?, ?, 0, ?)", [
      id,
      account,
      device,
      linkId,
      signatureKey,
      atMs,
    ]);
  }

  refuseJoinRequests(id: Bytes, account: AccountId, atMs: number): void {
    this.storage.run("UPDATE mls_join_request SET refused = 1, at = ? WHERE group_id = ? AND account = ?", [
      atMs,
      id,
      account,
    ]);
  }

  deleteJoinRequests(id: Bytes, account: AccountId): void {
    this.storage.run("DELETE FROM mls_join_request WHERE group_id = ? AND account = ?", [id, account]);
  }

  forgetJoinRequests(id: Bytes, old: { readonly before: number; readonly refusedBefore: number }): void {
    this.storage.run(
      "DELETE FROM mls_join_request WHERE group_id = ? AND (at < ? OR (refused = 1 AND at < ?))",
      [id, old.before, old.refusedBefore],
    );
  }

  // Ban lists.

  putBanList(hash: Bytes, list: Bytes): void {
    this.storage.run("INSERT OR IGNORE INTO mls_ban_list VALUES (?, ?)", [hash, list]);
  }

  banList(hash: Uint8Array): Bytes | undefined {
    const row = this.storage.get("SELECT list FROM mls_ban_list WHERE hash = ?", [new Uint8Array(hash)]);
    return row === undefined ? undefined : bytesOf(row, "list");
  }
}

const keyPackageOf = (row: Row): KeyPackageRow => ({
  reference: bytesOf(row, "reference"),
  message: bytesOf(row, "message"),
  initPrivateKey: bytesOf(row, "init_key"),
  leafPrivateKey: bytesOf(row, "leaf_key"),
  lastResort: row["last_resort"] === 1,
  expiresAtMs: row["expires_at"] as number,
});

const jobOf = (row: Row): JobRow => ({
  account: accountId(bytesOf(row, "account")),
  action: row["action"] as WrittenAction,
  state: row["state"] as JobRow["state"],
  failure: (row["failure"] as string | null) ?? undefined,
});

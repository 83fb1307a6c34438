import {
  type AccountId,
  accountId,
  type Bytes,
  type DeviceAddress,
  decodeWhole,
  deviceId,
  encode,
  type MessageId,
  messageId,
} from "@murmuration/base";
import type { MigrationState } from "@murmuration/wire";
import type { Role } from "../api.ts";
import type { SwitchPoint } from "../core/group-change.ts";
import { noMigration, type RecordMigration } from "../core/group-record.ts";
import type { Row, Storage } from "../ports/storage.ts";
import { KeptRows, type KeptStorage, keyOf } from "./kept-storage.ts";

/** What this device itself knows of a migration, beside what the record says. */
export interface OwnMigration {
  /** Where this device prepares it: the token of its lease at the service. */
  readonly lease: Bytes | undefined;
  readonly startedAtMs: number;
  readonly deadlineAtMs: number;
  /** A person does not want to wait for those who are not ready. */
  readonly finishNow: boolean;
  /** Secrets that were drawn in this generation; 0 for none. */
  readonly round: number;
  /** Somebody who knows the newest secret has been removed. */
  readonly secretDue: boolean;
  /** Id of the message that brings the newest secret to the members. */
  readonly secretMessage: MessageId | undefined;
  /** What the switching commit led to here; undefined before this device has taken it. */
  readonly reached: Reached | undefined;
  /** Epoch in which this device came into the MLS group, the last time that it did; 0 for the one that made it. */
  readonly enteredEpoch: number;
  /** Why this device does not follow the switch; empty where it does. */
  readonly refusal: string;
  /** When this device switched; 0 before. */
  readonly switchedAtMs: number;
}

/** A switching commit as this device has seen it. */
export interface Reached extends SwitchPoint {
  /** Accounts that are in the group after it, with the identity keys that their leaves name. */
  readonly roster: readonly RosterAccount[];
  /** The community context of the group, encoded. */
  readonly context: Bytes;
}

export interface RosterAccount {
  readonly account: AccountId;
  /** 33 bytes. */
  readonly identityKey: Bytes;
  /** As the group's context has it. */
  readonly role: Role;
}

/** Numbers this far behind the newest are forgotten: what was said since has its end behind them. */
const UNSAID_KEPT = 256;

const NONE: OwnMigration = {
  lease: undefined,
  startedAtMs: 0,
  deadlineAtMs: 0,
  finishNow: false,
  round: 0,
  secretDue: false,
  secretMessage: undefined,
  reached: undefined,
  enteredEpoch: 0,
  refusal: "",
  switchedAtMs: 0,
};

/** What is known of a member's device. */
export interface PeerCounters {
  /** Number of the newest thing that it said pairwise and that came here; 0 for none. */
  readonly seen: number;
  /** Number of the last thing that it said pairwise, as it says itself; undefined until it has. */
  readonly last: number | undefined;
}

const bytesOf = (row: Row, key: string): Bytes => new Uint8Array(row[key] as Bytes);
const optionalBytes = (row: Row, key: string): Bytes | undefined =>
  row[key] === null || row[key] === undefined ? undefined : bytesOf(row, key);

function pointOf(row: Row, prefix: string): SwitchPoint | undefined {
  if (row[`${prefix}epoch`] === null) return undefined;
  return {
    epoch: row[`${prefix}epoch`] as number,
    authenticator: bytesOf(row, `${prefix}authenticator`),
    rosterHash: bytesOf(row, `${prefix}roster_hash`),
  };
}

/** The roster is decoded when it is asked for: most of who read the row do not. */
function reachedOf(row: Row): Reached | undefined {
  const point = pointOf(row, "reached_");
  if (point === undefined) return undefined;
  let decoded: Pick<Reached, "roster" | "context"> | undefined;
  const rest = () => (decoded ??= decodeRoster(bytesOf(row, "reached_roster")));
  return {
    ...point,
    get roster() {
      return rest().roster;
    },
    get context() {
      return rest().context;
    },
  };
}

const ROLES: readonly Role[] = ["member", "admin", "owner"];

/** Who was in the group, and what its context said. */
const encodeRoster = ({ roster, context }: Pick<Reached, "roster" | "context">): Bytes =>
  encode(roster, (writer) => {
    writer.vector(roster, (inner, { account, identityKey, role }) => {
      inner.fixed(account).fixed(identityKey).uint8(ROLES.indexOf(role));
    });
    writer.bytes(context);
  });

const decodeRoster = (bytes: Bytes): Pick<Reached, "roster" | "context"> =>
  decodeWhole(bytes, (reader) => ({
    roster: reader.vector((inner) => ({
      account: accountId(inner.fixed(16)),
      identityKey: new Uint8Array(inner.fixed(33)),
      role: ROLES[inner.uint8()] ?? "member",
    })),
    context: new Uint8Array(reader.bytes()),
  }));

interface KeptMigration {
  readonly record: RecordMigration;
  readonly own: OwnMigration;
}

const NO_ROW: KeptMigration = { record: noMigration, own: NONE };

function recordOf(row: Row): RecordMigration {
  const creator = optionalBytes(row, "creator");
  return {
    state: row["state"] as MigrationState,
    generation: row["generation"] as number,
    creator:
      creator === undefined
        ? undefined
        : { accountId: accountId(creator), deviceId: deviceId(row["creator_device"] as number) },
    switchPoint: pointOf(row, ""),
  };
}

function ownOf(row: Row): OwnMigration {
  return {
    lease: optionalBytes(row, "lease"),
    startedAtMs: row["started_at"] as number,
    deadlineAtMs: row["deadline_at"] as number,
    finishNow: row["finish_now"] === 1,
    round: row["round"] as number,
    secretDue: row["secret_due"] === 1,
    secretMessage: row["secret_message"] === null ? undefined : messageId(bytesOf(row, "secret_message")),
    reached: reachedOf(row),
    enteredEpoch: row["entered_epoch"] as number,
    refusal: row["refusal"] as string,
    switchedAtMs: row["switched_at"] as number,
  };
}

/** Moves of pairwise groups to MLS, and the numbers of what is said pairwise. */
export class MigrationStore {
  private readonly storage: Storage;
  /** Both are asked for with each thing that is said, and the roster of a switch lies in the row. */
  private readonly rows: KeptRows<KeptMigration>;

  constructor(storage: KeptStorage) {
    this.storage = storage;
    this.rows = new KeptRows(storage, "migration");
  }

  private row(conversation: Bytes): KeptMigration {
    return this.rows.read(keyOf(conversation), () => {
      const row = this.storage.get("SELECT * FROM migration WHERE conversation = ?", [conversation]);
      return row === undefined ? NO_ROW : { record: recordOf(row), own: ownOf(row) };
    });
  }

  // What the record says.

  record(conversation: Bytes): RecordMigration {
    return this.row(conversation).record;
  }

  /**
   * Whether the MLS group of a conversation is being prepared: it does not go by it yet, or (where it recovers) not again.
   */
  isMoving(conversation: Bytes): boolean {
    const { record, own } = this.row(conversation);
    return record.generation > 0 && own.switchedAtMs === 0;
  }

  /** Conversations that have begun to move, and have not ended in MLS, or not for this device, or not in a group that it follows. */
  open(): readonly Bytes[] {
    return this.storage
      .all(
        `SELECT conversation FROM migration
           WHERE state NOT IN ('pairwise', 'mls') OR (state = 'mls' AND (switched_at = 0 OR refusal <> ''))`,
      )
      .map((row) => bytesOf(row, "conversation"));
  }

  /** Conversations that somebody waits to be added to. */
  withWaiting(): readonly Bytes[] {
    return this.storage
      .all("SELECT DISTINCT conversation FROM migration_waiting")
      .map((row) => bytesOf(row, "conversation"));
  }

  saveRecord(conversation: Bytes, migration: RecordMigration): void {
    const { state, generation, creator, switchPoint } = migration;
    this.storage.run(
      `INSERT INTO migration (conversation, state, generation, creator, creator_device, epoch, authenticator, roster_hash)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET state = excluded.state, generation = excluded.generation,
         creator = excluded.creator, creator_device = excluded.creator_device, epoch = excluded.epoch,
         authenticator = excluded.authenticator, roster_hash = excluded.roster_hash`,
      [
        conversation,
        state,
        generation,
        creator?.accountId ?? null,
        creator?.deviceId ?? null,
        switchPoint?.epoch ?? null,
        switchPoint?.authenticator ?? null,
        switchPoint?.rosterHash ?? null,
      ],
    );
  }

  // What this device does.

  own(conversation: Bytes): OwnMigration {
    return this.row(conversation).own;
  }

  /** Changes what is named and leaves the rest. The conversation has a row: its record names a migration. */
  setOwn(conversation: Bytes, change: Partial<OwnMigration>): void {
    const next = { ...this.own(conversation), ...change };
    this.storage.run(
      `UPDATE migration SET lease = ?, started_at = ?, deadline_at = ?, finish_now = ?, round = ?, secret_due = ?,
         secret_message = ?, entered_epoch = ?, refusal = ?, switched_at = ? WHERE conversation = ?`,
      [
        next.lease ?? null,
        next.startedAtMs,
        next.deadlineAtMs,
        next.finishNow ? 1 : 0,
        next.round,
        next.secretDue ? 1 : 0,
        next.secretMessage ?? null,
        next.enteredEpoch,
        next.refusal,
        next.switchedAtMs,
        conversation,
      ],
    );
    if ("reached" in change) this.setReached(conversation, change.reached);
  }

  private setReached(conversation: Bytes, reached: Reached | undefined): void {
    this.storage.run(
      `UPDATE migration SET reached_epoch = ?, reached_authenticator = ?, reached_roster_hash = ?, reached_roster = ?
         WHERE conversation = ?`,
      [
        reached?.epoch ?? null,
        reached?.authenticator ?? null,
        reached?.rosterHash ?? null,
        reached === undefined ? null : encodeRoster(reached),
        conversation,
      ],
    );
  }

  /** Another generation begins: nothing of the one before counts any more. */
  beginGeneration(conversation: Bytes): void {
    this.setOwn(conversation, NONE);
    this.storage.run("DELETE FROM migration_ready WHERE conversation = ?", [conversation]);
    this.storage.run("DELETE FROM migration_secret WHERE conversation = ?", [conversation]);
  }

  // Lease tokens are drawn before the record names the generation that they are for.

  /** The token of a change that is on its way into the record. */
  wantedLease(conversation: Bytes): Bytes | undefined {
    const row = this.storage.get("SELECT lease FROM migration_lease WHERE conversation = ?", [conversation]);
    return row === undefined ? undefined : bytesOf(row, "lease");
  }

  wantLease(conversation: Bytes, lease: Bytes): void {
    this.storage.run(
      "INSERT INTO migration_lease (conversation, lease) VALUES (?, ?) ON CONFLICT DO UPDATE SET lease = excluded.lease",
      [conversation, lease],
    );
  }

  dropLease(conversation: Bytes): void {
    this.storage.run("DELETE FROM migration_lease WHERE conversation = ?", [conversation]);
  }

  // Who is ready. Kept by the device that prepares.

  setReady(conversation: Bytes, { accountId: account, deviceId: device }: DeviceAddress): void {
    this.storage.run(
      `INSERT INTO migration_ready (conversation, account, device) VALUES (?, ?, ?)
         ON CONFLICT DO UPDATE SET epoch = NULL, authenticator = NULL`,
      [conversation, account, device],
    );
  }

  /** A device names an epoch that has not come here yet. */
  claimReady(
    conversation: Bytes,
    { accountId: account, deviceId: device }: DeviceAddress,
    claim: { readonly epoch: number; readonly authenticator: Bytes },
  ): void {
    this.storage.run(
      `INSERT INTO migration_ready (conversation, account, device, epoch, authenticator) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT DO NOTHING`,
      [conversation, account, device, claim.epoch, claim.authenticator],
    );
  }

  /** An epoch has come: whoever named it is ready, or was shown another group. */
  settleClaims(conversation: Bytes, epoch: number, authenticator: Bytes): void {
    this.storage.run(
      `UPDATE migration_ready SET epoch = NULL, authenticator = NULL
         WHERE conversation = ? AND epoch = ? AND authenticator = ?`,
      [conversation, epoch, authenticator],
    );
    this.storage.run("DELETE FROM migration_ready WHERE conversation = ? AND epoch <= ?", [
      conversation,
      epoch,
    ]);
  }

  ready(conversation: Bytes): readonly DeviceAddress[] {
    return this.storage
      .all("SELECT account, device FROM migration_ready WHERE conversation = ? AND epoch IS NULL", [
        conversation,
      ])
      .map((row) => ({
        accountId: accountId(bytesOf(row, "account")),
        deviceId: deviceId(row["device"] as number),
      }));
  }

  // Secrets that switching commits are made with.

  putSecret(conversation: Bytes, generation: number, round: number, secret: Bytes): void {
    this.storage.run(
      `INSERT INTO migration_secret (conversation, generation, round, secret) VALUES (?, ?, ?, ?)
         ON CONFLICT DO NOTHING`,
      [conversation, generation, round, secret],
    );
  }

  /** How many secrets of a generation are here. */
  countSecrets(conversation: Bytes): number {
    const row = this.storage.get("SELECT count(*) AS n FROM migration_secret WHERE conversation = ?", [
      conversation,
    ]);
    return row?.["n"] as number;
  }

  secret(conversation: Bytes, generation: number, round: number): Bytes | undefined {
    const row = this.storage.get(
      "SELECT secret FROM migration_secret WHERE conversation = ? AND generation = ? AND round = ?",
      [conversation, generation, round],
    );
    return row === undefined ? undefined : bytesOf(row, "secret");
  }

  secrets(conversation: Bytes): readonly Bytes[] {
    return this.storage
      .all("SELECT secret FROM migration_secret WHERE conversation = ?", [conversation])
      .map((row) => bytesOf(row, "secret"));
  }

  deleteSecrets(conversation: Bytes): void {
    this.storage.run("DELETE FROM migration_secret WHERE conversation = ?", [conversation]);
  }

  // Who waits to be added.

  addWaiting(conversation: Bytes, accounts: readonly AccountId[]): void {
    for (const account of accounts) {
      this.storage.run(
        "INSERT INTO migration_waiting (conversation, account) VALUES (?, ?) ON CONFLICT DO NOTHING",
        [conversation, account],
      );
    }
  }

  waiting(conversation: Bytes): readonly AccountId[] {
    return this.storage
      .all("SELECT account FROM migration_waiting WHERE conversation = ? ORDER BY rowid", [conversation])
      .map((row) => accountId(bytesOf(row, "account")));
  }

  deleteWaiting(conversation: Bytes, accounts: readonly AccountId[]): void {
    for (const account of accounts)
      this.storage.run("DELETE FROM migration_waiting WHERE conversation = ? AND account = ?", [
        conversation,
        account,
      ]);
  }

  // Numbers of what is said pairwise.

  /** Revision of the record by which this account came. */
  joinedRevision(group: Bytes): number {
    const row = this.storage.get("SELECT joined_revision FROM group_state WHERE id = ?", [group]);
    return (row?.["joined_revision"] as number | undefined) ?? 0;
  }

  setJoinedRevision(group: Bytes, revision: number): void {
    this.storage.run("UPDATE group_state SET joined_revision = ? WHERE id = ?", [revision, group]);
  }

  /** Counts one thing that this device says in a group; its number. */
  countSent(group: Bytes): number {
    const row = this.storage.get(
      "UPDATE group_state SET sent = sent + 1, sent_revision = revision WHERE id = ? RETURNING sent",
      [group],
    );
    return (row?.["sent"] as number | undefined) ?? 0;
  }

  /** The last thing that this device said pairwise, and the revision of the record at which it did; undefined for nothing. */
  lastSent(group: Bytes): { readonly counter: number; readonly revision: number } | undefined {
    const row = this.storage.get("SELECT sent, sent_revision FROM group_state WHERE id = ?", [group]);
    const counter = (row?.["sent"] as number | undefined) ?? 0;
    return counter === 0 ? undefined : { counter, revision: row?.["sent_revision"] as number };
  }

  /** What has this number was deleted before it had left. Only the newest can be an end. */
  noteUnsaid(group: Bytes, counter: number): void {
    this.storage.run("INSERT OR IGNORE INTO group_unsaid VALUES (?, ?)", [group, counter]);
    this.storage.run("DELETE FROM group_unsaid WHERE group_id = ? AND counter < ?", [
      group,
      counter - UNSAID_KEPT,
    ]);
  }

  unsaid(group: Bytes): ReadonlySet<number> {
    const rows = this.storage.all("SELECT counter FROM group_unsaid WHERE group_id = ?", [group]);
    return new Set(rows.map((row) => row["counter"] as number));
  }

  deleteUnsaid(group: Bytes): void {
    this.storage.run("DELETE FROM group_unsaid WHERE group_id = ?", [group]);
  }

  /** What was numbered from here on is not said pairwise after all. */
  takeBackFrom(group: Bytes, counter: number): void {
    this.storage.run("UPDATE group_state SET sent = ? WHERE id = ? AND sent >= ?", [
      counter - 1,
      group,
      counter,
    ]);
  }

  /** Notes the number of something that came. */
  noteSeen(group: Bytes, { accountId: account, deviceId: device }: DeviceAddress, counter: number): void {
    this.storage.run(
      `INSERT INTO group_counter (group_id, account, device, seen) VALUES (?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET seen = max(seen, excluded.seen)`,
      [group, account, device, counter],
    );
  }

  /** Notes which one was its last. The first word counts. */
  noteLast(group: Bytes, { accountId: account, deviceId: device }: DeviceAddress, counter: number): void {
    this.storage.run(
      `INSERT INTO group_counter (group_id, account, device, seen, last) VALUES (?, ?, ?, 0, ?)
         ON CONFLICT DO UPDATE SET last = coalesce(last, excluded.last)`,
      [group, account, device, counter],
    );
  }

  counters(group: Bytes, { accountId: account, deviceId: device }: DeviceAddress): PeerCounters {
    const row = this.storage.get(
      "SELECT seen, last FROM group_counter WHERE group_id = ? AND account = ? AND device = ?",
      [group, account, device],
    );
    return {
      seen: (row?.["seen"] as number | undefined) ?? 0,
      last: (row?.["last"] as number | null | undefined) ?? undefined,
    };
  }

  /** True once for each device: it still speaks pairwise, and is told of the switch. */
  tellOnce(group: Bytes, { accountId: account, deviceId: device }: DeviceAddress): boolean {
    this.storage.run(
      "INSERT INTO group_counter (group_id, account, device, seen) VALUES (?, ?, ?, 0) ON CONFLICT DO NOTHING",
      [group, account, device],
    );
    return (
      this.storage.run(
        "UPDATE group_counter SET told = 1 WHERE group_id = ? AND account = ? AND device = ? AND told = 0",
        [group, account, device],
      ).changes > 0
    );
  }
}

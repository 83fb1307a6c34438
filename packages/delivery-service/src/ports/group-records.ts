import type { Bytes, GroupId } from "@murmuration/base";
import type { MigrationState } from "@murmuration/wire";

/** What the service holds of a pairwise group: nothing here names a member. */
export interface GroupRecord {
  readonly groupId: GroupId;
  /** Starts at 1 and rises by one with each write. */
  readonly revision: number;
  /** Encrypted hash chain of changes. */
  readonly blob: Bytes;
  /** Ed25519, 32 bytes; derived by members from the group key. */
  readonly accessPublicKey: Bytes;
  /** 16 bytes, drawn anew by members with each generation of the group key. */
  readonly fence: Bytes;
  /** Days since 1970, of the latest read, write, or submit with the fence. */
  readonly lastUsedDay: number;
  /** Undefined for a group that never began to move to MLS. */
  readonly migration: GroupMigration | undefined;
}

/** Where a group's move to MLS stands (docs/migration.md). */
export interface GroupMigration {
  readonly state: MigrationState;
  /** Of the migration, from 1; never falls, also when a migration is given up. */
  readonly generation: number;
  /** Who may go on alone; undefined in states that nobody holds. */
  readonly lease: Lease | undefined;
  /** When the state was entered. */
  readonly sinceMs: number;
  /** When the present move to MLS, or recovery, was begun, by whomever. */
  readonly startedMs: number;
}

/** A lease on a migration. */
export interface Lease {
  /** SHA-256 of the token that its holder drew. */
  readonly tokenHash: Bytes;
  readonly untilMs: number;
}

/**
 * What a write does to the migration. `keep` leaves it as it is stored, also where the lease was renewed since the
 * record was loaded; `replace` stores that of the record, with `ifLeaseUntilMs` only where the stored lease ends then.
 */
export type MigrationWrite =
  | { readonly kind: "keep" }
  | { readonly kind: "replace"; readonly ifLeaseUntilMs: number | undefined };

/** Compare-and-set cells, one for each group. */
export interface GroupRecordStore {
  /** Stores revision 1. `exists` when the id is taken. */
  create(record: GroupRecord): Promise<"created" | "exists">;
  load(groupId: GroupId): Promise<GroupRecord | undefined>;
  /**
   * Replaces the record if the stored revision is `next.revision - 1`; otherwise nothing changes. `renewed`: the
   * revision is that, the lease is not.
   */
  compareAndSet(
    next: GroupRecord,
    migration: MigrationWrite,
  ): Promise<"stored" | "conflict" | "renewed" | "unknown">;
  /**
   * Sets the end of a lease if the group's is still this one; neither revision nor anything else changes.
   * `lost`: it is another's, or nobody's.
   */
  renewLease(groupId: GroupId, lease: Lease): Promise<"renewed" | "lost">;
  /** How many groups are in each state of a migration; those that never began one are in none. */
  migrations(): Promise<Readonly<Partial<Record<MigrationState, number>>>>;
  /** Notes that the record was used on this day; an unknown id is ignored. */
  touch(groupId: GroupId, day: number): Promise<void>;
  /** Deletes at most `limit` records last used before `day`. Returns how many. */
  expire(day: number, limit: number): Promise<number>;
}

import type { Bytes, GroupId } from "@murmuration/base";

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
}

/** Compare-and-set cells, one for each group. */
export interface GroupRecordStore {
  /** Stores revision 1. `exists` when the id is taken. */
  create(record: GroupRecord): Promise<"created" | "exists">;
  load(groupId: GroupId): Promise<GroupRecord | undefined>;
  /** Replaces the record if the stored revision is `next.revision - 1`; otherwise nothing changes. */
  compareAndSet(next: GroupRecord): Promise<"stored" | "conflict" | "unknown">;
  /** Notes that the record was used on this day; an unknown id is ignored. */
  touch(groupId: GroupId, day: number): Promise<void>;
  /** Deletes at most `limit` records last used before `day`. Returns how many. */
  expire(day: number, limit: number): Promise<number>;
}

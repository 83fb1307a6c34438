import type { GroupId } from "@murmuration/base";

/** Commits of one group that came too late on one day. */
export interface LostCommits {
  readonly groupId: GroupId;
  /** Days since 1970, UTC. */
  readonly day: number;
  readonly count: number;
}

/**
 * How many commits lost a race, for each group and day: nothing else remembers those. A count may be too low after a
 * crash; it is read by people and decides nothing.
 */
export interface LostCommitStore {
  /** Adds to the counts. Each group and day at most once in one call. O(1) for each. */
  add(lost: readonly LostCommits[]): Promise<void>;
  /** The sum over all days from this one on. */
  since(groupId: GroupId, day: number): Promise<number>;
  /** Deletes at most `limit` counts of days before this one. Returns how many. */
  expire(beforeDay: number, limit: number): Promise<number>;
}

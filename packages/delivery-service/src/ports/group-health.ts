import type { GroupId } from "@murmuration/base";

/** What is to be looked at, and how much of it. */
export interface HealthQuery {
  /** Commits are counted from this day on (days since 1970, UTC). */
  readonly sinceDay: number;
  /** A leaf is a straggler when more entries than this lie between its cursor and the end of the log. */
  readonly stragglerEntries: number;
  /** The stock of a device is low with fewer one-time KeyPackages than this that are good beyond `nowMs` (ms since 1970). */
  readonly keyPackagesBelow: number;
  readonly nowMs: number;
  readonly order: HealthOrder;
  readonly limit: number;
}

/** Worst first. */
export type HealthOrder = "stale" | "age" | "stragglers" | "entries" | "outbox";

/** How one MLS group is doing. Counts and times only; who shows it makes a label of the id. */
export interface GroupHealth {
  readonly groupId: GroupId;
  readonly epoch: number;
  /** When the commit that led to this epoch was accepted; undefined in the first one, or after its entry expired. */
  readonly epochSinceMs: number | undefined;
  /** Entries of the log that are kept. */
  readonly entries: number;
  /** Commits that count, and commits that came too late for their epoch, since the day that was asked for. */
  readonly commits: number;
  readonly lostCommits: number;
  /** Leaves that have a cursor: those that ever acknowledged anything. */
  readonly readers: number;
  readonly stragglers: number;
  /** Leaves whose next entry is gone: they have to come in from outside. */
  readonly leftBehind: number;
  /** Leaves of devices whose stock of KeyPackages is low; undefined where the tree cannot be read. */
  readonly lowStock: number | undefined;
  /** Proposals that wait for a commit, and Welcomes that wait for their mailbox. */
  readonly proposals: number;
  readonly welcomes: number;
  readonly lastUsedDay: number;
}

/** KeyPackages of all devices that ever uploaded any. */
export interface StockHealth {
  readonly devices: number;
  /** Fewer one-time KeyPackages than asked for, but some. */
  readonly low: number;
  /** Only the last-resort one: whoever adds them uses it again and again. */
  readonly lastResortOnly: number;
  /** None at all: they cannot be added to a group. */
  readonly none: number;
}

export interface RetentionHealth {
  readonly job: string;
  readonly ranAtMs: number | undefined;
  readonly removed: number;
  /** Rows that are kept longer than the schedule allows; undefined where this engine does not count them. */
  readonly overdue: number | undefined;
}

/** What an operator may know of groups, read beside running nodes. Changes nothing. */
export interface HealthReader {
  /** O(cursors, commits and KeyPackages of all groups, and members of those that are shown): for people, not for a scraper. */
  groups(query: HealthQuery): Promise<readonly GroupHealth[]>;
  /** Those that are good beyond `nowMs`. O(KeyPackages). */
  keyPackages(lowBelow: number, nowMs: number): Promise<StockHealth>;
  /** Each job that ran or has something overdue, by name. O(rows that are kept). */
  retention(): Promise<readonly RetentionHealth[]>;
  close(): Promise<void>;
}

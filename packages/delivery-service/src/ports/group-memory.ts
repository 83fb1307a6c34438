import type { GroupId } from "@murmuration/base";
import type { CommitRefusal } from "@murmuration/mls-groups/public-group";
import type { TurnEvent, TurnLine, TurnStep } from "../core/turn-line.ts";

/** What was said about a commit, by names: leaves and accounts in hexadecimal. */
export interface CommitWords {
  /** Accounts of the leaves that vouched, by leaf. */
  readonly vouchers: ReadonlyMap<string, string>;
  /** By account. */
  readonly refusals: ReadonlyMap<string, CommitRefusal>;
}

export const NO_WORDS: CommitWords = { vouchers: new Map(), refusals: new Map() };

/**
 * What the nodes that work with a group remember of it together and what is not worth a row. All of it may be lost at any
 * time: then a line begins anew, the newest commit is provisional once more, and whoever was suspended may commit again.
 * Nothing here decides what is in a log: that is the store's compare-and-set on the epoch.
 */
export interface GroupMemory {
  /** One step of the line ({@link stepTurns}), as one with regard to all nodes. O(waiting). */
  step(groupId: GroupId, event: TurnEvent, now: number, turnMs: number): Promise<TurnStep>;
  /** The line as it is. O(waiting). */
  line(groupId: GroupId): Promise<TurnLine>;
  /** A leaf follows the group through its newest commit. Told to other nodes soon, not at once. */
  vouch(groupId: GroupId, sequence: number, leaf: string, account: string): void;
  /** An account cannot follow a commit: its word, which was verified. Returns what other nodes know. */
  refuse(groupId: GroupId, sequence: number, account: string, refusal: CommitRefusal): Promise<CommitWords>;
  /** A leaf commits no more, until {@link pardon} or for an hour. */
  suspend(groupId: GroupId, leaf: string): Promise<void>;
  suspended(groupId: GroupId): Promise<ReadonlySet<string>>;
  /** All leaves that are suspended: none is any more. */
  pardon(groupId: GroupId): Promise<void>;
}

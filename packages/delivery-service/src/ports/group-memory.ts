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

/** This attempt to say it came to nothing. */
export type TakeBack = () => Promise<void>;

/**
 * What the nodes that work with a group remember of it together and what is not worth a row. All of it may be lost at any
 * time: then a line begins anew, the newest commit is provisional once more, whoever was suspended may commit again, and
 * whoever waits in slow mode may write.
 * Nothing here decides which commit counts: that is the store's compare-and-set on the epoch.
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
  /**
   * Slow mode: a leaf says something, which counts from now and before it is stored, whichever nodes it asks at once.
   * Undefined where it said something else less than `pauseMs` ago. The submit that counts is said again as often as need be,
   * and counts from when it was said first; taken back, it counts no more once every attempt at it was. One whose end nobody
   * knows, because its node died or the store did not answer, goes on counting. Forgotten after the pause it was said with: a
   * shorter one holds at once, a longer one from the next message on. Time is that of the one place that counts. O(1).
   */
  speak(groupId: GroupId, leaf: string, submit: string, pauseMs: number): Promise<TakeBack | undefined>;
}

import type { Bytes, GroupId } from "@murmuration/base";

/** What a connection that has a group open hears. */
export interface GroupListener {
  /** The log may have grown; by this entry, in its encoding of the log, where the signal carried one. */
  lookAgain(entry?: Bytes): void;
  /** Leaves may have been removed or banned: access is to be looked at again. */
  membersChanged(): void;
  /** Somebody got a turn: it may be one whose connection is here. */
  turnsChanged(): void;
}

export type GroupChange = "entries" | "members" | "turns";

/** "Look again" for groups, within all nodes. A lost signal costs time, not data. */
export interface GroupSignals {
  /** `entry`, what the log grew by: a signal carries it where it is small. Nobody relies on it. */
  publish(groupId: GroupId, change: GroupChange, entry?: Bytes): void;
  /** The returned function ends the subscription. */
  subscribe(groupId: GroupId, listener: GroupListener): () => void;
}

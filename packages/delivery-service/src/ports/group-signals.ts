import type { Bytes, GroupId } from "@murmuration/base";

/** What a connection that has a group open hears. */
export interface GroupListener {
  /** The log may have grown; by this entry, where the signal carried one. */
  lookAgain(entry?: CarriedEntry): void;
  /** Leaves may have been removed or banned: access is to be looked at again. */
  membersChanged(): void;
  /** Somebody got a turn: it may be one whose connection is here. */
  turnsChanged(): void;
}

/** An application message, as the frame that brings it to readers. */
export interface CarriedEntry {
  readonly sequence: number;
  readonly frame: Bytes;
}

export type GroupChange = "entries" | "members" | "turns";

/** "Look again" for groups, within all nodes. A lost signal costs time, not data. */
export interface GroupSignals {
  /** `entry`, what the log grew by: a signal carries it where it is small. Nobody relies on it. */
  publish(groupId: GroupId, change: GroupChange, entry?: CarriedEntry): void;
  /** The returned function ends the subscription. */
  subscribe(groupId: GroupId, listener: GroupListener): () => void;
}

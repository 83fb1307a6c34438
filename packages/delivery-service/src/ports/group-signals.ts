import type { GroupId } from "@murmuration/base";

/** What a connection that has a group open hears. */
export interface GroupListener {
  /** The log may have grown. */
  lookAgain(): void;
  /** Leaves may have been removed or banned: access is to be looked at again. */
  membersChanged(): void;
  /** Somebody got a turn: it may be one whose connection is here. */
  turnsChanged(): void;
}

export type GroupChange = "entries" | "members" | "turns";

/** "Look again" for groups, within all nodes. A lost signal costs time, not data. */
export interface GroupSignals {
  publish(groupId: GroupId, change: GroupChange): void;
  /** The returned function ends the subscription. */
  subscribe(groupId: GroupId, listener: GroupListener): () => void;
}

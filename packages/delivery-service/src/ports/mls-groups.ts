import type { AccountId, Bytes, DeviceAddress, GroupId } from "@murmuration/base";

/** Welcomes that may wait for a device whose mailbox is full; the oldest gives way. */
export const WELCOMES_WAITING = 100;

/**
 * MLS groups: what is ordered, and what a follower is loaded from. One append is one transaction; sequence numbers of
 * a group begin at 1 and have no gaps, and no two commits lead on from one epoch, which the store itself guarantees.
 */
export interface MlsGroupStore {
  /** Stores a group in its first epoch, with an empty log. `exists` when the id is taken. */
  create(group: NewMlsGroup): Promise<"created" | "exists">;
  /** O(1): nothing here grows with the members. */
  load(groupId: GroupId): Promise<MlsGroupRow | undefined>;
  /** How far groups are, in the order of the question; undefined for unknown ones. One query. */
  heads(groupIds: readonly GroupId[]): Promise<readonly (GroupHead | undefined)[]>;
  /** Appends one application message; the same submit hash again is answered with where it is. O(1). */
  appendMessage(append: AppendMessage): Promise<AppendMessageOutcome>;
  /**
   * Appends the proposals that a commit refers to and the commit, and in the same transaction takes everything over
   * that follows from it: epoch, GroupInfo, tree delta, ban list, former leaves, Welcomes into the outbox, and the
   * end of the proposals that wait. Of the Welcomes that wait for one device the newest {@link WELCOMES_WAITING} stay:
   * whoever adds it again and again fills no disk. O(what changed), not O(members).
   */
  appendCommit(append: AppendCommit): Promise<AppendCommitOutcome>;
  /**
   * Appends commits that this store has lost, all of them in one transaction, with what follows from each as in
   * `appendCommit`; there are no Welcomes. Only the last epoch has a GroupInfo: none of these commits can be voided.
   */
  refeed(append: AppendRefeed): Promise<AppendRefeedOutcome>;
  /**
   * Takes the newest commit that counts back: a void entry, and the epoch before it as it was, with its GroupInfo,
   * ban list, members and bans. Welcomes of the commit that still wait in the outbox are deleted, and proposals that
   * wait for its epoch; those it took from the epoch before do not wait again. Another commit may then lead on from
   * that epoch. Undefined when it is not the newest, so old that the log does not hold it, or fed again. O(what it
   * changed).
   */
  voidCommit(request: VoidCommit): Promise<{ readonly sequence: number } | undefined>;
  /**
   * Entries after `after` up to `through`, in order: at least one if there is any, then as many as fit both limits.
   * The first is `after` + 1 unless that has expired. O(entries read).
   */
  read(
    groupId: GroupId,
    after: number,
    through: number,
    limits: { readonly maxEntries: number; readonly maxBytes: number },
  ): Promise<readonly LogEntry[]>;
  /**
   * The entries of the commit that led on from this epoch (proposals before it included); undefined if none does, or
   * not all of them are kept. A commit that was voided led nowhere. O(its entries).
   */
  commitOf(groupId: GroupId, epoch: number): Promise<readonly LogEntry[] | undefined>;
  /**
   * The nearest stored snapshot of the tree at or before an epoch, with the deltas from there to that epoch; undefined
   * for an epoch that is not kept. Kept are all epochs in which a kept entry was written, and the present one.
   */
  loadTree(groupId: GroupId, epoch: number): Promise<StoredTree | undefined>;
  /** Bytes of the snapshot and the deltas that `loadTree` would read, without reading them; 0 for an epoch that is not kept. O(deltas). */
  treeBytes(groupId: GroupId, epoch: number): Promise<number>;
  /**
   * What changed in the tree from one epoch to another, an entry for each commit between; undefined where one of them is not
   * kept, the first is not the earlier, or all together are larger. O(commits between), and O(their bytes) where they are not.
   */
  treeDeltas(
    groupId: GroupId,
    from: number,
    to: number,
    maxBytes: number,
  ): Promise<readonly Bytes[] | undefined>;
  /** Where a tree with this hash is kept: the newest epoch of any group that had it. O(log epochs). */
  findTree(treeHash: Bytes): Promise<{ readonly groupId: GroupId; readonly epoch: number } | undefined>;
  /**
   * Stores a snapshot of an epoch's tree, so that fewer deltas are needed from there on. O(members). Ignored when the
   * epoch has another tree hash by now, or is gone: its commit may have been voided while the snapshot was made.
   */
  saveSnapshot(groupId: GroupId, epoch: number, treeHash: Bytes, snapshot: Bytes): Promise<void>;
  /**
   * A leaf that was removed once, though it may have come back; undefined when it never was, or so long ago that it is
   * forgotten. The newest removal counts.
   */
  formerLeaf(groupId: GroupId, signatureKey: Bytes): Promise<FormerLeaf | undefined>;
  /**
   * Bans leaves of an account: each key is cut off from then on, and the account is kept out until a ban list names it.
   * The same order again changes nothing.
   */
  ban(groupId: GroupId, orderId: Bytes, account: AccountId, signatureKeys: readonly Bytes[]): Promise<void>;
  /** Keys that are banned and not yet removed from the tree, in rising order. */
  bannedKeys(groupId: GroupId): Promise<readonly Bytes[]>;
  /** Accounts that were banned and that no ban list has named since, in rising order. Forgotten with their last key. */
  bannedAccounts(groupId: GroupId): Promise<readonly AccountId[]>;
  /** Writes cursors of leaves; a cursor never goes back. Those of unknown groups are ignored. */
  saveCursors(cursors: readonly LeafCursor[]): Promise<void>;
  /** The cursor of a leaf; undefined if it never acknowledged. */
  cursor(groupId: GroupId, signatureKey: Bytes): Promise<number | undefined>;

  /** Proposals that wait, in order of arrival. Each belongs to the present epoch. */
  pendingProposals(groupId: GroupId): Promise<readonly Bytes[]>;
  /** `full` beyond `max`; `outdated` when no group is in `epoch` any more. The same bytes again are `stored`. */
  addProposal(
    groupId: GroupId,
    epoch: number,
    proposal: Bytes,
    max: number,
  ): Promise<"stored" | "full" | "outdated">;

  /**
   * Welcomes of accepted commits that are not in their mailboxes yet, with ids after `after`, in their order. Ids rise in the
   * order in which Welcomes are first seen, whoever saw them: one whose commit is durable later is behind all that were
   * read before. A page that is not full has every Welcome after `after` whose commit was answered before the question.
   */
  outbox(after: number, limit: number): Promise<readonly OutgoingWelcome[]>;
  /** After they are durable in their mailboxes, or can never be (the device is gone). */
  removeFromOutbox(ids: readonly number[]): Promise<void>;

  /**
   * Deletes at most `limit` entries accepted before `beforeMs`, from the beginning of each log on, so that what is left
   * has no gap; with them snapshots, deltas, GroupInfos and ban lists of epochs that are not kept any more, Welcomes
   * that never left the outbox, and leaves that were removed by then, with their cursors and bans. What the present
   * epoch needs stays. Returns how many entries. Nothing reads them from then on; an engine that keeps them by the week
   * takes the bytes off its disk when the whole week has expired, at most as much later.
   */
  expire(beforeMs: number, limit: number): Promise<number>;
  /** Deletes at most `limit` groups in which nothing was appended or read since before `day`. */
  expireGroups(day: number, limit: number): Promise<number>;
  /** Notes that the group was used on this day. */
  touch(groupId: GroupId, day: number): Promise<void>;
}

export interface NewMlsGroup {
  readonly groupId: GroupId;
  readonly epoch: number;
  readonly groupInfo: Bytes;
  readonly treeHash: Bytes;
  /** Encoded ratchet tree of the first epoch. */
  readonly tree: Bytes;
  readonly day: number;
}

export interface MlsGroupRow {
  readonly groupId: GroupId;
  readonly epoch: number;
  /** Of the newest entry; 0 in an empty log. */
  readonly lastSequence: number;
  /** Of the oldest entry that is still kept; lastSequence + 1 when none is. */
  readonly firstSequence: number;
  /** MLSMessage with the GroupInfo of the present epoch. */
  readonly groupInfo: Bytes;
  readonly treeHash: Bytes;
  readonly banList: Bytes | undefined;
  /**
   * The newest epoch that was entered by a commit which removed somebody, if only to bring it back with fresh keys, or the
   * first epoch; messages of older ones are refused.
   */
  readonly lastRemovalEpoch: number;
  /** Sequence number of the commit that led to the present epoch; 0 in the first epoch. */
  readonly lastCommitSequence: number;
  readonly lastUsedDay: number;
}

/** What changes whenever a reader may have to look again. */
export interface GroupHead {
  readonly lastSequence: number;
  /** Keys that were banned, removed by now or not. */
  readonly bans: number;
}

export interface AppendMessage {
  readonly groupId: GroupId;
  /** SHA-256 of the submit id. */
  readonly submitHash: Bytes;
  readonly message: Bytes;
  /** Epoch of the message, and the oldest epoch that is still taken is decided inside the transaction. */
  readonly epoch: number;
  readonly epochsBehind: number;
  readonly acceptedAtMs: number;
}

export type AppendMessageOutcome =
  | { readonly kind: "appended"; readonly sequence: number }
  | { readonly kind: "repeated"; readonly sequence: number }
  /** Too far behind, or somebody was removed since. */
  | { readonly kind: "outdated" }
  /** Of an epoch that the group has not reached. */
  | { readonly kind: "unknown-epoch" }
  | { readonly kind: "unknown-group" };

export interface AppendCommit {
  readonly groupId: GroupId;
  /** The commit leads on from this epoch. */
  readonly fromEpoch: number;
  /**
   * Of the commit that led to that epoch, as it was when this one was validated: `lost` where it is another one. An epoch that
   * was taken back and entered again has the number of before and other members. Undefined: not asked.
   */
  readonly fromCommitSequence?: number | undefined;
  /** SHA-256 of the commit message. */
  readonly commitHash: Bytes;
  /** Those that the commit refers to and that are not in the log yet, in order. */
  readonly proposals: readonly Bytes[];
  readonly commit: Bytes;
  readonly groupInfo: Bytes;
  readonly treeHash: Bytes;
  /** What changed in the tree; see `PublicGroup.treeDelta`. */
  readonly treeDelta: Bytes;
  /** The new list; undefined where the commit did not change it. */
  readonly banList: Bytes | undefined;
  /** Signature keys of leaves that the commit removed. */
  readonly removed: readonly Bytes[];
  /** Banned accounts that the ban list names from now on: it keeps them out, not the order. */
  readonly listed: readonly AccountId[];
  /** A leaf came back with fresh keys: it cannot read what was encrypted before. */
  readonly leafReplaced: boolean;
  readonly welcomes: readonly { readonly recipient: DeviceAddress; readonly welcome: Bytes }[];
  readonly acceptedAtMs: number;
}

export type AppendCommitOutcome =
  | { readonly kind: "appended"; readonly sequence: number; readonly epoch: number }
  /** The same bytes were appended before. */
  | { readonly kind: "repeated"; readonly sequence: number; readonly epoch: number }
  /**
   * The group is in this epoch: another commit won, or these bytes were appended and then voided, which they stay.
   * Then the epoch is the one that the commit is of, or a later one.
   */
  | { readonly kind: "lost"; readonly epoch: number }
  | { readonly kind: "unknown-group" };

export interface AppendRefeed {
  readonly groupId: GroupId;
  /** The first commit leads on from this epoch, each other one from the epoch of the one before it. At least one. */
  readonly fromEpoch: number;
  readonly commits: readonly Omit<
    AppendCommit,
    "groupId" | "fromEpoch" | "groupInfo" | "welcomes" | "acceptedAtMs"
  >[];
  /** Of the epoch that the last one leads to. */
  readonly groupInfo: Bytes;
  /** Stands with the first of them; with each other one the number of the commit before it. */
  readonly partedSequence: number;
  readonly acceptedAtMs: number;
}

export type AppendRefeedOutcome =
  /** Sequence numbers of the commits, in order. */
  | { readonly kind: "appended"; readonly sequences: readonly number[]; readonly epoch: number }
  /** Another commit won, or one of these was appended before and voided. Nothing is appended. */
  | { readonly kind: "lost"; readonly epoch: number }
  | { readonly kind: "unknown-group" };

export interface VoidCommit {
  readonly groupId: GroupId;
  /** Of the commit. */
  readonly sequence: number;
  /** What proves it to members: stands in the entry in the place of a message. */
  readonly proof: Bytes;
  readonly acceptedAtMs: number;
}

export interface LogEntry {
  readonly sequence: number;
  readonly kind: "application" | "proposal" | "commit" | "void";
  /** MLSMessage; of a void entry what proves it. */
  readonly message: Bytes;
  /** Of a commit that changed it. */
  readonly banList: Bytes | undefined;
  /** Of a void entry: the commit that does not count. */
  readonly voids: number | undefined;
  /** Of a commit that was fed again: the newest entry before it that members which were further have seen. */
  readonly partedSequence: number | undefined;
  readonly acceptedAtMs: number;
}

export interface StoredTree {
  readonly epoch: number;
  readonly treeHash: Bytes;
  readonly snapshotEpoch: number;
  readonly snapshot: Bytes;
  /** From the snapshot's epoch to this one, oldest first. */
  readonly deltas: readonly Bytes[];
}

export interface FormerLeaf {
  /** Sequence number of the commit that removed it. */
  readonly removedAt: number;
  /** That commit carried out a ban: the leaf may not even read what it missed. */
  readonly banned?: true;
}

export interface LeafCursor {
  readonly groupId: GroupId;
  readonly signatureKey: Bytes;
  readonly throughSequence: number;
}

export interface OutgoingWelcome {
  readonly id: number;
  readonly groupId: GroupId;
  readonly recipient: DeviceAddress;
  readonly welcome: Bytes;
  readonly treeHash: Bytes;
  /** Of the commit. */
  readonly sequence: number;
  readonly acceptedAtMs: number;
}

import type { AccountId, Bytes, DeviceAddress, GroupId } from "@murmuration/base";
import type { CommitParties, InviteLink } from "@murmuration/mls-groups/public-group";

/**
 * Follows groups and validates what changes them, with the engine's `PublicGroup` and the policy that members run,
 * away from the event loop. It holds what it has loaded as a cache with a byte budget; the truth is in the store.
 *
 * Every call names the epoch that the caller believes in and what to load from when that is not in the cache. Rejects
 * with RejectionError `group/commit-invalid` (its explanation is the engine's code) and UnavailableError
 * `validator/unavailable`; a commit also with `group/welcome-mismatch`.
 */
export interface CommitValidator {
  /** Validates the first epoch of a group. O(members), which is one. */
  create(request: { readonly groupInfo: Bytes; readonly ratchetTree: Bytes }): Promise<ValidatedGroup>;
  /** Validates a commit with its GroupInfo. Nothing is taken over: that is `settle`. O(log N + proposals). */
  commit(base: FollowerBase, request: CommitRequest): Promise<ValidatedCommit>;
  /**
   * Validates commits that lead on from an epoch, one after the other, on a follower of their own: what is cached stays as
   * it is, and the group has to be forgotten when they were stored, or are given up. They may come in several requests, in
   * order, about a few groups at a time (`validator/overloaded` for more); the last one brings the GroupInfo. O(members) for
   * the first, then O(log N + proposals) for each commit.
   */
  refeed(base: FollowerBase, request: RefeedRequest): Promise<ValidatedRefeed>;
  /** The commit was stored with this sequence number (or not at all): the cached follower moves on, or forgets it. */
  settle(groupId: GroupId, epoch: number, storedAs: number | undefined): void;
  /** Validates a proposal for the present epoch. */
  proposal(base: FollowerBase, request: ProposalRequest): Promise<void>;
  /** The leaves' side of the group: who signs with which key, what roles allow. O(1) where the follower is cached. */
  leaf(base: FollowerBase, leafIndex: number): Promise<FollowedLeaf | undefined>;
  /** The leaf with this signature key. */
  leafOfKey(base: FollowerBase, signatureKey: Bytes): Promise<FollowedLeaf | undefined>;
  /** Signature key of a leaf in a past epoch, of which only the tree is known. O(members): that tree is built for it. */
  pastLeaf(base: FollowerBase, leafIndex: number): Promise<Bytes | undefined>;
  /** Whose word about a commit that led on from this past epoch counts, from the bytes of the log. O(members), as `pastLeaf`. */
  parties(base: FollowerBase, commit: Bytes, proposals: readonly Bytes[]): Promise<CommitParties>;
  /** The group's link of this id, expired or not, where this is a signature by it over these bytes. */
  verifyLink(
    base: FollowerBase,
    linkId: Bytes,
    content: Bytes,
    signature: Bytes,
  ): Promise<InviteLink | undefined>;
  /**
   * Whether this credential, with this signature key, is one under which a device may join that the group expects
   * (docs/communities.md): of an expected account, valid, not banned, and no leaf yet.
   */
  isExpected(base: FollowerBase, request: ExpectedRequest): Promise<boolean>;
  /** Who should take the next turn among these leaves, if any should. */
  nextTurn(base: FollowerBase, request: NextTurnRequest): Promise<NextTurn | undefined>;
  /**
   * The tree with this hash, which a stored epoch has, encoded and compressed for the route of trees. O(members). Rejects
   * with UnavailableError `validator/another-tree` when the epoch has another one by now: its commit was voided.
   */
  compressedTree(base: FollowerBase, treeHash: Bytes): Promise<Bytes>;
  /** The tree of the present epoch as a snapshot for the store. O(members). */
  snapshot(base: FollowerBase): Promise<Bytes>;
  /** Forgets a group: its state in the store changed otherwise than by a commit. */
  forget(groupId: GroupId): void;
  close(): Promise<void>;
}

/** An epoch, and how to get there when it is not in the cache. */
export interface FollowerBase {
  readonly groupId: GroupId;
  readonly epoch: number;
  /**
   * Of the commit that led to the epoch, which tells it from one of its number that was taken back; 0 for the first epoch.
   * Undefined where only a tree is asked for, of an epoch that is over or by its hash.
   */
  readonly commitSequence: number | undefined;
  /** Asked only when needed. */
  load(): Promise<FollowerSource>;
}

export interface FollowerSource {
  /** Empty for an epoch that is over: of it there is only the tree. */
  readonly groupInfo: Bytes;
  readonly snapshot: Bytes;
  readonly deltas: readonly Bytes[];
  readonly banList: Bytes | undefined;
}

export interface ValidatedGroup {
  readonly groupId: Bytes;
  readonly epoch: number;
  readonly treeHash: Bytes;
}

export interface CommitRequest {
  readonly commit: Bytes;
  readonly groupInfo: Bytes;
  readonly banList: Bytes | undefined;
  /** Proposals that wait at the service: the commit may refer to them. */
  readonly proposals: readonly Bytes[];
  /** Leaf whose access the connection has; undefined for an external commit. */
  readonly committer: number | undefined;
  /** For everybody that the commit adds; it is cut up, one for each. */
  readonly welcome: Bytes | undefined;
  /** No Add may be of a KeyPackage that is not valid at this time, seconds since 1970. */
  readonly nowSeconds: number;
  /** Signature keys of leaves that are banned and not yet removed. */
  readonly banned: readonly Bytes[];
  /** Accounts that a ban order alone keeps out, whether or not they have a leaf. */
  readonly bannedAccounts: readonly AccountId[];
}

export interface RefeedRequest {
  /** Of the first commit here: that of the base in the first request. */
  readonly fromEpoch: number;
  readonly commits: readonly PastCommit[];
  /** Signature keys of banned leaves. */
  readonly banned: readonly Bytes[];
  /** Accounts that a ban order alone keeps out, before the first of these commits. */
  readonly bannedAccounts: readonly AccountId[];
  /** Of the epoch that the last commit leads to, in the last request. */
  readonly groupInfo: Bytes | undefined;
}

export interface PastCommit {
  readonly commit: Bytes;
  /** Those that were in the log for its epoch. */
  readonly proposals: readonly Bytes[];
  readonly banList: Bytes | undefined;
}

export interface ValidatedRefeed {
  readonly commits: readonly ValidatedPastCommit[];
  /** Signature key of the leaf that signed the GroupInfo. */
  readonly signerKey: Bytes | undefined;
}

export type ValidatedPastCommit = Pick<
  ValidatedCommit,
  | "treeHash"
  | "treeDelta"
  | "referenced"
  | "removed"
  | "leafReplaced"
  | "added"
  | "bringsBanned"
  | "listed"
  | "senderKey"
  | "silent"
  | "banListChanged"
>;

export interface ValidatedCommit {
  /** Of the epoch that the commit leads to. */
  readonly treeHash: Bytes;
  readonly treeDelta: Bytes;
  /** True where the deltas since the last snapshot outweigh a new one. */
  readonly snapshotDue: boolean;
  /** Proposals out of `proposals` that the commit refers to, in that order. */
  readonly referenced: readonly Bytes[];
  /** Signature keys of the leaves that it removes. */
  readonly removed: readonly Bytes[];
  /** One Welcome for each Add, in order. */
  readonly welcomes: readonly Bytes[];
  /** Signature keys of the leaves that it adds. */
  readonly added: readonly Bytes[];
  /** Devices that the credentials of its Adds name, in order: the Welcomes are for them. */
  readonly addedDevices: readonly DeviceAddress[];
  /** Leaf index of the committer in the new epoch. */
  readonly sender: number;
  readonly senderKey: Bytes;
  /** Accounts whose word about it does not count: see {@link CommitParties}. */
  readonly silent: readonly AccountId[];
  /** Before the commit; a joiner's own account may hold one already. */
  readonly senderRole: GroupRole;
  readonly external: boolean;
  /** It adds or lets in a device of an account that has a banned leaf before the commit, or that an order keeps out. */
  readonly bringsBanned: boolean;
  /** Of `bannedAccounts` those that a ban list names, the one in force before the commit or the one after it. */
  readonly listed: readonly AccountId[];
  /** A leaf came back with fresh keys: it cannot read what was encrypted before. */
  readonly leafReplaced: boolean;
  /** Of a join by link: which, expired or not, and how many joins a minute the group lets it have; 0 for any number. */
  readonly joinedBy: { readonly link: InviteLink; readonly perMinute: number } | undefined;
  readonly banListChanged: boolean;
}

export interface ProposalRequest {
  readonly proposal: Bytes;
  /** Those that wait already. */
  readonly proposals: readonly Bytes[];
  readonly sender: number | undefined;
}

export type GroupRole = "owner" | "admin" | "member";

export interface FollowedLeaf {
  readonly leafIndex: number;
  readonly signatureKey: Bytes;
  readonly accountId: AccountId;
  readonly role: GroupRole;
  /** What the group's settings ask of a sender. */
  readonly settings: FollowedSettings;
}

export interface FollowedSettings {
  readonly announcementOnly: boolean;
  readonly slowModeSeconds: number;
}

export interface ExpectedRequest {
  /** MemberCredential. */
  readonly credential: Bytes;
  readonly signatureKey: Bytes;
  /** Signature keys of leaves that are banned and not yet removed: no other device of their accounts comes in. */
  readonly banned: readonly Bytes[];
}

export interface NextTurnRequest {
  /** Leaves that are here and able. */
  readonly online: readonly number[];
  /** Leaves whose proposals to leave wait. */
  readonly leaving: readonly number[];
  readonly bannedLeaves: readonly number[];
}

export interface NextTurn {
  readonly leafIndex: number;
  readonly reason: "proposals" | "warm-up" | "ban";
}

import { type Bytes, RejectionError, toHex, UsageError } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { confirmationTag, epochSecretsOf, exportSecret } from "../schedule/key-schedule.ts";
import { EMPTY_TRANSCRIPT_HASH, interimTranscriptHash } from "../schedule/transcript-hash.ts";
import { authenticatedContentBytes, decodeAuthenticatedContent } from "../structs/authenticated-content.ts";
import { copyExtensions, type Extension } from "../structs/extension.ts";
import type { GroupContext } from "../structs/group-context.ts";
import { type LeafNode, type Lifetime, leafNodeBytes } from "../structs/leaf-node.ts";
import { encodeMlsMessage } from "../structs/mls-message.ts";
import type { Proposal, ReInit } from "../structs/proposal.ts";
import { type LeafIndex, leafToNode } from "../tree/math.ts";
import { RatchetTree } from "../tree/ratchet-tree.ts";
import { validateLifetime } from "../tree/tree-validation.ts";
import { memberState } from "./advance.ts";
import { createCommit, type LeafChange } from "./create-commit.ts";
import { type GroupConfig, groupDefaults } from "./group-config.ts";
import { createGroupInfo, type GroupInfoOptions } from "./group-info.ts";
import {
  encodeOwnUpdate,
  encodePending,
  encodeProposalRow,
  type GroupStatus,
  rowKeys,
} from "./group-rows.ts";
import {
  type Internals,
  initialRows,
  leafInEpoch,
  newInternals,
  pskSourceOf,
  putHead,
  putSecretTreeWrites,
} from "./internals.ts";
import { generateLeaf, type LeafOptions, type MemberIdentity } from "./key-package.ts";
import { loadInternals } from "./load.ts";
import type { MemberState } from "./member-state.ts";
import { dropPending, forgetProposals, type MergePoint, mergeCommit, pruneRetained } from "./merge.ts";
import { protectOwn, signOwn } from "./messages.ts";
import { hasValidProposal, type SelectProposals, selectProposals } from "./proposal-cache.ts";
import type { CommittedProposal } from "./proposal-list.ts";
import { encodeGroupContext, type PublicEpoch } from "./public-epoch.ts";
import { type Received, type ReceivedCommit, type ReceiveOptions, receive } from "./receive.ts";
import { signForService } from "./service-signature.ts";
import type { StagedPublic } from "./stage-public.ts";
import { type GroupStore, WriteSet } from "./store.ts";
import { encodeWelcome } from "./welcome.ts";

const EMPTY = new Uint8Array(0);

export interface CreateGroup {
  readonly groupId: Uint8Array;
  readonly identity: MemberIdentity;
  readonly lifetime: Lifetime;
  readonly leaf?: LeafOptions;
  /** Extensions of the GroupContext. */
  readonly extensions?: readonly Extension[];
}

export interface CommitOptions {
  /** Proposals of our own to cover by value. */
  readonly proposals?: readonly Proposal[];
  /** Which cached proposals to cover: all valid ones beside `proposals` (default), none, or those with these ProposalRefs. */
  readonly cached?: "all" | "none" | readonly Uint8Array[];
  /** "required" omits the path where section 12.4 allows it: for bulk Adds. Default "always". */
  readonly path?: "always" | "required";
  readonly leafChange?: LeafChange;
  readonly authenticatedData?: Uint8Array;
  /** Of the GroupInfo for the DS and in the Welcome. */
  readonly groupInfo?: GroupInfoOptions;
  /** Of the GroupInfo in the Welcome alone, which nobody but those who are added can read. One signature more. */
  readonly welcomeExtensions?: readonly Extension[];
  /**
   * Seconds since 1970. With it an Add outside of its lifetime is refused (7.3), and one that came from another member
   * is left out of the commit. Only a committer looks at lifetimes: no clock decides whether a commit is valid.
   */
  readonly nowSeconds?: bigint;
  /** Only for the first commit of a group that continues another one (11.2, 11.3). */
  readonly allowSubgroupPsk?: "reinit" | "branch";
}

/** What a new commit consists of. It is pending, and stored as such, until it is merged or discarded. */
export interface CommitBundle {
  readonly message: Bytes;
  /** MLSMessage with the Welcome for all new members; undefined when nobody was added. */
  readonly welcome: Bytes | undefined;
  /** MLSMessage with the GroupInfo of the new epoch. */
  readonly groupInfo: Bytes;
  readonly writes: WriteSet;
}

/** A member as the tree has it. */
export interface Member {
  readonly leaf: LeafIndex;
  readonly leafNode: LeafNode;
}

/** A commit of our own that waits for its acceptance, as far as it is public. */
export interface PendingCommit {
  readonly message: Bytes;
  readonly public: StagedPublic;
  /** The epoch that it leads on from. */
  readonly from: PublicEpoch;
}

/** The inside of a group, for this package's tests and benchmarks. No entry point exports it. */
export let internalsOf: (group: Group) => Internals;

/**
 * One MLS group from the side of a member (RFC 9420).
 *
 * Operations change memory and return `writes`, which the caller stores in one transaction with rows of its own
 * before bytes leave or anything is acknowledged. If storing fails, drop the object and load the group again. Not
 * for concurrent use: one queue per group.
 */
export class Group {
  readonly #inside: Internals;

  static {
    internalsOf = (group) => group.#inside;
  }

  /** For the functions of this folder that make groups. */
  constructor(inside: Internals) {
    this.#inside = inside;
  }

  /** Creates a group with one member, in epoch 0 (11). */
  static create(
    crypto: CryptoProvider,
    request: CreateGroup,
    config: Partial<GroupConfig> = {},
  ): { group: Group; writes: WriteSet } {
    const source = { kind: "key_package", lifetime: request.lifetime } as const;
    const { leafNode, leafPrivateKey } = generateLeaf(crypto, request.identity, source, request.leaf ?? {});
    const tree = RatchetTree.create(crypto, leafNodeBytes(leafNode));
    const context: GroupContext = {
      cipherSuite: crypto.suite.id,
      groupId: request.groupId.slice(),
      epoch: 0n,
      treeHash: tree.treeHash(),
      confirmedTranscriptHash: EMPTY_TRANSCRIPT_HASH,
      extensions: copyExtensions(request.extensions ?? []),
    };
    const epochSecret = crypto.random(crypto.suite.hashLength);
    const secrets = epochSecretsOf(crypto, epochSecret);
    epochSecret.fill(0);
    const tag = confirmationTag(crypto, secrets.confirmationKey, EMPTY_TRANSCRIPT_HASH);
    const epoch = {
      crypto,
      context,
      contextBytes: encodeGroupContext(context),
      tree,
      confirmationTag: tag,
      interimTranscriptHash: interimTranscriptHash(crypto, EMPTY_TRANSCRIPT_HASH, tag),
    };
    const state = memberState(epoch, secrets, {
      ownLeaf: 0,
      signaturePrivateKey: request.identity.signatureKeys.privateKey.slice(),
      privateKeys: new Map([[leafToNode(0), leafPrivateKey]]),
      ratchetLimits: config.ratchetLimits ?? groupDefaults.ratchetLimits,
    });
    return Group.start(state, config);
  }

  /** A group that starts with this state, with every row to store. O(N). */
  static start(
    state: MemberState,
    config: Partial<GroupConfig>,
    status: GroupStatus = "active",
  ): { group: Group; writes: WriteSet } {
    const inside = newInternals({ ...groupDefaults, ...config }, state, status);
    return { group: new Group(inside), writes: initialRows(inside) };
  }

  /** Loads a stored group. O(N). Throws InvariantError when rows are missing or damaged. */
  static load(crypto: CryptoProvider, store: GroupStore, config: Partial<GroupConfig> = {}): Group {
    return new Group(loadInternals(crypto, store, { ...groupDefaults, ...config }));
  }

  get groupId(): Uint8Array {
    return this.#inside.state.public.context.groupId;
  }
  get epoch(): bigint {
    return this.#inside.state.public.context.epoch;
  }
  get context(): GroupContext {
    return this.#inside.state.public.context;
  }
  get ownLeaf(): LeafIndex {
    return this.#inside.state.ownLeaf;
  }
  get status(): GroupStatus {
    return this.#inside.status;
  }
  /** The ReInit that the last commit covered (12.1.5); the group is suspended then. */
  get reinit(): ReInit | undefined {
    return this.#inside.reinit;
  }
  get memberCount(): number {
    return this.#inside.state.public.tree.memberCount;
  }
  /** The tree, to read: costs for the planner, hashes, members. */
  get tree(): RatchetTree {
    return this.#inside.state.public.tree;
  }
  get hasPendingCommit(): boolean {
    return this.#inside.pending !== undefined;
  }
  get pendingCommitMessage(): Bytes | undefined {
    return this.#inside.pending?.message;
  }
  /** To be inspected like a received one: who is added, removed. */
  get pendingCommit(): PendingCommit | undefined {
    const { pending, state } = this.#inside;
    return pending && { message: pending.message, public: pending.staged.public, from: state.public };
  }
  /** Proposals of this epoch that wait for a commit, in order of arrival. */
  get cachedProposals(): readonly CommittedProposal[] {
    return this.#inside.proposals.all();
  }

  /** All members in leaf order. O(N) for all, decoded one by one. */
  *members(): Generator<Member, void, undefined> {
    const { tree } = this.#inside.state.public;
    for (const leaf of tree.members()) yield { leaf, leafNode: tree.leaf(leaf)! };
  }

  /** The encoded LeafNode of a sender in the epoch of its message. Undefined when blank or no longer known. */
  leafNodeIn(epoch: bigint, leaf: LeafIndex): Uint8Array | undefined {
    return leafInEpoch(this.#inside, epoch, leaf);
  }

  /** Equal for all members of this epoch (8.7). */
  epochAuthenticator(): Bytes {
    this.#requireAlive();
    return this.#inside.state.secrets.epochAuthenticator.slice();
  }

  /** A secret for the application, bound to this epoch (8.5). */
  exportSecret(label: string, context: Uint8Array, length: number): Bytes {
    this.#requireAlive();
    return exportSecret(
      this.#inside.crypto,
      this.#inside.state.secrets.exporterSecret,
      label,
      context,
      length,
    );
  }

  /**
   * Signs with our leaf's key what is no MLS message: see {@link signForService}. Throws UsageError
   * `mls/label-not-ours`, and once we were removed `mls/group-removed`.
   */
  signForService(label: string, content: Uint8Array): Bytes {
    this.#requireAlive();
    return signForService(this.#inside.crypto, this.#inside.state.signaturePrivateKey, label, content);
  }

  /** The resumption PSK of this epoch or a retained one (8.6); undefined once forgotten. */
  resumptionPsk(epoch: bigint = this.epoch): Bytes | undefined {
    return this.#inside.resumptionPsks.get(epoch)?.slice();
  }

  /** A signed GroupInfo of this epoch as an MLSMessage (12.4.3). */
  groupInfo(options: GroupInfoOptions = {}): Bytes {
    this.#requireAlive();
    return encodeMlsMessage({
      wireFormat: "mls_group_info",
      groupInfo: createGroupInfo(this.#inside.state, options),
    });
  }

  /** The content of a ratchet_tree extension (12.4.3.3). O(N). */
  ratchetTree(): Bytes {
    return this.#inside.state.public.tree.encode();
  }

  /**
   * Encrypts application data (15). O(1): one signature, two AEAD seals. Throws UsageError `mls/proposals-pending`
   * when a valid proposal was seen in this epoch, which must be committed first (12.4).
   */
  createApplicationMessage(
    applicationData: Uint8Array,
    authenticatedData: Uint8Array = EMPTY,
  ): { message: Bytes; writes: WriteSet } {
    this.#requireActive();
    if (hasValidProposal(this.#inside.state.public, this.#inside.proposals, this.#selection()))
      throw new UsageError("mls/proposals-pending");
    const { state, config } = this.#inside;
    const content = signOwn(state, "mls_private_message", authenticatedData, {
      contentType: "application",
      applicationData,
    });
    const { message, writes } = protectOwn(state, content, config.padding);
    return { message, writes: putSecretTreeWrites(new WriteSet(), this.epoch, writes) };
  }

  /** Sends a proposal to the group (12.1). It is cached here as well. Throws UsageError `mls/proposal-limit-reached`. */
  propose(
    proposal: Proposal,
    authenticatedData: Uint8Array = EMPTY,
  ): { message: Bytes; reference: Bytes; writes: WriteSet } {
    this.#requireActive();
    if (proposal.kind === "update" || proposal.kind === "external_init")
      throw new UsageError("mls/proposal-kind");
    return this.#propose(proposal, authenticatedData);
  }

  /** Proposes a new leaf for ourselves (12.1.2). Large groups use a commit without proposals instead. */
  proposeUpdate(
    change: LeafChange = {},
    authenticatedData: Uint8Array = EMPTY,
  ): { message: Bytes; reference: Bytes; writes: WriteSet } {
    this.#requireActive();
    const { state } = this.#inside;
    const { leafNode, leafPrivateKey } = this.#updatedLeaf(change);
    const proposed = this.#propose({ kind: "update", leafNode }, authenticatedData);
    const keys = {
      leafPrivateKey,
      signaturePrivateKey: change.signatureKeys?.privateKey.slice() ?? state.signaturePrivateKey,
    };
    this.#inside.ownUpdates.set(toHex(proposed.reference), keys);
    proposed.writes.put(rowKeys.ownUpdate(toHex(proposed.reference)), encodeOwnUpdate(keys));
    return proposed;
  }

  /**
   * Creates a commit (12.4.1). The group stays in its epoch; the commit is pending. O(log N + proposals) and one HPKE
   * seal for each ciphertext. Throws UsageError `mls/commit-pending`, RejectionError for invalid proposals.
   */
  createCommit(options: CommitOptions = {}): CommitBundle {
    this.#requireActive();
    if (this.#inside.pending !== undefined) throw new UsageError("mls/commit-pending");
    const { state, config } = this.#inside;
    const proposals = this.#committed(options);
    for (const { proposal } of proposals) requireCurrentAdd(proposal, options.nowSeconds);
    const created = createCommit(state, {
      proposals,
      path: options.path ?? "always",
      leafChange: options.leafChange ?? {},
      authenticatedData: options.authenticatedData ?? EMPTY,
      wireFormat: config.handshakeFormat,
      groupInfo: options.groupInfo ?? {},
      welcomeExtensions: options.welcomeExtensions ?? [],
      policy: config.policy,
      psks: pskSourceOf(this.#inside),
      ratchetLimits: config.ratchetLimits,
      allowSubgroupPsk: options.allowSubgroupPsk,
    });
    const { message, writes: used } = protectOwn(state, created.content, config.padding);
    const welcome = created.welcome === undefined ? EMPTY : encodeWelcome(created.welcome);
    const groupInfo = encodeMlsMessage({ wireFormat: "mls_group_info", groupInfo: created.groupInfo });
    const { joinerSecret, pskSecret, next } = created;
    const { signaturePrivateKey, privateKeys } = next;
    const row = {
      message,
      authenticated: created.content,
      joinerSecret,
      pskSecret,
      signaturePrivateKey,
      privateKeys,
      welcome,
      groupInfo,
    };
    const staged = { public: created.public, next, authenticated: created.content };
    this.#inside.pending = { ...row, staged };
    const writes = putSecretTreeWrites(new WriteSet(), this.epoch, used).put(
      rowKeys.pending,
      encodePending(row),
    );
    return { message, welcome: welcome.length === 0 ? undefined : welcome, groupInfo, writes };
  }

  /** Gives the pending commit up, because another one won the epoch. */
  discardPending(): WriteSet {
    return dropPending(this.#inside, new WriteSet());
  }

  /**
   * Gives up the proposals of this epoch that are cached, own ones too, because the DS has none of them any more, and with them
   * a pending commit that refers to one: it can neither be taken nor be loaded again. O(proposals).
   */
  forgetProposals(): WriteSet {
    const writes = new WriteSet();
    const refers = this.#inside.pending?.staged.public.proposals.some(
      ({ reference }) => reference !== undefined,
    );
    if (refers === true) dropPending(this.#inside, writes);
    forgetProposals(this.#inside, writes);
    return writes;
  }

  /** Enters the epoch of our own pending commit, once the DS has accepted it. */
  mergePending(point: MergePoint): WriteSet {
    const { pending } = this.#inside;
    if (pending === undefined) throw new UsageError("mls/no-commit-pending");
    return mergeCommit(this.#inside, pending.staged, point);
  }

  /** See {@link receive}: throws RejectionError and leaves the group as it was when the message is refused. */
  receive(message: Uint8Array, options: ReceiveOptions = {}): Received {
    if (this.status === "removed" || this.status === "joining")
      throw new UsageError(`mls/group-${this.status}`);
    return receive(this.#inside, message, options);
  }

  /** Enters the epoch of a received commit. Throws UsageError when it was staged from another state than the current one. */
  merge(commit: ReceivedCommit, point: MergePoint): WriteSet {
    // Removal ends the group but not its last state, so both are asked.
    this.#requireAlive();
    if (commit.from !== this.#inside.state) throw new UsageError("mls/stale-staged-commit");
    const epoch = this.epoch;
    const consumed = commit.consume();
    const writes = mergeCommit(this.#inside, commit.staged, point);
    // Rows of an epoch that was forgotten at once must not come back.
    return this.#inside.retained.has(epoch) ? putSecretTreeWrites(writes, epoch, consumed) : writes;
  }

  /**
   * Forgets the past epochs whose time is over (9.2), as every merge does. For a group in which nobody commits: call
   * it now and then. O(past epochs).
   */
  forgetExpired(nowMs: number): WriteSet {
    return pruneRetained(this.#inside, nowMs, new WriteSet());
  }

  /** An external commit of ours was accepted: the group becomes active. */
  confirmJoin(): WriteSet {
    if (this.status !== "joining") throw new UsageError("mls/group-not-joining");
    this.#inside.status = "active";
    return putHead(new WriteSet(), this.#inside);
  }

  #propose(
    proposal: Proposal,
    authenticatedData: Uint8Array,
  ): { message: Bytes; reference: Bytes; writes: WriteSet } {
    const { crypto, state, config } = this.#inside;
    const content = signOwn(state, config.handshakeFormat, authenticatedData, {
      contentType: "proposal",
      proposal,
    });
    // What others could not decode is refused before a key is spent on it.
    decodeAuthenticatedContent(authenticatedContentBytes(content));
    if (!this.#inside.proposals.hasRoomFor(crypto, content))
      throw new UsageError("mls/proposal-limit-reached");
    const { message, writes: used } = protectOwn(state, content, config.padding);
    const cached = this.#inside.proposals.add(crypto, content);
    const writes = putSecretTreeWrites(new WriteSet(), this.epoch, used);
    writes.put(rowKeys.proposal(toHex(cached.reference)), encodeProposalRow(cached));
    return { message, reference: cached.reference, writes };
  }

  #updatedLeaf(change: LeafChange): { leafNode: LeafNode; leafPrivateKey: Bytes } {
    const { crypto, state } = this.#inside;
    const current = state.public.tree.leaf(state.ownLeaf)!;
    const identity = {
      credential: change.credential ?? current.credential,
      signatureKeys: change.signatureKeys ?? {
        publicKey: current.signatureKey.slice(),
        privateKey: state.signaturePrivateKey,
      },
    };
    const options = {
      capabilities: change.capabilities ?? current.capabilities,
      extensions: change.extensions ?? current.extensions,
    };
    const position = { groupId: state.public.context.groupId, leafIndex: state.ownLeaf };
    return generateLeaf(crypto, identity, { kind: "update" }, options, position);
  }

  #selection(byValue: readonly CommittedProposal[] = []): SelectProposals {
    const { state, config } = this.#inside;
    return { ownLeaf: state.ownLeaf, policy: config.policy, psks: pskSourceOf(this.#inside), byValue };
  }

  #selected(byValue: readonly CommittedProposal[]): CommittedProposal[] {
    return selectProposals(this.#inside.state.public, this.#inside.proposals, this.#selection(byValue));
  }

  #committed(options: CommitOptions): CommittedProposal[] {
    const { cached = "all", proposals = [], nowSeconds } = options;
    const sender = { kind: "member", leafIndex: this.ownLeaf } as const;
    const byValue = proposals.map((proposal): CommittedProposal => ({ proposal, sender }));
    if (cached === "none") return byValue;
    if (cached === "all") {
      return [
        ...this.#selected(byValue).filter(({ proposal }) => isCurrentAdd(proposal, nowSeconds)),
        ...byValue,
      ];
    }
    const byReference = cached.map((reference) => {
      const found = this.#inside.proposals.get(reference);
      if (found === undefined) throw new RejectionError("mls/commit/unknown-proposal-reference");
      return found;
    });
    return [...byReference, ...byValue];
  }

  #requireAlive(): void {
    if (this.status === "removed") throw new UsageError("mls/group-removed");
  }

  #requireActive(): void {
    if (this.status !== "active") throw new UsageError(`mls/group-${this.status}`);
  }
}

/** The lifetime rule (7.3) for an Add that is about to be committed; nothing else has a lifetime. */
function requireCurrentAdd(proposal: Proposal, nowSeconds: bigint | undefined): void {
  if (proposal.kind === "add" && nowSeconds !== undefined) {
    validateLifetime(proposal.keyPackage.leafNode, nowSeconds);
  }
}

function isCurrentAdd(proposal: Proposal, nowSeconds: bigint | undefined): boolean {
  try {
    requireCurrentAdd(proposal, nowSeconds);
    return true;
  } catch (error) {
    if (error instanceof RejectionError) return false;
    throw error;
  }
}

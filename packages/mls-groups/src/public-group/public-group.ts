import {
  type Bytes,
  type DeviceAddress,
  equalBytes,
  InvariantError,
  invariant,
  RejectionError,
  UsageError,
} from "@murmuration/base";
import { communityContextOf, type Role, roleOf } from "../community/community-context.ts";
import { deviceOf } from "../community/member-credential.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import type { VerifiedContent } from "../framing/content.ts";
import { followPublicMessage } from "../framing/public-message.ts";
import { nextContext, nextPublicEpoch } from "../group/advance.ts";
import { decodeGroupInfo, treeOf, verifyGroupInfo } from "../group/group-info.ts";
import { epochFromGroupInfo, validateCredentials, validateTreeAndCredentials } from "../group/join.ts";
import { type GroupPolicy, openPolicy } from "../group/policy.ts";
import { type CachedProposal, ProposalCache } from "../group/proposal-cache.ts";
import type { PublicEpoch } from "../group/public-epoch.ts";
import { verifySender } from "../group/receive.ts";
import { type StagedPublic, stagePublic } from "../group/stage-public.ts";
import { check } from "../rules.ts";
import type { Commit } from "../structs/commit.ts";
import { type GroupContext, groupContextBytes } from "../structs/group-context.ts";
import type { GroupInfo } from "../structs/group-info.ts";
import { decodeMlsMessage } from "../structs/mls-message.ts";
import type { LeafIndex } from "../tree/math.ts";
import { RatchetTree } from "../tree/ratchet-tree.ts";
import { validateTree } from "../tree/tree-validation.ts";

/** Objects, maps and closures of one group, about. */
const OBJECTS_BYTES = 8_192;

export interface FollowRequest {
  /** An MLSMessage with a GroupInfo of the epoch to follow from. */
  readonly groupInfo: Uint8Array;
  /** Needed when the GroupInfo does not carry the tree. */
  readonly ratchetTree?: Uint8Array | undefined;
}

/** What a service stored of a group that it followed. */
export interface RestoreRequest {
  /** MLSMessage with the GroupInfo of the newest epoch. */
  readonly groupInfo: Uint8Array;
  /** {@link PublicGroup.treeSnapshot} of an epoch. */
  readonly snapshot: Uint8Array;
  /** {@link PublicGroup.treeDelta} of each commit since, oldest first. */
  readonly deltas: readonly Uint8Array[];
  /** The last commit was a ReInit ({@link PublicGroup.reinitialized}): no GroupInfo says so. */
  readonly reinitialized?: boolean | undefined;
}

/** A commit that passed every check which needs no secret. Nothing has changed yet. */
export interface FollowedCommit {
  /** The epoch that it was validated against: it leads on from that one and from no other. */
  readonly from: PublicEpoch;
  readonly public: StagedPublic;
  readonly next: PublicEpoch;
  /** The committer's leaf in the new epoch. */
  readonly sender: LeafIndex;
  /** By somebody who was no member, or came back. */
  readonly external: boolean;
  /** ProposalRefs (5.2) of the proposals that it covers by reference, in its order. */
  readonly references: readonly Bytes[];
  /** Signature keys that were in the old tree and are not in the new one: not that of a leaf that was only replaced. */
  readonly removedKeys: readonly Bytes[];
  /** Members that it adds by Add; an external joiner is not among them. */
  readonly addedCount: number;
}

/** A leaf of a community as its delivery service needs to know it. */
export interface FollowedLeaf {
  readonly leafIndex: LeafIndex;
  readonly signatureKey: Bytes;
  readonly device: DeviceAddress;
  readonly role: Role;
}

export type Followed =
  | { readonly kind: "proposal"; readonly proposal: CachedProposal }
  | { readonly kind: "commit"; readonly commit: FollowedCommit };

/**
 * A group as seen from outside: tree, GroupContext and transcript, no secrets. For a delivery service that
 * orders commits and refuses the invalid ones. It follows PublicMessage handshakes and validates like a member,
 * with the same functions, except for what only members can check: membership tag, confirmation tag, and whether
 * the path secrets open.
 */
export class PublicGroup {
  readonly #crypto: CryptoProvider;
  readonly #policy: GroupPolicy;
  readonly #proposals = new ProposalCache();
  #epoch: PublicEpoch;
  /** A ReInit was committed: nothing follows (12.4.2). */
  #reinitialized = false;

  private constructor(crypto: CryptoProvider, epoch: PublicEpoch, policy: GroupPolicy) {
    this.#crypto = crypto;
    this.#epoch = epoch;
    this.#policy = policy;
  }

  /** Starts to follow at a GroupInfo, verified as a joiner would (12.4.3.1). O(N) signature verifications. */
  static follow(
    crypto: CryptoProvider,
    request: FollowRequest,
    policy: GroupPolicy = openPolicy,
  ): PublicGroup {
    const { epoch } = PublicGroup.#open(crypto, request);
    validateTree(epoch.tree, epoch.context);
    validateCredentials(epoch.tree, epoch.context, policy);
    return new PublicGroup(crypto, epoch, policy);
  }

  /** The same with the signatures verified in batches off the main thread. */
  static async followInBatches(
    crypto: CryptoProvider,
    request: FollowRequest,
    policy: GroupPolicy = openPolicy,
  ): Promise<PublicGroup> {
    const { epoch } = PublicGroup.#open(crypto, request);
    await validateTreeAndCredentials(epoch.tree, epoch.context, policy);
    return new PublicGroup(crypto, epoch, policy);
  }

  /**
   * Goes on with what was stored of a group that was followed before: no signature is verified again, but the tree is
   * hashed as a whole and has to be that of the GroupInfo. O(N) hashes. Throws InvariantError
   * `mls/stored-group-damaged` or `mls/stored-tree-of-another-epoch`.
   */
  static restore(
    crypto: CryptoProvider,
    request: RestoreRequest,
    policy: GroupPolicy = openPolicy,
  ): PublicGroup {
    try {
      const info = decodeGroupInfo(request.groupInfo);
      const tree = RatchetTree.decode(crypto, request.snapshot);
      for (const delta of request.deltas) tree.applyDelta(delta);
      invariant(info.groupContext.cipherSuite === crypto.suite.id, "mls/stored-suite");
      invariant(equalBytes(tree.treeHash(), info.groupContext.treeHash), "mls/stored-tree-of-another-epoch");
      const group = new PublicGroup(crypto, epochFromGroupInfo(crypto, info, tree), policy);
      group.#reinitialized = request.reinitialized ?? false;
      return group;
    } catch (error) {
      if (error instanceof RejectionError) throw new InvariantError("mls/stored-group-damaged", error.code);
      throw error;
    }
  }

  static #open(crypto: CryptoProvider, request: FollowRequest): { epoch: PublicEpoch } {
    const info = decodeGroupInfo(request.groupInfo);
    const tree = treeOf(crypto, info, request.ratchetTree);
    verifyGroupInfo(crypto, info, tree);
    return { epoch: epochFromGroupInfo(crypto, info, tree) };
  }

  get context(): GroupContext {
    return this.#epoch.context;
  }
  get epoch(): bigint {
    return this.#epoch.context.epoch;
  }
  /** To read: path costs, hashes, members. */
  get tree(): RatchetTree {
    return this.#epoch.tree;
  }
  /** Proposals of this epoch, in order of arrival. */
  get proposals(): readonly CachedProposal[] {
    return this.#proposals.all();
  }

  /** A ReInit was committed (12.1.5): every further commit is refused. */
  get reinitialized(): boolean {
    return this.#reinitialized;
  }

  /** The content of a ratchet_tree extension for the current epoch. O(N). */
  ratchetTree(): Bytes {
    return this.#epoch.tree.encode();
  }

  /** The tree of the current epoch for {@link PublicGroup.restore}: the same bytes as {@link ratchetTree}. O(N). */
  treeSnapshot(): Bytes {
    return this.#epoch.tree.encode();
  }

  /** What a staged commit changes in the tree, for {@link PublicGroup.restore}. O(what it changes). */
  treeDelta(commit: FollowedCommit): Bytes {
    return commit.next.tree.encodeDelta();
  }

  /** Who stands at a leaf of a community, undefined when it is blank. O(1). Throws RejectionError `community/…`. */
  leaf(leafIndex: LeafIndex): FollowedLeaf | undefined {
    const { tree, context } = this.#epoch;
    const leafNode = tree.leaf(leafIndex);
    if (leafNode === undefined) return undefined;
    const device = deviceOf(leafNode.credential);
    const role = roleOf(communityContextOf(context.extensions), device.accountId);
    return { leafIndex, signatureKey: new Uint8Array(leafNode.signatureKey), device, role };
  }

  /** The leaf with this signature key. O(1). */
  leafOfKey(signatureKey: Uint8Array): FollowedLeaf | undefined {
    const leafIndex = this.#epoch.tree.leafBySignatureKey(signatureKey);
    return leafIndex === undefined ? undefined : this.leaf(leafIndex);
  }

  /** Bytes of memory that this group takes, for a cache with a budget. O(waiting proposals). */
  get estimatedBytes(): number {
    const { tree, contextBytes } = this.#epoch;
    let bytes = OBJECTS_BYTES + tree.estimatedBytes + 4 * contextBytes.length;
    // A proposal is held decoded beside its bytes.
    for (const { authenticated } of this.#proposals.all()) bytes += 2 * authenticated.bytes.length + 1024;
    return bytes;
  }

  /**
   * Validates a PublicMessage with a proposal or a commit of the current epoch. A proposal is cached, the same one
   * once however often it comes; a commit is staged. Nothing that is kept or returned is a view of `message`. A commit
   * with more than `maxAdds` Adds is refused before any signature is verified. O(log N + proposals). Throws RejectionError
   * and changes nothing.
   */
  receive(message: Uint8Array, maxAdds = Number.POSITIVE_INFINITY): Followed {
    // A copy: what is staged or cached outlives the caller's receive buffer.
    const decoded = decodeMlsMessage(message.slice());
    if (decoded.wireFormat !== "mls_public_message") throw new RejectionError("mls/message/wire-format");
    const { content: claimed } = decoded.publicMessage.authenticated;
    if (claimed.contentType === "commit" && addsIn(claimed.commit) > maxAdds)
      throw new RejectionError("mls/message/too-many-adds");
    const unverified = followPublicMessage(decoded.publicMessage);
    check("message/group", equalBytes(unverified.groupId, this.#epoch.context.groupId));
    check("message/epoch", unverified.epoch === this.#epoch.context.epoch);
    check("message/group-not-reinitialized", !this.#reinitialized);
    const content = verifySender(this.#epoch, unverified);
    if (content.content.contentType === "commit") return { kind: "commit", commit: this.#stage(content) };
    return { kind: "proposal", proposal: this.#proposals.receive(this.#crypto, content) };
  }

  #stage(content: VerifiedContent<"unchecked">): FollowedCommit {
    const body = content.content;
    const tag = content.auth.confirmationTag;
    if (body.contentType !== "commit" || tag === undefined)
      throw new RejectionError("mls/message/content-type");
    const resolve = (reference: Uint8Array) => this.#proposals.get(reference);
    const staged = stagePublic(this.#epoch, body.commit, body.sender, resolve, this.#policy);
    const context = nextContext(this.#epoch, staged, content);
    const next = nextPublicEpoch(this.#epoch, staged, context, tag);
    return { from: this.#epoch, public: staged, next, ...summary(this.#epoch, staged) };
  }

  /**
   * Whether a GroupInfo is the one of a staged commit's epoch: same GroupContext, same confirmation tag, signed by
   * the committer. A delivery service stores it in the same transaction as the commit. One signature verification.
   */
  validateGroupInfo(commit: FollowedCommit, groupInfo: Uint8Array): void {
    const info = decodeGroupInfo(groupInfo);
    verifyGroupInfo(this.#crypto, info, commit.next.tree);
    check("group-info/signed-by-committer", info.signer === commit.public.sender);
    requireGroupInfoOf(commit.next, info);
  }

  /**
   * The leaf that signed this GroupInfo of the present epoch: same GroupContext, same confirmation tag. Any member may
   * sign one. One signature verification. Throws RejectionError.
   */
  signerOfGroupInfo(groupInfo: Uint8Array): LeafIndex {
    const info = decodeGroupInfo(groupInfo);
    verifyGroupInfo(this.#crypto, info, this.#epoch.tree);
    requireGroupInfoOf(this.#epoch, info);
    return info.signer;
  }

  /** Enters the epoch of a staged commit and forgets the proposals of the old one. O(1). */
  merge(commit: FollowedCommit): void {
    if (commit.from !== this.#epoch) throw new UsageError("mls/stale-staged-commit");
    this.#epoch = commit.next;
    this.#reinitialized = commit.public.plan.reinit !== undefined;
    this.#proposals.clear();
  }
}

/** By value: those that are referred to were received as proposals. */
function addsIn({ proposals }: Commit): number {
  return proposals.filter((item) => item.kind === "proposal" && item.proposal.kind === "add").length;
}

function requireGroupInfoOf({ contextBytes, confirmationTag }: PublicEpoch, info: GroupInfo): void {
  const same =
    equalBytes(groupContextBytes(info.groupContext), contextBytes) &&
    equalBytes(info.confirmationTag, confirmationTag);
  check("group-info/follows-commit", same);
}

function summary(
  from: PublicEpoch,
  staged: StagedPublic,
): Pick<FollowedCommit, "sender" | "external" | "references" | "removedKeys" | "addedCount"> {
  const references = staged.proposals.flatMap(({ reference }) =>
    reference === undefined ? [] : [reference],
  );
  const keys = staged.plan.removes.map((leaf) => from.tree.signatureKey(leaf)!);
  return {
    sender: staged.sender,
    external: staged.external,
    references: references.map((reference) => new Uint8Array(reference)),
    removedKeys: keys.filter((key) => staged.tree.leafBySignatureKey(key) === undefined),
    addedCount: staged.addedLeaves.length,
  };
}

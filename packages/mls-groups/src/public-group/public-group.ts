import { type Bytes, equalBytes, RejectionError, UsageError } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import type { VerifiedContent } from "../framing/content.ts";
import { followPublicMessage } from "../framing/public-message.ts";
import { nextContext, nextPublicEpoch } from "../group/advance.ts";
import { decodeGroupInfo, treeOf, verifyGroupInfo } from "../group/group-info.ts";
import { epochFromGroupInfo, validateCredentials } from "../group/join.ts";
import { type GroupPolicy, openPolicy } from "../group/policy.ts";
import { type CachedProposal, ProposalCache } from "../group/proposal-cache.ts";
import type { PublicEpoch } from "../group/public-epoch.ts";
import { verifySender } from "../group/receive.ts";
import { type StagedPublic, stagePublic } from "../group/stage-public.ts";
import { check } from "../rules.ts";
import { type GroupContext, groupContextBytes } from "../structs/group-context.ts";
import { decodeMlsMessage } from "../structs/mls-message.ts";
import type { RatchetTree } from "../tree/ratchet-tree.ts";
import { validateTree, validateTreeInBatches } from "../tree/tree-validation.ts";

export interface FollowRequest {
  /** An MLSMessage with a GroupInfo of the epoch to follow from. */
  readonly groupInfo: Uint8Array;
  /** Needed when the GroupInfo does not carry the tree. */
  readonly ratchetTree?: Uint8Array | undefined;
}

/** A commit that passed every check which needs no secret. Nothing has changed yet. */
export interface FollowedCommit {
  /** The epoch that it was validated against: it leads on from that one and from no other. */
  readonly from: PublicEpoch;
  readonly public: StagedPublic;
  readonly next: PublicEpoch;
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
    await validateTreeInBatches(epoch.tree, epoch.context);
    validateCredentials(epoch.tree, epoch.context, policy);
    return new PublicGroup(crypto, epoch, policy);
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

  /** The content of a ratchet_tree extension for the current epoch. O(N). */
  ratchetTree(): Bytes {
    return this.#epoch.tree.encode();
  }

  /**
   * Validates a PublicMessage with a proposal or a commit of the current epoch. A proposal is cached; a commit is
   * staged. Nothing that is kept or returned is a view of `message`. O(log N + proposals). Throws RejectionError and
   * changes nothing.
   */
  receive(message: Uint8Array): Followed {
    // A copy: what is staged or cached outlives the caller's receive buffer.
    const decoded = decodeMlsMessage(message.slice());
    if (decoded.wireFormat !== "mls_public_message") throw new RejectionError("mls/message/wire-format");
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
    const next = nextContext(this.#epoch, staged, content);
    return { from: this.#epoch, public: staged, next: nextPublicEpoch(this.#epoch, staged, next, tag) };
  }

  /**
   * Whether a GroupInfo is the one of a staged commit's epoch: same GroupContext, same confirmation tag, signed by
   * the committer. A delivery service stores it in the same transaction as the commit. One signature verification.
   */
  validateGroupInfo(commit: FollowedCommit, groupInfo: Uint8Array): void {
    const info = decodeGroupInfo(groupInfo);
    verifyGroupInfo(this.#crypto, info, commit.next.tree);
    check("group-info/signed-by-committer", info.signer === commit.public.sender);
    const same =
      equalBytes(groupContextBytes(info.groupContext), commit.next.contextBytes) &&
      equalBytes(info.confirmationTag, commit.next.confirmationTag);
    check("group-info/follows-commit", same);
  }

  /** Enters the epoch of a staged commit and forgets the proposals of the old one. O(1). */
  merge(commit: FollowedCommit): void {
    if (commit.from !== this.#epoch) throw new UsageError("mls/stale-staged-commit");
    this.#epoch = commit.next;
    this.#reinitialized = commit.public.plan.reinit !== undefined;
    this.#proposals.clear();
  }
}

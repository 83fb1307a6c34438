import { RejectionError } from "@murmuration/base";
import { check } from "../rules.ts";
import type { Commit } from "../structs/commit.ts";
import type { Sender } from "../structs/framed-content.ts";
import type { GroupContext } from "../structs/group-context.ts";
import type { LeafNode } from "../structs/leaf-node.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { RatchetTree } from "../tree/ratchet-tree.ts";
import { mergeUpdatePath } from "../tree/tree-kem.ts";
import { validateLeafNode } from "../tree/tree-validation.ts";
import type { GroupPolicy } from "./policy.ts";
import {
  type AppliedProposals,
  applyProposals,
  type CommittedProposal,
  type Committer,
  type ProposalPlan,
  planProposals,
  type SubgroupPsk,
  validateSuccessor,
} from "./proposal-list.ts";
import { encodeGroupContext, type PublicEpoch } from "./public-epoch.ts";

/** The epoch is a uint64 (8.1); the one behind the last would be encoded as 0. */
const LAST_EPOCH = 2n ** 64n - 1n;

/** Finds a proposal of this epoch by its ProposalRef. */
export type ResolveProposal = (reference: Uint8Array) => CommittedProposal | undefined;

/** Everything public that a valid commit leads to; what is missing for the next epoch are secrets and the transcript. */
export interface StagedPublic {
  readonly plan: ProposalPlan;
  readonly proposals: readonly CommittedProposal[];
  /** The committer's leaf, in the new tree for an external commit. */
  readonly sender: LeafIndex;
  readonly external: boolean;
  readonly tree: RatchetTree;
  readonly addedLeaves: readonly LeafIndex[];
  /** GroupContext of the new epoch but for its confirmed transcript hash, which is still the old one (12.4.1). */
  readonly provisional: GroupContext;
  readonly provisionalBytes: Uint8Array;
}

/** The proposals of a commit with their senders; by reference they must be known (12.4). O(proposals). */
function resolveProposals(
  commit: Pick<Commit, "proposals">,
  sender: Sender,
  resolve: ResolveProposal,
): CommittedProposal[] {
  return commit.proposals.map((item) => {
    if (item.kind === "proposal") return { proposal: item.proposal, sender };
    const found = resolve(item.reference);
    if (found === undefined) throw new RejectionError("mls/commit/unknown-proposal-reference");
    return { ...found, reference: item.reference };
  });
}

/**
 * Validates a commit whose signature was verified, and applies what is public of it: proposals (12.2, 12.3) and
 * path (12.4.2). Members and followers run this same function, so that they refuse the same commits. The epoch
 * stays as it is. O(log N + proposals). Throws RejectionError.
 */
export function stagePublic(
  epoch: PublicEpoch,
  commit: Commit,
  sender: Sender,
  resolve: ResolveProposal,
  policy: GroupPolicy,
  special: {
    readonly allowSubgroupPsk?: SubgroupPsk;
    readonly acceptedAtMs?: number | undefined;
  } = {},
): StagedPublic {
  check("commit/epoch-left", epoch.context.epoch < LAST_EPOCH);
  const committer = committerOf(sender);
  const proposals = resolveProposals(commit, sender, resolve);
  const plan = planProposals(epoch, proposals, committer, special);
  check("commit/path-required", !plan.pathRequired || commit.path !== undefined);
  if (committer.kind === "new_member" && commit.path === undefined) {
    throw new RejectionError("mls/external-commit/path");
  }
  const applied = applyProposals(epoch, plan, policy);
  const leaf = committer.kind === "member" ? committer.leaf : applied.tree.reserveLeaf();
  if (commit.path !== undefined) {
    validatePathLeaf(epoch, applied, proposals, commit.path.leafNode, committer, leaf, policy);
    mergeUpdatePath(applied.tree, {
      sender: leaf,
      updatePath: commit.path,
      addedLeaves: applied.addedLeaves,
    });
  }
  policy.authorize?.({
    epoch,
    committer: committer.kind === "member" ? committer.leaf : undefined,
    proposals,
    pathLeaf: commit.path?.leafNode,
    acceptedAtMs: special.acceptedAtMs,
  });
  const provisional = provisionalContext(epoch, applied, applied.tree.treeHash());
  return {
    plan,
    proposals,
    sender: leaf,
    external: committer.kind === "new_member",
    tree: applied.tree,
    addedLeaves: applied.addedLeaves,
    provisional,
    provisionalBytes: encodeGroupContext(provisional),
  };
}

/** Only members and joiners commit (6.1). */
function committerOf(sender: Sender): Committer {
  if (sender.kind === "member") return { kind: "member", leaf: sender.leafIndex };
  if (sender.kind === "new_member_commit") return { kind: "new_member" };
  throw new RejectionError("mls/commit/sender-type");
}

/** Section 12.4.1: the new GroupContext with the old confirmed transcript hash. */
export function provisionalContext(
  epoch: PublicEpoch,
  applied: AppliedProposals,
  treeHash: Uint8Array,
): GroupContext {
  return {
    cipherSuite: epoch.context.cipherSuite,
    groupId: epoch.context.groupId,
    epoch: epoch.context.epoch + 1n,
    treeHash,
    confirmedTranscriptHash: epoch.context.confirmedTranscriptHash,
    extensions: applied.extensions,
  };
}

/** Section 12.4.2: the LeafNode of a path, and for an external commit 12.2: a Remove only of one's own old leaf. */
export function validatePathLeaf(
  epoch: PublicEpoch,
  applied: AppliedProposals,
  proposals: readonly CommittedProposal[],
  leafNode: LeafNode,
  committer: Committer,
  leaf: LeafIndex,
  policy: GroupPolicy,
): void {
  const context = {
    groupId: epoch.context.groupId,
    extensions: applied.extensions,
    source: "commit",
    leaf,
  } as const;
  validateLeafNode(applied.tree, leafNode, context);
  if (committer.kind === "member") {
    validateSuccessor(epoch.tree, leaf, leafNode, policy);
    return;
  }
  check("leaf-node/credential-valid", policy.credentialIsValid(leafNode.credential, leafNode.signatureKey));
  for (const { proposal } of proposals) {
    if (proposal.kind !== "remove") continue;
    const previous = epoch.tree.leaf(proposal.removed);
    check(
      "external-commit/remove-own-leaf",
      previous !== undefined && policy.isSuccessor(previous, leafNode),
    );
  }
}

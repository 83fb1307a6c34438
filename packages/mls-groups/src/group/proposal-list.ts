import { compareBytes, encode, RejectionError, toHex } from "@murmuration/base";
import { check } from "../rules.ts";
import { isDefaultProposalType } from "../structs/code-points.ts";
import { writeCredential } from "../structs/credential.ts";
import { copyExtensions, type Extension, externalSenders } from "../structs/extension.ts";
import type { Sender } from "../structs/framed-content.ts";
import type { KeyPackage } from "../structs/key-package.ts";
import { type LeafNode, leafNodeBytes } from "../structs/leaf-node.ts";
import { type Proposal, proposalType, type ReInit, requiresPath } from "../structs/proposal.ts";
import { type PreSharedKeyId, writePreSharedKeyId } from "../structs/psk-id.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { RatchetTree } from "../tree/ratchet-tree.ts";
import { validateGroupExtensions, validateLeafNode } from "../tree/tree-validation.ts";
import { validateKeyPackage } from "./key-package.ts";
import type { GroupPolicy } from "./policy.ts";
import { validatePskCount } from "./psk-source.ts";
import type { PublicEpoch } from "./public-epoch.ts";

/** A proposal of a commit with who proposed it. By value the sender is the committer. */
export interface CommittedProposal {
  readonly proposal: Proposal;
  readonly sender: Sender;
  /** ProposalRef (5.2) when the commit covers it by reference. */
  readonly reference?: Uint8Array | undefined;
}

/** A proposal list sorted by what it does, ready to be applied in the order of section 12.3. */
export interface ProposalPlan {
  readonly groupContextExtensions: readonly Extension[] | undefined;
  readonly updates: readonly {
    readonly leaf: LeafIndex;
    readonly leafNode: LeafNode;
    readonly reference: Uint8Array | undefined;
  }[];
  /** Remove and SelfRemove alike. */
  readonly removes: readonly LeafIndex[];
  readonly adds: readonly KeyPackage[];
  readonly psks: readonly PreSharedKeyId[];
  readonly externalInit: Uint8Array | undefined;
  readonly reinit: ReInit | undefined;
  /** Section 12.4: whether the commit must carry a path. */
  readonly pathRequired: boolean;
}

/**
 * Which resumption PSK of a subgroup a commit may inject (11.2, 11.3): only the first commit of a group that continues
 * another one has any. "any" is for a pending commit of our own that was validated before it was stored.
 */
export type SubgroupPsk = "reinit" | "branch" | "any";

/** Who commits: a member at this leaf, or somebody who joins by external commit. */
export type Committer =
  | { readonly kind: "member"; readonly leaf: LeafIndex }
  | { readonly kind: "new_member" };

/**
 * Sorts and validates a proposal list (12.2) as far as the list alone decides; {@link applyProposals} checks
 * what depends on the resulting tree. O(proposals). Throws RejectionError `mls/proposal-list/...`,
 * `mls/external-commit/...`, `mls/psk/...`.
 */
export function planProposals(
  epoch: PublicEpoch,
  list: readonly CommittedProposal[],
  committer: Committer,
  special: { readonly allowSubgroupPsk?: SubgroupPsk } = {},
): ProposalPlan {
  validateSenders(list, committer);
  const of = <K extends Proposal["kind"]>(kind: K): Extract<Proposal, { kind: K }>[] =>
    list.map(({ proposal }) => proposal).filter((p): p is Extract<Proposal, { kind: K }> => p.kind === kind);

  const extensions = of("group_context_extensions");
  check("proposal-list/one-group-context-extensions", extensions.length <= 1);
  const psks = of("psk").map(({ psk }) => psk);
  validatePsks(epoch, psks, special.allowSubgroupPsk);
  const reinits = of("reinit");
  check("proposal-list/reinit-alone", reinits.length === 0 || list.length === 1);
  for (const reinit of reinits) check("reinit/version", reinit.version >= 1);
  const externalInits = of("external_init");
  const { updates, removes } = leafChanges(epoch.tree, list, committer);
  validateTypesSupported(epoch.tree, list, removes);

  return {
    groupContextExtensions: extensions[0]?.extensions,
    updates,
    removes,
    adds: of("add").map(({ keyPackage }) => keyPackage),
    psks,
    externalInit: externalInits[0]?.kemOutput,
    reinit: reinits[0],
    pathRequired: list.length === 0 || list.some(({ proposal }) => requiresPath(proposal)),
  };
}

function validateSenders(list: readonly CommittedProposal[], committer: Committer): void {
  if (committer.kind === "new_member") {
    validateExternalCommitList(list);
    return;
  }
  for (const { proposal, sender, reference } of list) {
    check("proposal-list/no-external-init", proposal.kind !== "external_init");
    const byCommitter = sender.kind === "member" && sender.leafIndex === committer.leaf;
    check("proposal-list/no-own-update", proposal.kind !== "update" || !byCommitter);
    if (proposal.kind === "self_remove") {
      check("proposal-list/self-remove-by-reference", reference !== undefined);
      check("proposal-list/no-own-self-remove", !byCommitter);
    }
  }
}

/** Section 12.2, second list, and 12.4.3.2. SelfRemove may be covered by reference (draft-ietf-mls-extensions). */
function validateExternalCommitList(list: readonly CommittedProposal[]): void {
  const count = (kind: Proposal["kind"]): number =>
    list.filter(({ proposal }) => proposal.kind === kind).length;
  check("external-commit/one-external-init", count("external_init") === 1);
  check("external-commit/at-most-one-remove", count("remove") <= 1);
  for (const { proposal, reference } of list) {
    check(
      "external-commit/only-allowed-types",
      ["external_init", "remove", "psk", "self_remove"].includes(proposal.kind),
    );
    check("external-commit/no-references", (reference === undefined) === (proposal.kind !== "self_remove"));
  }
}

function leafChanges(
  tree: RatchetTree,
  list: readonly CommittedProposal[],
  committer: Committer,
): Pick<ProposalPlan, "updates" | "removes"> {
  const changed = new Set<LeafIndex>();
  const claim = (leaf: LeafIndex): void => {
    check("proposal-list/one-change-per-leaf", !changed.has(leaf));
    changed.add(leaf);
  };
  const updates: { leaf: LeafIndex; leafNode: LeafNode; reference: Uint8Array | undefined }[] = [];
  const removes: LeafIndex[] = [];
  for (const { proposal, sender, reference } of list) {
    if (proposal.kind === "update") {
      if (sender.kind !== "member") throw new RejectionError("mls/proposal-list/update-sender");
      claim(sender.leafIndex);
      updates.push({ leaf: sender.leafIndex, leafNode: proposal.leafNode, reference });
    } else if (proposal.kind === "remove" || proposal.kind === "self_remove") {
      const leaf = removedLeaf(proposal, sender);
      check("ratchet-tree/leaf-not-blank", tree.hasMember(leaf));
      check("proposal-list/committer-not-removed", committer.kind !== "member" || leaf !== committer.leaf);
      claim(leaf);
      removes.push(leaf);
    }
  }
  return { updates, removes };
}

function removedLeaf(
  proposal: Extract<Proposal, { kind: "remove" | "self_remove" }>,
  sender: Sender,
): LeafIndex {
  if (proposal.kind === "remove") return proposal.removed;
  if (sender.kind !== "member") throw new RejectionError("mls/proposal-list/self-remove-sender");
  return sender.leafIndex;
}

/** Sections 12.1.4 and 12.2. */
function validatePsks(
  epoch: PublicEpoch,
  psks: readonly PreSharedKeyId[],
  allowed: SubgroupPsk | undefined,
): void {
  validatePskCount(psks);
  const seen = new Set<string>();
  for (const psk of psks) {
    check("psk/nonce-length", psk.pskNonce.length === epoch.crypto.suite.hashLength);
    if (psk.kind === "resumption" && psk.usage !== "application") {
      check(
        psk.usage === "reinit" ? "psk/no-reinit-usage" : "psk/no-branch-usage",
        allowed === "any" || psk.usage === allowed,
      );
    }
    const id = toHex(encode(psk, writePreSharedKeyId));
    check("proposal-list/distinct-psks", !seen.has(id));
    seen.add(id);
  }
}

/** Section 12.2: members who process the commit support each type that is not a default one. */
function validateTypesSupported(
  tree: RatchetTree,
  list: readonly CommittedProposal[],
  removes: readonly LeafIndex[],
): void {
  const types = new Set(
    list.map(({ proposal }) => proposalType(proposal)).filter((t) => !isDefaultProposalType(t)),
  );
  for (const type of types) {
    const removedLacking = removes.filter(
      (leaf) => !tree.leaf(leaf)?.capabilities.proposals.includes(type),
    ).length;
    check("proposal-list/types-supported", tree.lackingProposal(type) === removedLacking);
  }
}

/**
 * Whether the signatures of Adds and Updates are to be verified. "verified" is for a committer who looks for proposals
 * that go together and has verified each of them in this epoch; a commit is never made or received with it.
 */
export type Signatures = "verify" | "verified";

/** The tree and what else a plan leads to. */
export interface AppliedProposals {
  /** A fork of the epoch's tree with the proposals applied; no path yet. */
  readonly tree: RatchetTree;
  readonly extensions: readonly Extension[];
  readonly addedLeaves: readonly LeafIndex[];
}

/**
 * Applies a plan in the order of section 12.3 and validates the result (12.2, last item). Removes go before
 * updates, which the RFC leaves open: so the keys of a removed leaf are free when uniqueness is checked.
 * O((updates + removes) log N + adds); two signature verifications for each Add, one for each Update.
 */
export function applyProposals(
  epoch: PublicEpoch,
  plan: ProposalPlan,
  policy: GroupPolicy,
  signatures: Signatures = "verify",
): AppliedProposals {
  const { crypto, context } = epoch;
  const signatureVerified = signatures === "verified";
  const tree = epoch.tree.fork();
  const { groupContextExtensions } = plan;
  // A copy of its own: the GroupContext lives on, and the message they came in may be large.
  const extensions =
    groupContextExtensions === undefined ? context.extensions : copyExtensions(groupContextExtensions);
  const about = { groupId: context.groupId, extensions, signatureVerified };
  for (const leaf of [...plan.removes].sort((a, b) => b - a)) tree.removeLeaf(leaf);
  for (const { leaf, leafNode } of plan.updates) {
    validateLeafNode(tree, leafNode, { ...about, source: "update", leaf });
    validateSuccessor(epoch.tree, leaf, leafNode, policy);
    tree.updateLeaf(leaf, leafNodeBytes(leafNode));
  }
  // Before the Adds: each new leaf is held to the new extensions by itself.
  if (groupContextExtensions !== undefined) {
    validateGroupExtensions(tree, extensions);
    validateExternalSenders(extensions, policy);
  }
  const addedLeaves = applyAdds(crypto, tree, plan.adds, about, policy);
  validateCredentialSupport(tree);
  return { tree, extensions, addedLeaves };
}

function applyAdds(
  crypto: PublicEpoch["crypto"],
  tree: RatchetTree,
  adds: readonly KeyPackage[],
  about: { groupId: Uint8Array; extensions: readonly Extension[]; signatureVerified: boolean },
  policy: GroupPolicy,
): LeafIndex[] {
  if (adds.length === 0) return [];
  if (!about.signatureVerified && adds.length > 1)
    crypto.expectSigners?.(adds.map(({ leafNode }) => leafNode.signatureKey));
  for (const keyPackage of adds) {
    validateKeyPackage(crypto, keyPackage, about.signatureVerified ? "verified" : "verify");
    validateLeafNode(tree, keyPackage.leafNode, { ...about, source: "key_package" });
    const { credential, signatureKey } = keyPackage.leafNode;
    check("leaf-node/credential-valid", policy.credentialIsValid(credential, signatureKey));
  }
  validateNewClients(tree, adds, policy);
  return tree.addLeaves(adds.map(({ leafNode }) => leafNodeBytes(leafNode)));
}

/**
 * Section 12.2: no client twice. Equal signature and encryption keys are the tree's indexes to refuse; what else
 * makes two leaves one client is the application's to say, of leaves with an equal credential: those of the tree and
 * those that are added beside it. O(adds) for a policy that adds nothing, else O(adds x leaves with an equal credential).
 */
function validateNewClients(tree: RatchetTree, adds: readonly KeyPackage[], policy: GroupPolicy): void {
  const initKeys = adds.map(({ initKey }) => initKey).sort(compareBytes);
  for (let i = 1; i < initKeys.length; i++) {
    check("proposal-list/distinct-adds", compareBytes(initKeys[i - 1]!, initKeys[i]!) !== 0);
  }
  if (policy.clientsAreSignatureKeys === true) return;
  const addedWith = new Map<string, LeafNode[]>();
  for (const { leafNode } of adds) {
    const credential = encode(leafNode.credential, writeCredential);
    for (const leaf of tree.leavesByCredential(credential)) {
      check("proposal-list/client-not-a-member", !policy.isSameClient(tree.leaf(leaf)!, leafNode));
    }
    const key = toHex(credential);
    const beside = addedWith.get(key) ?? [];
    const isNew = beside.every((other) => !policy.isSameClient(other, leafNode));
    check("proposal-list/distinct-adds", isNew);
    beside.push(leafNode);
    addedWith.set(key, beside);
  }
}

/** Section 7.3: every member supports every credential type in use, new members among each other too. O(types in use). */
function validateCredentialSupport(tree: RatchetTree): void {
  for (const type of tree.credentialsInUse().keys()) {
    check("leaf-node/credentials-in-use-supported", tree.lackingCredential(type) === 0);
  }
}

/** Section 5.3.1: the Authentication Service's word on those who may propose from outside. O(their number). */
export function validateExternalSenders(extensions: readonly Extension[], policy: GroupPolicy): void {
  for (const { credential, signatureKey } of externalSenders(extensions)) {
    const valid =
      policy.externalSenderIsValid?.(credential, signatureKey) ??
      policy.credentialIsValid(credential, signatureKey);
    check("external-senders/credential-valid", valid);
  }
}

/** Section 7.3 and 5.3.1: what the application says about a leaf that follows another one of the same member. */
export function validateSuccessor(
  before: RatchetTree,
  leaf: LeafIndex,
  leafNode: LeafNode,
  policy: GroupPolicy,
): void {
  const previous = before.leaf(leaf);
  check("ratchet-tree/leaf-not-blank", previous !== undefined);
  check("leaf-node/credential-valid", policy.credentialIsValid(leafNode.credential, leafNode.signatureKey));
  check("leaf-node/credential-successor", previous !== undefined && policy.isSuccessor(previous, leafNode));
}

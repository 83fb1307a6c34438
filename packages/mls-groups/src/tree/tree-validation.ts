import { signContent } from "../crypto/labeled.ts";
import type { VerifyJob } from "../crypto/provider.ts";
import { check } from "../rules.ts";
import {
  contentEnd,
  contentStart,
  locateLeafFields,
  newLeafFields,
  opaqueSize,
  putOpaque,
  putUint32,
  SOURCE_KEY_PACKAGE,
  uint32At,
  unmergedLeavesAt,
  unmergedLeavesOf,
} from "./encoded-node.ts";
import {
  groupRequirements,
  type TreeContext,
  validateGroupExtensions,
  validateLeafNodeAlone,
} from "./leaf-validation.ts";
import {
  covers,
  isLeafNode,
  type LeafIndex,
  leafToNode,
  left,
  type NodeIndex,
  nodeCount,
  right,
} from "./math.ts";
import { verifyParentHashes } from "./parent-hash.ts";
import type { RatchetTree } from "./ratchet-tree.ts";
import type { TreeState } from "./tree-state.ts";

export {
  type LeafNodeContext,
  type TreeContext,
  validateGroupExtensions,
  validateLeafNode,
  validateLifetime,
} from "./leaf-validation.ts";

/**
 * Signatures handed to the pool at a time: enough to keep it busy, and so few that what is done beside them on the main
 * thread (two verifications for each, where the policy is that of communities) holds nothing else up for long.
 */
const BATCH = 32;

/**
 * Everything a joiner verifies about a tree (RFC 9420 section 12.4.3.1): unmerged leaves, parent hashes, each
 * LeafNode (7.3) with its signature. Compare the tree hash first. O(N): N signature verifications and, the 2N of the
 * tree hash included, 3.5N hashes in a warm tree; unmerged leaves add to them, and it stays O(N).
 * Throws RejectionError `mls/ratchet-tree/…`, `mls/leaf-node/…`.
 */
export function validateTree(tree: RatchetTree, context: TreeContext): void {
  validateWithoutSignatures(tree, context);
  for (const leaf of tree.members()) {
    const { publicKey, data, signature } = signatureJob(tree, leaf, context.groupId);
    check("leaf-node/signature", tree.crypto.verify(publicKey, data, signature));
  }
}

/**
 * The same with the signatures verified in batches off the main thread where the provider can: they begin before
 * everything else is verified here, and end after it. A tree that is refused for another reason is refused at once.
 * `beside` is called once for each member, while signatures are verified: what the main thread has to do for each, it
 * does there.
 */
export async function validateTreeInBatches(
  tree: RatchetTree,
  context: TreeContext,
  beside: (leaf: LeafIndex) => void = () => undefined,
): Promise<void> {
  if (tree.crypto.verifyBatch === undefined) {
    validateTree(tree, context);
    for (const leaf of tree.members()) beside(leaf);
    return;
  }
  const members = tree.members();
  // One batch runs while the next is put together.
  let running = startBatch(tree, context, members);
  let following = startBatch(tree, context, members);
  validateWithoutSignatures(tree, context);
  while (running.leaves.length > 0) {
    for (const leaf of running.leaves) beside(leaf);
    checkAll(await running.verified);
    running = following;
    following = startBatch(tree, context, members);
  }
}

interface Batch {
  readonly leaves: readonly LeafIndex[];
  readonly verified: Promise<boolean[]>;
}

/** Sets the signatures of the next members going. */
function startBatch(tree: RatchetTree, context: TreeContext, members: Iterator<LeafIndex>): Batch {
  const leaves: LeafIndex[] = [];
  const jobs: VerifyJob[] = [];
  while (jobs.length < BATCH) {
    const { value: leaf, done } = members.next();
    if (done === true) break;
    leaves.push(leaf);
    jobs.push(signatureJob(tree, leaf, context.groupId));
  }
  const verified = tree.crypto.verifyBatch!(jobs);
  // It is awaited by the caller, unless something else has failed: then nobody asks any more.
  verified.catch(() => undefined);
  return { leaves, verified };
}

function checkAll(verified: readonly boolean[]): void {
  check(
    "leaf-node/signature",
    verified.every((valid) => valid),
  );
}

function validateWithoutSignatures(tree: RatchetTree, context: TreeContext): void {
  const state = tree.shown();
  validateUnmergedLeaves(state);
  validateParentKeys(state);
  verifyParentHashes(state);
  state.hashes.dropLeafHashes();
  validateLeaves(tree, context);
}

/**
 * What the protocol guarantees of every unmerged_leaves (sections 7.1, 12.4.3.1): ascending, non-blank leaves
 * below the node, unmerged at every non-blank node in between as well. O(entries log N).
 */
export function validateUnmergedLeaves(state: TreeState): void {
  for (let node = 1; node < nodeCount(state.leafSlots); node += 2) {
    if (state.nodes.isBlank(node)) continue;
    let previous = -1;
    for (const leaf of unmergedLeavesOf(state.nodes.view(node))) {
      check("ratchet-tree/unmerged-leaves-sorted", leaf > previous);
      previous = leaf;
      check("ratchet-tree/unmerged-leaf-is-descendant", covers(node, leaf));
      check("ratchet-tree/unmerged-leaf-not-blank", !state.nodes.isBlank(leafToNode(leaf)));
      const below = nextNodeBelow(state, node, leaf);
      check(
        "ratchet-tree/unmerged-leaf-in-intermediate-nodes",
        below === leafToNode(leaf) || listsUnmerged(state, below, leaf),
      );
    }
  }
}

/** The first non-blank node below `node` on the way to a non-blank leaf. O(log N). */
function nextNodeBelow(state: TreeState, node: NodeIndex, leaf: LeafIndex): NodeIndex {
  let below = node;
  do {
    below = covers(left(below), leaf) ? left(below) : right(below);
  } while (state.nodes.isBlank(below) && !isLeafNode(below));
  return below;
}

/** Binary search in an unmerged_leaves, whose order its own node's turn verifies. */
function listsUnmerged(state: TreeState, node: NodeIndex, leaf: LeafIndex): boolean {
  const { bytes } = state.nodes;
  const at = unmergedLeavesAt(bytes, state.nodes.start(node));
  const start = contentStart(bytes, at);
  let low = 0;
  let high = (contentEnd(bytes, at) - start) >>> 2;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (uint32At(bytes, start + middle * 4) < leaf) low = middle + 1;
    else high = middle;
  }
  const place = start + low * 4;
  return place < contentEnd(bytes, at) && uint32At(bytes, place) === leaf;
}

function validateParentKeys(state: TreeState): void {
  const { bytes } = state.nodes;
  for (let node = 1; node < nodeCount(state.leafSlots); node += 2) {
    if (state.nodes.isBlank(node)) continue;
    const at = state.nodes.start(node);
    const key = bytes.subarray(contentStart(bytes, at), contentEnd(bytes, at));
    check("ratchet-tree/encryption-key-valid", state.crypto.isValidHpkePublicKey(key));
  }
}

/** Section 7.3 for all leaves at once; keys are unique since decoding. O(N). */
function validateLeaves(tree: RatchetTree, context: TreeContext): void {
  validateGroupExtensions(tree, context.extensions);
  for (const type of tree.credentialsInUse().keys()) {
    check("leaf-node/credential-supported-by-members", tree.lackingCredential(type) === 0);
  }
  const requirements = groupRequirements(context.extensions);
  for (const leaf of tree.members()) {
    validateLeafNodeAlone(tree.crypto, tree.peek(leafToNode(leaf)), requirements);
  }
}

const fields = newLeafFields();

/** The signature of a leaf of the tree over its LeafNodeTBS (section 7.2), cut out of its bytes. */
function signatureJob(tree: RatchetTree, leaf: LeafIndex, groupId: Uint8Array): VerifyJob {
  const bytes = tree.peek(leafToNode(leaf));
  locateLeafFields(bytes, 0, fields);
  const { signatureKeyAt, signatureAt } = fields;
  let tbs = bytes.subarray(0, signatureAt);
  if (fields.source !== SOURCE_KEY_PACKAGE) {
    tbs = new Uint8Array(signatureAt + opaqueSize(groupId.length) + 4);
    tbs.set(bytes.subarray(0, signatureAt));
    putUint32(tbs, putOpaque(tbs, signatureAt, groupId), leaf);
  }
  return {
    // Copies: a batch is still being verified when others may go on with the tree.
    publicKey: bytes.slice(contentStart(bytes, signatureKeyAt), contentEnd(bytes, signatureKeyAt)),
    data: signContent("LeafNodeTBS", tbs),
    signature: bytes.slice(contentStart(bytes, signatureAt), contentEnd(bytes, signatureAt)),
  };
}

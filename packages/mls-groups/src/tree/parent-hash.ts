import { type Bytes, equalBytes } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { check } from "../rules.ts";
import {
  contentEnd,
  contentStart,
  locateLeafFields,
  newLeafFields,
  opaqueSize,
  parentHashAt,
  putOpaque,
  SOURCE_COMMIT,
  unmergedLeavesOf,
  withUnmergedLeaves,
} from "./encoded-node.ts";
import { TreeHasher } from "./hash-store.ts";
import { firstLeaf, isLeafNode, left, type NodeIndex, nodeCount, nodeToLeaf, right } from "./math.ts";
import { BLANK, type TreeState } from "./tree-state.ts";

/**
 * The parent hash of a node P with copath child S (RFC 9420 section 7.9): the hash of
 *
 *   struct {
 *     HPKEPublicKey encryption_key;               // of P
 *     opaque parent_hash<V>;                      // of P, empty when P is the root
 *     opaque original_sibling_tree_hash<V>;       // of S
 *   } ParentHashInput;
 */
export function parentHashOf(
  crypto: CryptoProvider,
  encryptionKey: Uint8Array,
  parentHash: Uint8Array,
  originalSiblingTreeHash: Uint8Array,
): Bytes {
  const input = new Uint8Array(
    opaqueSize(encryptionKey.length) +
      opaqueSize(parentHash.length) +
      opaqueSize(originalSiblingTreeHash.length),
  );
  putOpaque(input, putOpaque(input, putOpaque(input, 0, encryptionKey), parentHash), originalSiblingTreeHash);
  return crypto.hash(input);
}

/** First index in `leaves[from, to)` whose leaf is at least `leaf`; the list ascends. */
function lowerBound(leaves: Uint32Array, leaf: number, from: number, to: number): number {
  let low = from;
  let high = to;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (leaves[middle]! < leaf) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Original tree hashes (section 7.9): the tree hash of a node as if some unmerged leaves of an ancestor were
 * not there yet. Needs a tree whose unmerged leaves are validated.
 *
 * Seen from one node, the unmerged leaves of its ancestors that lie below it only grow from the root
 * downwards: what is unmerged at an ancestor is unmerged at every non-blank node on the way. So their number
 * tells the sets apart, and if ancestors ask from the top downwards, one remembered hash for each node is
 * enough to compute no hash twice. All parents together cost O(N) hashes.
 */
class OriginalHashes {
  private readonly state: TreeState;
  private readonly hasher: TreeHasher;
  private readonly hashLength: number;
  /** How many leaves were left out of the remembered hash; 0 for none remembered. Made when first needed. */
  private leftOut: Uint32Array | undefined;
  private hashes: Bytes = BLANK;

  constructor(state: TreeState) {
    this.state = state;
    this.hasher = new TreeHasher(state.crypto);
    this.hashLength = state.crypto.suite.hashLength;
  }

  /** Hash of `node` without `leaves[from, to)`, all of which lie below it. */
  of(node: NodeIndex, leaves: Uint32Array, from: number, to: number): Bytes {
    if (from === to) return this.state.hashes.update(node);
    if (this.leftOut === undefined) {
      const count = nodeCount(this.state.leafSlots);
      this.leftOut = new Uint32Array(count);
      this.hashes = new Uint8Array(count * this.hashLength);
    }
    const place = this.hashes.subarray(node * this.hashLength, (node + 1) * this.hashLength);
    if (this.leftOut[node] === to - from) return place;
    place.set(this.compute(node, leaves, from, to));
    this.leftOut[node] = to - from;
    return place;
  }

  private compute(node: NodeIndex, leaves: Uint32Array, from: number, to: number): Bytes {
    if (isLeafNode(node)) return this.hasher.leaf(nodeToLeaf(node), BLANK);
    const middle = lowerBound(leaves, firstLeaf(right(node)), from, to);
    const leftHash = this.of(left(node), leaves, from, middle);
    const rightHash = this.of(right(node), leaves, middle, to);
    const view = this.state.nodes.view(node);
    const bytes = view.length === 0 ? view : withoutLeaves(view, leaves.subarray(from, to));
    return this.hasher.parent(bytes, leftHash, rightHash);
  }
}

/** A ParentNode without some of its unmerged leaves; both lists ascend. */
function withoutLeaves(node: Uint8Array, leaves: Uint32Array): Bytes {
  const unmerged = unmergedLeavesOf(node);
  let kept = 0;
  let next = 0;
  for (const leaf of unmerged) {
    while (next < leaves.length && leaves[next]! < leaf) next++;
    if (leaves[next] !== leaf) unmerged[kept++] = leaf;
  }
  return withUnmergedLeaves(node, unmerged.subarray(0, kept));
}

/**
 * The one node D of the resolution of C for which the unmerged leaves of C's parent, `leaves[from, to)` below
 * C, are that resolution without D (section 7.9.2); undefined if there is none. O(log N).
 */
function descendantSetWith(
  state: TreeState,
  child: NodeIndex,
  leaves: Uint32Array,
  from: number,
  to: number,
): NodeIndex | undefined {
  if (state.resolutionSize(child) !== to - from + 1) return undefined;
  let node = child;
  let first = from;
  let end = to;
  while (state.nodes.isBlank(node)) {
    const middle = lowerBound(leaves, firstLeaf(right(node)), first, end);
    if (state.resolutionSize(left(node)) > middle - first) {
      node = left(node);
      end = middle;
    } else {
      node = right(node);
      first = middle;
    }
  }
  return node;
}

/**
 * Verifies that every non-blank parent node is parent-hash valid (section 7.9.2): top down, one descendant of
 * each carries its parent hash. Needs a tree whose unmerged leaves are validated. O(N) hashes: one for a parent
 * whose left child is linked to it, two for another, so 1.5 for each on average in a warm tree.
 *
 * The section asks for exactly one such descendant, and one is enough to find: there cannot be two. If D on the
 * left and E on the right were both linked to P, then the hash that D carries would be made from the original
 * tree hash of the right child, which covers E with the hash that E carries (E is no unmerged leaf of P, so it is
 * not left out), and that one from D in the same way: each of two hashes would be an input of the other, and such
 * a pair cannot be found. On one side there is one candidate at most, see {@link descendantSetWith}.
 */
export function verifyParentHashes(state: TreeState): void {
  const original = new OriginalHashes(state);
  for (let step = state.leafSlots; step >= 2; step /= 2) {
    for (let node = step - 1; node < nodeCount(state.leafSlots); node += step * 2) {
      if (state.nodes.isBlank(node)) continue;
      check("ratchet-tree/parent-hash", hasParentHashLink(state, original, node));
    }
  }
}

function hasParentHashLink(state: TreeState, original: OriginalHashes, node: NodeIndex): boolean {
  const unmerged = unmergedLeavesOf(state.nodes.view(node));
  const middle = lowerBound(unmerged, firstLeaf(right(node)), 0, unmerged.length);
  const onLeft = descendantSetWith(state, left(node), unmerged, 0, middle);
  if (onLeft !== undefined && carriesParentHash(state, onLeft)) {
    const sibling = original.of(right(node), unmerged, middle, unmerged.length);
    if (isLinked(state, onLeft, node, sibling)) return true;
  }
  const onRight = descendantSetWith(state, right(node), unmerged, middle, unmerged.length);
  if (onRight === undefined || !carriesParentHash(state, onRight)) return false;
  return isLinked(state, onRight, node, original.of(left(node), unmerged, 0, middle));
}

const fields = newLeafFields();

/** Header of the parent_hash that a non-blank node carries; undefined for a leaf that no Commit has set. */
function placeOfParentHash(state: TreeState, node: NodeIndex): number | undefined {
  const { bytes } = state.nodes;
  const start = state.nodes.start(node);
  if (!isLeafNode(node)) return parentHashAt(bytes, start);
  locateLeafFields(bytes, start, fields);
  return fields.source === SOURCE_COMMIT ? fields.parentHashAt : undefined;
}

/** Whether a node's parent_hash can be one at all: saves the hash for leaves that never committed. */
function carriesParentHash(state: TreeState, node: NodeIndex): boolean {
  const at = placeOfParentHash(state, node);
  if (at === undefined) return false;
  const { bytes } = state.nodes;
  return contentEnd(bytes, at) - contentStart(bytes, at) === state.crypto.suite.hashLength;
}

/** Whether the parent_hash of `descendant` is the parent hash of `node` with this sibling hash. */
function isLinked(
  state: TreeState,
  descendant: NodeIndex,
  node: NodeIndex,
  originalSiblingTreeHash: Uint8Array,
): boolean {
  const { bytes } = state.nodes;
  const start = state.nodes.start(node);
  const above = parentHashAt(bytes, start);
  const expected = parentHashOf(
    state.crypto,
    bytes.subarray(contentStart(bytes, start), contentEnd(bytes, start)),
    bytes.subarray(contentStart(bytes, above), contentEnd(bytes, above)),
    originalSiblingTreeHash,
  );
  const at = placeOfParentHash(state, descendant)!;
  return equalBytes(expected, bytes.subarray(contentStart(bytes, at), contentEnd(bytes, at)));
}

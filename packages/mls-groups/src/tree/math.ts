import { UsageError } from "@murmuration/base";

/** Index of a leaf among the leaves, 0 at the left (RFC 9420 section 4.1.1). */
export type LeafIndex = number;

/** Index of a node in the array of RFC 9420 appendix C: leaf L at 2L, parents at odd places. */
export type NodeIndex = number;

/**
 * Most leaf slots that a tree may have here: room for 50,000 members and some more, and a bound on what a
 * few bytes of a foreign ratchet_tree can make us allocate (about 60 bytes a slot).
 */
export const MAX_LEAF_SLOTS = 1 << 18;

/** The node of a leaf. */
export function leafToNode(leaf: LeafIndex): NodeIndex {
  return leaf * 2;
}

/** The leaf at an even node index. */
export function nodeToLeaf(node: NodeIndex): LeafIndex {
  return node >>> 1;
}

export function isLeafNode(node: NodeIndex): boolean {
  return (node & 1) === 0;
}

/** Place of a parent node (an odd index) among the parent nodes; there are leafSlots - 1 of them. */
export function parentPlace(node: NodeIndex): number {
  return node >>> 1;
}

/** Height of a node: 0 for leaves, d for the root of 2^d leaves. */
export function level(node: NodeIndex): number {
  return 31 - Math.clz32((node + 1) & ~node);
}

/** Nodes of a tree with this many leaf slots, a power of two. */
export function nodeCount(leafSlots: number): number {
  return leafSlots * 2 - 1;
}

/** Root of a tree with this many leaf slots, a power of two. */
export function root(leafSlots: number): NodeIndex {
  return leafSlots - 1;
}

/** The smallest power of two that is at least `leaves`. */
export function slotsFor(leaves: number): number {
  return leaves <= 1 ? 1 : 2 ** (32 - Math.clz32(leaves - 1));
}

/** Left child of a parent node. Throws UsageError `mls/leaf-has-no-child` for a leaf. */
export function left(node: NodeIndex): NodeIndex {
  const k = level(node);
  if (k === 0) throw new UsageError("mls/leaf-has-no-child");
  return node ^ (1 << (k - 1));
}

/** Right child of a parent node. Throws UsageError `mls/leaf-has-no-child` for a leaf. */
export function right(node: NodeIndex): NodeIndex {
  const k = level(node);
  if (k === 0) throw new UsageError("mls/leaf-has-no-child");
  return node ^ (3 << (k - 1));
}

/** Parent of a node, in a tree of any width in which the node is not the root. */
export function parent(node: NodeIndex): NodeIndex {
  const bit = (node + 1) & ~node; // 2^level
  return (node | bit) & ~(bit << 1);
}

/** The other child of a node's parent. */
export function sibling(node: NodeIndex): NodeIndex {
  return node ^ (((node + 1) & ~node) << 1);
}

/** First leaf below a node. */
export function firstLeaf(node: NodeIndex): LeafIndex {
  return (node & (node + 1)) >>> 1;
}

/** The leaf behind the last leaf below a node. */
export function endLeaf(node: NodeIndex): LeafIndex {
  return firstLeaf(node) + ((node + 1) & ~node);
}

/** True if the leaf lies below the node or is it. */
export function covers(node: NodeIndex, leaf: LeafIndex): boolean {
  const first = firstLeaf(node);
  return leaf >= first && leaf < first + ((node + 1) & ~node);
}

/** The node at height `height` on the way from the leaf to the root; height 0 is the leaf itself. */
export function ancestorAt(leaf: LeafIndex, height: number): NodeIndex {
  const node = leaf * 2;
  return ((node >>> (height + 1)) << (height + 1)) | ((1 << height) - 1);
}

/** Height of the lowest node that has both leaves below it; 0 for the same leaf. */
export function commonHeight(a: LeafIndex, b: LeafIndex): number {
  return 32 - Math.clz32(a ^ b);
}

/** Lowest node that has both leaves below it. */
export function commonAncestor(a: LeafIndex, b: LeafIndex): NodeIndex {
  return ancestorAt(a, commonHeight(a, b));
}

/** Direct path of a leaf, from its parent to the root (RFC 9420 section 4.1.2). */
export function directPath(leaf: LeafIndex, leafSlots: number): NodeIndex[] {
  const path: NodeIndex[] = [];
  for (let height = 1; 1 << height <= leafSlots; height++) path.push(ancestorAt(leaf, height));
  return path;
}

import { firstLeaf, isLeafNode, left, right, root, sibling } from "../tree/math.ts";
import type { CommitCosts } from "./committer.ts";

/** What the choice of a warm-up turn needs to know about a tree. `RatchetTree` satisfies it; each answer is O(1). */
export interface WarmUpTree extends CommitCosts {
  readonly memberCount: number;
  /** Length of the resolution of a node (RFC 9420 section 4.1.1). */
  resolutionSize(node: number): number;
  /** Members at or below a node. */
  membersBelow(node: number): number;
}

const SAMPLE = 64;
/** Fractions of its multiples fall evenly and in no step with a power of two. */
const GOLDEN_RATIO = 0.618_033_988_749_894_9;

/**
 * Ciphertexts of a path commit, on average over the members: exact up to `sample` members, else over that many, one of
 * each of as many equal parts of the tree and the same at each call. O(sample x log N).
 */
export function meanPathCost(tree: WarmUpTree, sample: number = SAMPLE): number {
  const { memberCount } = tree;
  if (memberCount === 0) return 0;
  const count = Math.min(sample, memberCount);
  let total = 0;
  for (let i = 0; i < count; i++) {
    const within = count === memberCount ? 0 : (i * GOLDEN_RATIO) % 1;
    total += tree.pathCost(memberOfRank(tree, Math.floor(((i + within) * memberCount) / count)));
  }
  return total / count;
}

/** The member with this many members to its left. O(log N). */
function memberOfRank(tree: WarmUpTree, rank: number): number {
  let node = root(tree.leafSlots);
  let before = rank;
  while (!isLeafNode(node)) {
    const first = left(node);
    const inFirst = tree.membersBelow(first);
    if (before < inFirst) node = first;
    else {
      before -= inFirst;
      node = right(node);
    }
  }
  return firstLeaf(node);
}

export interface WarmUpOptions {
  /** What a path may cost beyond log2(N), on average, before a turn is worth its commit. */
  readonly targetExtraCiphertexts: number;
}

export const warmUpDefaults: WarmUpOptions = { targetExtraCiphertexts: 8 };

/**
 * Which of these leaves, those that are online, helps most (to one in fifty) by a self-update commit: an empty commit
 * with a path, which leaves one ciphertext's worth at each node that it passes. Undefined when the tree is warm (its mean path cost is at
 * most log2(N) and the target), or when none of the leaves would help. Nothing is remembered between turns, so turns may be
 * lost, and members come and go between them. Equal trees and leaves give equal answers.
 *
 * O(log N) in a warm tree. In a cold one O(C log C) for C leaves, and the nodes above the coldest part: after k turns
 * about k of them.
 */
export function nextWarmUpLeaf(
  tree: WarmUpTree,
  candidates: Iterable<number>,
  options: Partial<WarmUpOptions> = {},
): number | undefined {
  const { targetExtraCiphertexts } = { ...warmUpDefaults, ...options };
  if (tree.memberCount < 2) return undefined;
  if (meanPathCost(tree) <= Math.log2(tree.memberCount) + targetExtraCiphertexts) return undefined;
  return new Search(tree, Uint32Array.from(candidates).sort()).best();
}

/** A leaf is not sought that saves less than this much more than one that was found: equal ones are many. */
const GOOD_ENOUGH = 1.02;

/** Finds the leaf on whose path a commit saves most, by branch and bound over the subtrees that have a candidate. */
class Search {
  readonly #tree: WarmUpTree;
  /** Ascending; some may be there twice, blank, or outside of the tree. */
  readonly #online: Uint32Array;
  #bestSaving = 0;
  #bestLeaf: number | undefined;

  constructor(tree: WarmUpTree, online: Uint32Array) {
    this.#tree = tree;
    this.#online = online;
  }

  best(): number | undefined {
    const { leafSlots } = this.#tree;
    const end = this.#firstFrom(leafSlots, 0, this.#online.length);
    if (end > 0) this.#visit(root(leafSlots), 0, 0, end);
    return this.#bestLeaf;
  }

  /** `saving` is what the path saves above `node`; candidates below it are those from `start` to before `end`. */
  #visit(node: number, saving: number, start: number, end: number): void {
    if (isLeafNode(node)) {
      if (saving <= this.#bestSaving || !this.#tree.hasMember(firstLeaf(node))) return;
      this.#bestSaving = saving;
      this.#bestLeaf = firstLeaf(node);
      return;
    }
    // A step from m members to c of them saves less than c (m - c), which is at most (m^2 - c^2) / 2: all steps m^2 / 2.
    if (saving + this.#tree.membersBelow(node) ** 2 / 2 <= this.#bestSaving * GOOD_ENOUGH) return;
    const [first, second] = [left(node), right(node)];
    const middle = this.#firstFrom(firstLeaf(second), start, end);
    const children = [
      { node: first, start, end: middle, saving: this.#saves(first) },
      { node: second, start: middle, end, saving: this.#saves(second) },
    ];
    if (children[1]!.saving > children[0]!.saving) children.reverse();
    for (const child of children) {
      if (child.start < child.end) this.#visit(child.node, saving + child.saving, child.start, child.end);
    }
  }

  /** Ciphertexts that all members together save once this node's resolution is the node alone. */
  #saves(node: number): number {
    return Math.max(0, this.#tree.resolutionSize(node) - 1) * this.#tree.membersBelow(sibling(node));
  }

  /** Place of the first candidate from this leaf on. */
  #firstFrom(leaf: number, start: number, end: number): number {
    let [low, high] = [start, end];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#online[middle]! < leaf) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

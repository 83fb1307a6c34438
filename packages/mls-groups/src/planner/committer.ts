/** What the choice of a committer needs to know about a tree. `RatchetTree` satisfies it. */
export interface CommitCosts {
  /** Width of the tree in leaves, a power of two. */
  readonly leafSlots: number;
  /** Whether the leaf holds a member. O(1). */
  hasMember(leaf: number): boolean;
  /** Ciphertexts that a path commit by this leaf would carry. O(log N). */
  pathCost(leaf: number): number;
}

/**
 * Members nearest to a leaf, nearest first: its sibling, then the members of the neighbouring subtree of two,
 * of four, and so on. After a Remove blanks a direct path, a near neighbour re-fills the largest part of it.
 * O(limit + blank leaves passed).
 */
export function nearestMembers(tree: CommitCosts, leaf: number, limit: number): number[] {
  const found: number[] = [];
  for (let width = 1; width < tree.leafSlots && found.length < limit; width *= 2) {
    const start = (Math.floor(leaf / width) ^ 1) * width;
    for (let i = start; i < start + width && i < tree.leafSlots && found.length < limit; i++) {
      if (tree.hasMember(i)) found.push(i);
    }
  }
  return found;
}

export interface CommitterChoice {
  readonly leaf: number;
  readonly ciphertexts: number;
}

/**
 * Who should commit: the candidate whose path is cheapest, lower leaf index first on a tie, so that everybody
 * who asks gets the same answer. O(candidates x log N). Undefined when no candidate is a member.
 */
export function cheapestCommitter(
  tree: CommitCosts,
  candidates: Iterable<number>,
): CommitterChoice | undefined {
  let best: CommitterChoice | undefined;
  for (const leaf of candidates) {
    if (!tree.hasMember(leaf)) continue;
    const ciphertexts = tree.pathCost(leaf);
    const better =
      best === undefined ||
      ciphertexts < best.ciphertexts ||
      (ciphertexts === best.ciphertexts && leaf < best.leaf);
    if (better) best = { leaf, ciphertexts };
  }
  return best;
}

/**
 * Who of these should take it that `leaving` go: the one that shares the most of its path with one of them, since that is
 * what the removal blanks and the committer's own path fills again; of several the cheapest, then the lowest index. In a
 * warm tree of 1,000 such a commit carries 10 ciphertexts, and those of a member far away more with each that leaves.
 * `tree` is the tree that they are still in. O((candidates + leaving) x log N). Undefined when no candidate stays.
 */
export function committerForLeaving(
  tree: CommitCosts,
  leaving: readonly number[],
  candidates: Iterable<number>,
): number | undefined {
  const gone = Uint32Array.from(leaving).sort();
  const level = (leaf: number): number => {
    // Whoever has the longest prefix in common stands beside it in the order of indexes.
    const at = lowerBound(gone, leaf);
    const levels = [at - 1, at].filter((i) => i >= 0 && i < gone.length).map((i) => levelOf(leaf, gone[i]!));
    return Math.min(...levels);
  };
  let nearest: number[] = [];
  let best = Number.POSITIVE_INFINITY;
  for (const leaf of candidates) {
    const own = level(leaf);
    // Level 0 is that of the leaf itself.
    if (own === 0 || own > best || !tree.hasMember(leaf)) continue;
    if (own < best) nearest = [];
    best = own;
    nearest.push(leaf);
  }
  return cheapestCommitter(tree, nearest)?.leaf;
}

/** Level of the lowest node above both leaves; 0 for the same one. */
const levelOf = (a: number, b: number): number => 32 - Math.clz32(a ^ b);

/** Index of the first value that is not below this one. */
function lowerBound(sorted: Uint32Array, value: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

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
 * The committer for a Remove of these leaves: the cheapest among the `considered` nearest members of each.
 * `tree` is the tree as it is after the removal. O(removed x considered x log N).
 */
export function committerForRemoval(
  tree: CommitCosts,
  removed: readonly number[],
  considered = 8,
): CommitterChoice | undefined {
  const candidates = new Set(removed.flatMap((leaf) => nearestMembers(tree, leaf, considered)));
  return cheapestCommitter(tree, candidates);
}

import { UsageError } from "@murmuration/base";

/**
 * Warm-up: which leaves should send a self-update commit, and in what order.
 *
 * Adds leave every node above them blank, so the next path commit seals to each leaf apart. Each self-update
 * fills one direct path. In bit-reversed order the k-th turn splits the largest blank subtree that is left, and
 * after k turns the mean path of N members has about 0.8 N/k + log2 N ciphertexts; left to right, the first half
 * of the turns fills nothing that other members pass through.
 */

/** Leaf indexes 0..leafSlots-1 in bit-reversed order. `leafSlots` is a power of two. O(1) per leaf drawn. */
export function* bitReversedLeaves(leafSlots: number): Generator<number, void, void> {
  if (!Number.isInteger(leafSlots) || leafSlots < 1 || (leafSlots & (leafSlots - 1)) !== 0) {
    throw new UsageError("planner/leaf-slots-not-a-power-of-two");
  }
  const bits = Math.log2(leafSlots);
  for (let i = 0; i < leafSlots; i++) {
    let reversed = 0;
    for (let bit = 0; bit < bits; bit++) reversed |= ((i >>> bit) & 1) << (bits - 1 - bit);
    yield reversed;
  }
}

/**
 * The first `turns` occupied leaves in bit-reversed order: the warm-up turns of a group.
 *
 * @param leafSlots width of the tree, a power of two
 * @param turns how many leaves are wanted; fewer come back when fewer are occupied
 * @param isOccupied whether a leaf index holds a member that may be asked (O(1) expected)
 *
 * O(leafSlots) at the most, O(turns) in a full tree.
 */
export function warmUpLeaves(
  leafSlots: number,
  turns: number,
  isOccupied: (leaf: number) => boolean,
): number[] {
  const leaves: number[] = [];
  for (const leaf of bitReversedLeaves(leafSlots)) {
    if (leaves.length >= turns) break;
    if (isOccupied(leaf)) leaves.push(leaf);
  }
  return leaves;
}

/**
 * Which of these leaves should take a warm-up turn, and in what order: for leaves that were just added to a warm tree
 * and lie, alone, under blank nodes. Spread over them in bit-reversed order, so that each turn halves what is left.
 * The leaves come in ascending order. O(leaves).
 */
export function warmUpAmong(leaves: readonly number[], turns: number): number[] {
  if (leaves.length === 0) return [];
  const slots = 2 ** Math.ceil(Math.log2(leaves.length));
  return warmUpLeaves(slots, turns, (place) => place < leaves.length).map((place) => leaves[place]!);
}

/**
 * Warm-up turns that bring the mean path of a blank tree to about `targetCiphertexts`: the k that solves
 * 0.8 N/k + log2 N = target, at least 1 and at most N. A target below log2 N asks for every leaf.
 */
export function warmUpTurns(members: number, targetCiphertexts: number): number {
  if (members <= 1) return 0;
  const spare = targetCiphertexts - Math.log2(members);
  if (spare <= 0) return members;
  return Math.min(members, Math.max(1, Math.ceil((0.8 * members) / spare)));
}

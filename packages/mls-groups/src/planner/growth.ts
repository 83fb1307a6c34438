import { UsageError } from "@murmuration/base";
import { warmUpTurns } from "./warm-up.ts";

/** One step of a growth plan: add this many members in one commit, or let these many leaves take warm-up turns. */
export type GrowthStep =
  | { readonly kind: "add"; readonly adds: number; readonly membersAfter: number }
  | { readonly kind: "warm-up"; readonly turns: number; readonly members: number };

export interface GrowthOptions {
  /** Most Adds in one commit. */
  readonly maxAddsPerCommit: number;
  /** Mean path length, in ciphertexts, that warm-up aims at between additions. */
  readonly targetCiphertexts: number;
}

export const growthDefaults: GrowthOptions = { maxAddsPerCommit: 256, targetCiphertexts: 64 };

/**
 * Growth by doubling: never add more members than are already warm, so that no commit carries a ciphertext for
 * every member of a large blank tree. Between additions, warm-up turns fill the new half.
 *
 * Steps: O(log(target/current) + target / maxAddsPerCommit). Throws UsageError when target is below current.
 */
export function planGrowth(
  current: number,
  target: number,
  options: GrowthOptions = growthDefaults,
): GrowthStep[] {
  if (current < 1 || target < current) throw new UsageError("planner/growth-target-below-current");
  if (options.maxAddsPerCommit < 1) throw new UsageError("planner/max-adds-not-positive");
  const steps: GrowthStep[] = [];
  let members = current;
  while (members < target) {
    const adds = Math.min(
      target - members,
      options.maxAddsPerCommit,
      Math.max(members, options.targetCiphertexts),
    );
    members += adds;
    steps.push({ kind: "add", adds, membersAfter: members });
    // Only the new leaves lie under blank nodes: a blank subtree of `adds` leaves is what the turns must split.
    const turns = warmUpTurns(adds, options.targetCiphertexts);
    if (turns > 0) steps.push({ kind: "warm-up", turns, members });
  }
  return steps;
}

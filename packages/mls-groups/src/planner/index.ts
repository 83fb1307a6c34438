/** Pure planning for large groups: who commits, in what order trees are warmed, how groups grow. */
export { type CommitBatch, composeBatches, type PendingChanges } from "./batch.ts";
export {
  type CommitCosts,
  type CommitterChoice,
  cheapestCommitter,
  committerForLeaving,
  nearestMembers,
} from "./committer.ts";
export { type GrowthOptions, type GrowthStep, growthDefaults, planGrowth } from "./growth.ts";
export {
  meanPathCost,
  nextWarmUpLeaf,
  type WarmUpOptions,
  type WarmUpTree,
  warmUpDefaults,
} from "./next-turn.ts";
export { bitReversedLeaves, warmUpAmong, warmUpLeaves, warmUpTurns } from "./warm-up.ts";

/**
 * How the record of a pairwise group is written forward at a service that was set back: every change once more, in order,
 * because the service counts them one by one and judges each step of a migration. Pure.
 */
import {
  beginsLease,
  type MigrationPosition,
  migrationTransition,
  nextMigration,
  unmigrated,
} from "@murmuration/wire";
import { type GroupAction, migrationChangeOf, startsGeneration } from "./group-change.ts";

/** One write of the record. */
export interface RefeedWrite {
  /** Of the record after it, which has as many changes. */
  readonly revision: number;
  /** The key that the record is sealed with: that of the record which the service has, or the present one. */
  readonly key: "theirs" | "ours";
  /**
   * What the write brings beside the record: nothing; access key and fence of our generation; or, where the group switched,
   * the access key of the record and a fence that nobody ever knows.
   */
  readonly brings: "nothing" | "generation" | "fence of nobody";
  /** Where the migration stands after it, if it is a step of one. */
  readonly step: MigrationPosition | undefined;
  /** The step begins a lease: it brings a token. */
  readonly beginsLease: boolean;
}

/**
 * The writes that lead from revision `served` to the last of `actions`, which are all changes of the record from the first one
 * on. From the first one on that began a generation which the service has lost, everything is sealed with the present key:
 * whoever was removed since reads nothing of what came after. So is all of it where the record lies under a key that was over
 * by then (`isStale`): somebody who was removed has written it. O(actions).
 */
export function planRefeed(
  actions: readonly GroupAction[],
  served: number,
  isStale = false,
): readonly RefeedWrite[] {
  const writes: RefeedWrite[] = [];
  let position: MigrationPosition = unmigrated;
  let isOurs = isStale;
  for (const [index, action] of actions.entries()) {
    const revision = index + 1;
    const change = migrationChangeOf(action);
    const transition = change && migrationTransition(position.state, change);
    position = (change && nextMigration(position, change)) ?? position;
    if (revision <= served) continue;
    const begins = startsGeneration(action) || (isStale && writes.length === 0);
    isOurs ||= begins;
    writes.push({
      revision,
      key: isOurs ? "ours" : "theirs",
      brings: transition?.fence === "new" ? "fence of nobody" : begins ? "generation" : "nothing",
      step: transition !== undefined ? position : undefined,
      beginsLease: change !== undefined && beginsLease(change),
    });
  }
  return writes;
}

import { UsageError } from "@murmuration/base";

/** What waits to be committed. Elements are the caller's own handles (KeyPackages, leaf indexes). */
export interface PendingChanges<A, R> {
  readonly adds: readonly A[];
  readonly removes: readonly R[];
}

export interface CommitBatch<A, R> {
  readonly adds: readonly A[];
  readonly removes: readonly R[];
  /** RFC 9420 12.4: a path is required as soon as the batch removes somebody; Adds alone may omit it. */
  readonly needsPath: boolean;
}

/**
 * Splits pending changes into commits. Removes go into the first batch whole: a removed member must not read one
 * epoch more than needed, and its path is paid once. Adds follow in order, at most `maxAdds` a commit, filling
 * the first batch as well. O(adds + removes).
 */
export function composeBatches<A, R>(pending: PendingChanges<A, R>, maxAdds = 256): CommitBatch<A, R>[] {
  if (!Number.isInteger(maxAdds) || maxAdds < 1) throw new UsageError("planner/max-adds-not-positive");
  const batches: CommitBatch<A, R>[] = [];
  let next = 0;
  let removes = pending.removes;
  while (removes.length > 0 || next < pending.adds.length) {
    const adds = pending.adds.slice(next, next + maxAdds);
    next += adds.length;
    batches.push({ adds, removes, needsPath: removes.length > 0 });
    removes = [];
  }
  return batches;
}

import type { Bytes } from "@murmuration/base";
import type { LeafIndex } from "../tree/math.ts";
import type { RatchetTree } from "../tree/ratchet-tree.ts";

/**
 * How long receive secrets of past epochs stay. An epoch goes when it is older than `epochs` AND older than
 * `durationMs`, or at once when more than `maxEpochs` are kept. The longer the window, the more a thief of the
 * device can read; the shorter, the more late messages are lost.
 */
export interface ReceiveWindow {
  readonly epochs: number;
  readonly durationMs: number;
  readonly maxEpochs: number;
}

export const receiveWindowDefaults: ReceiveWindow = { epochs: 4, durationMs: 600_000, maxEpochs: 64 };

/** What a leaf was before a commit changed it: its encoded LeafNode, or undefined if it was blank. */
export type LeafBefore = ReadonlyMap<LeafIndex, Bytes | undefined>;

/**
 * The leaves that a commit touched, as they were before it. With these, the members of a past epoch are read from
 * the current tree and the few differences since, and no old tree has to be kept. O(touched).
 */
export function leavesBefore(tree: RatchetTree, touched: Iterable<LeafIndex>): LeafBefore {
  const before = new Map<LeafIndex, Bytes | undefined>();
  for (const leaf of touched) before.set(leaf, tree.leafBytes(leaf));
  return before;
}

/** The facts about a past epoch that pruning needs. */
export interface EpochAge {
  readonly epoch: bigint;
  /** When the commit that ended it was merged, milliseconds since 1970. */
  readonly endedAtMs: number;
}

/**
 * The epochs to forget, given the ones kept in ascending order. What is older than a forgotten epoch goes with it,
 * also when the clock was set back in between: the kept ones have no gap. Pure. O(kept).
 */
export function expiredEpochs(kept: readonly EpochAge[], window: ReceiveWindow, nowMs: number): bigint[] {
  const newestForgotten = kept.findLastIndex(({ endedAtMs }, i) => {
    const newer = kept.length - 1 - i;
    if (newer >= window.maxEpochs) return true;
    return newer >= window.epochs && nowMs - endedAtMs > window.durationMs;
  });
  return kept.slice(0, newestForgotten + 1).map(({ epoch }) => epoch);
}

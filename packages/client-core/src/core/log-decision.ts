/** Whether the service's log of a community is the one that this device knows. */
import { type Bytes, equalBytes } from "@murmuration/base";

export interface LogFacts {
  /** What this device has: its epoch, the entry up to which it has everything, the commit that led to its epoch. */
  readonly epoch: number;
  readonly cursor: number;
  readonly commitHash: Bytes | undefined;
  /** It named the entry at its cursor. */
  readonly marked: boolean;
  /** What the service has: its epoch, its newest entry, the newest one that both have, that commit. */
  readonly serviceEpoch: number;
  readonly lastSequence: number;
  readonly agreedSequence: number;
  readonly serviceCommitHash: Bytes | undefined;
}

export type LogDecision =
  | { readonly kind: "in-step" }
  /** The service was set back and has not reached our epoch: nothing of it is taken. */
  | { readonly kind: "behind" }
  /** It was set back and has our epoch: from where the logs part it is read anew. */
  | { readonly kind: "another-log" }
  /** It went on from where it was set back to, to another epoch of our number. */
  | { readonly kind: "another-past" };

/**
 * A mark that holds says that the log is ours: what is behind it may take our newest commit back, so the epoch says
 * nothing. Without a mark (just joined) the numbers have to do.
 */
export function decideOnLog(facts: LogFacts): LogDecision {
  const { agreedSequence, cursor, epoch, lastSequence, marked, serviceEpoch } = facts;
  if (marked && agreedSequence === cursor) return { kind: "in-step" };
  if (serviceEpoch < epoch) return { kind: "behind" };
  if (!marked && cursor <= lastSequence) return { kind: "in-step" };
  const { commitHash, serviceCommitHash } = facts;
  const known = commitHash !== undefined && serviceCommitHash !== undefined;
  if (known && !equalBytes(commitHash, serviceCommitHash)) return { kind: "another-past" };
  return { kind: "another-log" };
}

/** The most that may be named, spread over all that is known: close together where it is new, apart where it is old. */
export function spreadMarks<T>(newestFirst: readonly T[], max: number): readonly T[] {
  if (newestFirst.length <= max) return newestFirst;
  const last = newestFirst.length - 1;
  const picked = [0];
  for (let step = 1; step < max - 1; step++) {
    const at = Math.max(picked.at(-1)! + 1, Math.round(last ** (step / (max - 1))));
    if (at < last) picked.push(at);
  }
  return [...picked, last].map((at) => newestFirst[at]!);
}

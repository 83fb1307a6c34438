/**
 * What becomes at the switch of what waits to be said pairwise (docs/migration.md). Pure.
 */

/** A row of the outbox of the group. */
export interface WaitingRow {
  /** Nobody reads it any more in the protocol that the group moves to. */
  readonly isPairwiseOnly: boolean;
  /** Number of what it says; undefined where it has none. */
  readonly counter: number | undefined;
}

export interface SaidAnew<T extends WaitingRow> {
  readonly sayAnew: readonly T[];
  readonly drop: readonly T[];
  /** From this number on nothing was said pairwise, or not to all: it comes by MLS. undefined: everything was. */
  readonly takeBackFrom: number | undefined;
}

/** What this device has numbered so far, and what of it was deleted before it had left. */
export interface Numbered {
  readonly last: number;
  readonly unsaid: ReadonlySet<number>;
}

/**
 * Rows wait in the order in which they were written, so whatever comes behind the first of them has a greater number and
 * waits too: the last thing said pairwise is the one before it. What was accepted by the service and not yet answered
 * waits as well, and comes twice under one id. Nobody gets what was deleted before it had left: it is no end for which others
 * could wait. O(rows + numbers that were deleted).
 */
export function planSaidAnew<T extends WaitingRow>(
  rows: readonly T[],
  { last, unsaid }: Numbered,
): SaidAnew<T> {
  const numbers = rows.map(({ counter }) => counter).filter((counter) => counter !== undefined);
  let from = numbers.length === 0 ? last + 1 : Math.min(...numbers);
  while (unsaid.has(from - 1)) from--;
  return {
    sayAnew: rows.filter(({ isPairwiseOnly }) => !isPairwiseOnly),
    drop: rows.filter(({ isPairwiseOnly }) => isPairwiseOnly),
    takeBackFrom: from > last ? undefined : from,
  };
}

/**
 * What one device says over two protocols stays in its order, and comes to an end on the first (docs/migration.md). Pure.
 *
 * A device numbers what it says pairwise in a group: 1, 2, 3, … Whatever it says in the MLS group names the last of these
 * numbers, and the revision of the record at which it was used.
 */

/** How long after the switch what was said pairwise is still taken, ms. Longer than a mailbox keeps anything for a device that is used. */
export const PAIRWISE_UNTIL_MS = 7 * 86_400_000;
/**
 * How long after the switch nobody is told of it for speaking pairwise, ms: the notice is on its way to everybody. Without
 * it each member answers whatever was under way to all of them at the switch, which is members squared.
 */
export const TOLD_AFTER_MS = 15_000;
/** How long something said over MLS waits for what the same device had said before, ms. */
export const HOLD_MS = 60_000;

/** What is known of the device that speaks. */
export interface Spoken {
  /** Number of the newest thing said pairwise that came here; 0 for none. */
  readonly seen: number;
  /** Number of the last thing said pairwise, by its own word; undefined before it has spoken over MLS. */
  readonly last: number | undefined;
}

/**
 * Whether something said pairwise is still taken. `late`: the device had said that it was through with it, or the time is
 * over. A device that has not spoken over MLS a while after the switch may not know of it, and is to be told: `tell`.
 */
export function decidePairwise(facts: {
  readonly spoken: Spoken;
  readonly counter: number;
  /** 0: this device has not switched. */
  readonly switchedAtMs: number;
  readonly nowMs: number;
}): { readonly take: boolean; readonly tell: boolean } {
  const { spoken, counter, switchedAtMs, nowMs } = facts;
  if (switchedAtMs === 0) return { take: true, tell: false };
  const inTime = nowMs < switchedAtMs + PAIRWISE_UNTIL_MS;
  // Whoever numbers nothing is over with the switch.
  const announced = spoken.last === undefined || (counter > 0 && counter <= spoken.last);
  const mayNotKnow = spoken.last === undefined || counter > spoken.last;
  return { take: inTime && announced, tell: mayNotKnow && nowMs >= switchedAtMs + TOLD_AFTER_MS };
}

/** Whether something said over MLS has to wait for what the same device had said pairwise. */
export function mustWait(facts: {
  readonly spoken: Spoken;
  /** What it names; undefined for a device that had said nothing. */
  readonly last: { readonly counter: number; readonly revision: number } | undefined;
  /** Revision by which this account came: what was said before was not said to it. */
  readonly joinedRevision: number;
  readonly heldSinceMs: number;
  readonly nowMs: number;
}): boolean {
  const { spoken, last, joinedRevision, heldSinceMs, nowMs } = facts;
  if (last === undefined || last.revision < joinedRevision) return false;
  return spoken.seen < last.counter && nowMs < heldSinceMs + HOLD_MS;
}

/**
 * When a member may be asked to warm the tree. Such a commit is a service to all, and all of them have to take it in: it
 * waits until most have taken the one before, until nobody comes any more who has a tree to verify, and while people talk
 * it leaves their devices three quarters of the time. It never waits for ever.
 */

/** What is known of a group's members, ms on one clock. */
export interface Pace {
  /** When the newest commit was accepted. */
  readonly committedAtMs: number;
  /** When most of those who are here had acknowledged it; undefined until they have. */
  readonly takenAtMs: number | undefined;
  /** When a leaf last came. */
  readonly cameAtMs: number;
  /** When somebody last said something. */
  readonly saidAtMs: number;
  /** When a turn to warm the tree was last given back: the members have something else to do. */
  readonly releasedAtMs: number;
}

/** Times that taking a commit in has to be over while people talk. */
const RESTS = 3;
/** Whoever said something this long ago is still talking, ms. */
const TALK_MS = 10_000;
/** The longest that a turn waits after a commit, ms. */
const LONGEST_MS = 60_000;
/**
 * After a turn was given back, before another member is asked, as a multiple of the time for which nobody may have come.
 * Shorter than whoever gave it back is left alone, so that one who does so each time keeps no other from it.
 */
const RELEASED_QUIETS = 6;
/** Before it is looked again whether most have taken a commit, ms. */
const LOOK_AGAIN_MS = 200;

/** When to ask for the next commit, or to look again. `quietMs`: how long nobody may have come. O(1). */
export function warmUpDueAt(pace: Pace, nowMs: number, quietMs: number): number {
  const { cameAtMs, committedAtMs, releasedAtMs, saidAtMs, takenAtMs } = pace;
  const latest = committedAtMs + LONGEST_MS;
  const released = releasedAtMs + RELEASED_QUIETS * quietMs;
  if (takenAtMs === undefined) return Math.max(released, Math.min(latest, nowMs + LOOK_AGAIN_MS));
  const rest = nowMs < saidAtMs + TALK_MS ? RESTS * (takenAtMs - committedAtMs) : 0;
  return Math.max(released, Math.min(latest, Math.max(takenAtMs + rest, cameAtMs + quietMs)));
}

/** Whether most of the readers are through an entry. O(readers). */
export function mostTook(acknowledged: readonly number[], sequence: number): boolean {
  const through = acknowledged.filter((one) => one >= sequence).length;
  return through * 4 >= acknowledged.length * 3;
}

/** How a token's wake-ups follow each other. Milliseconds. */
export interface WakePace {
  /** A token is woken at most once in this time. */
  readonly windowMs: number;
  /** Each wake-up is put off by up to this long, so that those of one message do not leave together. */
  readonly spreadMs: number;
}

/**
 * When a token is woken that was last woken at `lastMs`, asked for at `nowMs`: soon, or when its window is over. What comes
 * within a window is one wake-up at its end and not none: the device may have looked before it came.
 */
export function wakeAt(pace: WakePace, lastMs: number | undefined, nowMs: number, fraction: number): number {
  const soonest = nowMs + Math.floor(pace.spreadMs * fraction);
  return lastMs === undefined ? soonest : Math.max(soonest, lastMs + pace.windowMs);
}

/** How often, and how far apart, a push service is asked again. */
export interface RetryPace {
  readonly firstMs: number;
  readonly maxMs: number;
  readonly tries: number;
  /** Older than this a wake-up is worth nothing: whoever has not come by then comes by itself. */
  readonly lifetimeMs: number;
}

/**
 * How long to wait before try number `tried + 1`; undefined to give up. Doubles from `firstMs`, with up to half of it on
 * top by chance, and not before the push service wants to hear of it.
 */
export function retryAfter(
  pace: RetryPace,
  attempt: { readonly tried: number; readonly ageMs: number; readonly askedMs: number | undefined },
  fraction: number,
): number | undefined {
  const { tried, ageMs, askedMs = 0 } = attempt;
  if (tried >= pace.tries) return undefined;
  const doubled = Math.min(pace.maxMs, pace.firstMs * 2 ** (tried - 1));
  const delayMs = Math.max(askedMs, Math.floor(doubled * (1 + fraction / 2)));
  return ageMs + delayMs > pace.lifetimeMs ? undefined : delayMs;
}

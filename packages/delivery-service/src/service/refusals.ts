import { MurmurationError, RejectionError, UnavailableError } from "@murmuration/base";
import { isRejectionCode, type Rate, type RejectionCode } from "@murmuration/wire";
import { DelayedRejection } from "../core/delayed-rejection.ts";
import type { Log } from "../ports/environment.ts";
import type { Charge, LimitName, RateLimits } from "../ports/rate-limits.ts";

export interface Refusal {
  readonly code: RejectionCode;
  readonly retryAfterMs: number | undefined;
}

const MAX_RETRY_AFTER_MS = 3_600_000;
/** After an engine did not answer: when clients, and whatever this node does by itself, try again, ms. */
export const OVERLOADED_RETRY_MS = 1_000;

/**
 * The one boundary where errors become answers. What is no rejection is logged by its kind and place, without
 * its text, and answered as `service/internal`.
 */
export function toRefusal(error: unknown, log: Log): Refusal {
  if (error instanceof RejectionError && isRejectionCode(error.code)) {
    const retryAfterMs =
      error instanceof DelayedRejection ? Math.min(error.retryAfterMs, MAX_RETRY_AFTER_MS) : undefined;
    return { code: error.code, retryAfterMs };
  }
  if (error instanceof RejectionError && error.code.startsWith("id/")) {
    return { code: "http/bad-path", retryAfterMs: undefined };
  }
  if (error instanceof UnavailableError) {
    log.warn("unavailable", { code: error.code });
    return { code: "service/overloaded", retryAfterMs: OVERLOADED_RETRY_MS };
  }
  log.error("internal-error", {
    kind: error instanceof Error ? error.name : "not-an-error",
    code: error instanceof MurmurationError ? error.code : "none",
    place: placeOf(error),
  });
  return { code: "service/internal", retryAfterMs: OVERLOADED_RETRY_MS };
}

/** Throws DelayedRejection `rate/limited` unless every charge is affordable. */
export async function charge(rateLimits: RateLimits, charges: readonly Charge[]): Promise<void> {
  const admission = await rateLimits.take(charges);
  if (!admission.allowed) throw new DelayedRejection("rate/limited", admission.retryAfterMs);
}

/** One charge against a limit of the wire's table. */
export function chargeFor(name: LimitName, key: string, rate: Rate, cost = 1): Charge {
  const size = { capacity: rate.burst, refillPerSecond: rate.perMinute / 60 };
  return { key: `${name} ${key}`, size, cost };
}

/** Function names of the stack without the error's text, which may quote input. */
function placeOf(error: unknown): string {
  const frames = error instanceof Error ? (error.stack ?? "").split("\n") : [];
  return frames
    .map((line) => /^\s+at (?:async )?([\w.<>$ ]+) \(/.exec(line)?.[1])
    .filter((name) => name !== undefined)
    .slice(0, 4)
    .join(" < ");
}

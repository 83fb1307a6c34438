/** When a device says what to its push gateway and to the service, and what its handles say. */
import type { Bytes } from "@murmuration/base";
import { limits } from "@murmuration/wire";

/** What wakes this device for a conversation. */
export type WakeBy = "messages" | "mentions" | "nothing";

const DAY_MS = 86_400_000;
/** Handles are renewed in the middle of their life: whoever comes at all within ten days before its end is in time. */
const RENEW_AFTER_DAYS = { from: 25, to: 50 } as const;
/** How often the gateway is asked whether it has still the same key, and told that the token is still in use. */
const LOOK_AFTER_DAYS = { from: 1, to: 2 } as const;

/** A random number from `from` on and below `to`; `random` is four random bytes. */
export function spread({ from, to }: { readonly from: number; readonly to: number }, random: Bytes): number {
  const fraction = new DataView(random.buffer, random.byteOffset, 4).getUint32(0) / 2 ** 32;
  return from + (to - from) * fraction;
}

/** When a handle that is set now is renewed: each at a time of its own, so that no two are renewed together again. */
export function renewAt(nowMs: number, random: Bytes): number {
  return Math.floor(nowMs + spread(RENEW_AFTER_DAYS, random) * DAY_MS);
}

/** When a registration is looked at again. */
export function lookAt(nowMs: number, random: Bytes): number {
  return Math.floor(nowMs + spread(LOOK_AFTER_DAYS, random) * DAY_MS);
}

/**
 * What wakes for a conversation that may be muted. Muted for ever is: nothing. A time that ends changes nothing, for the
 * device is asleep when it does, and nobody else can make it a handle that wakes again.
 */
export function effectiveWakeBy(wakeBy: WakeBy, mutedUntilMs: number): WakeBy {
  return mutedUntilMs === Number.MAX_SAFE_INTEGER ? "nothing" : wakeBy;
}

/**
 * What a handle says to the gateway. One that wakes by nothing has run out: the service cannot tell it from the others, and
 * so does not learn which members have silenced a group.
 */
export function handleTerms(wakeBy: WakeBy, nowMs: number): { mentionOnly: boolean; expiryDay: number } {
  const lastDay = Math.floor((nowMs + limits.pushHandleLifetimeMs) / DAY_MS);
  return { mentionOnly: wakeBy === "mentions", expiryDay: wakeBy === "nothing" ? 0 : lastDay };
}

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;

/** Days since 1970 in UTC: all the service keeps of when a device or a group was last there. */
export function dayOf(nowMs: number): number {
  return Math.floor(nowMs / DAY_MS);
}

/**
 * Rounds down to a whole minute: what an envelope says of its arrival. It is enough to validate a sender
 * certificate and to expire, and it ties co-recipients of one submit together no closer than it must.
 */
export function toMinute(nowMs: number): number {
  return nowMs - (nowMs % MINUTE_MS);
}

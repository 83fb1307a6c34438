import type { PushOutcome } from "../ports/push-service.ts";

const MAX_RETRY_AFTER_MS = 3_600_000;

/** What an HTTP status of a push service means; `gone` are those that say that the token is no more. */
export function outcomeOfStatus(
  status: number,
  gone: readonly number[],
  retryAfterMs: number | undefined,
): PushOutcome {
  if (gone.includes(status)) return { kind: "gone" };
  if (status === 408 || status === 429 || status >= 500) {
    return { kind: "later", ...(retryAfterMs !== undefined && { retryAfterMs }) };
  }
  return { kind: "refused", reason: `status-${status}` };
}

/** Milliseconds of a Retry-After header in seconds, an hour at most; a date is not worth reading. */
export function retryAfterMs(header: string | null | undefined): number | undefined {
  if (header === null || header === undefined || !/^\d{1,9}$/.test(header)) return undefined;
  return Math.min(Number(header) * 1000, MAX_RETRY_AFTER_MS);
}

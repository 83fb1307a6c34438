import { type Bucket, type BucketSize, isFull, takeTokens } from "../core/token-bucket.ts";
import type { Clock } from "../ports/environment.ts";
import type { Admission, Charge, RateLimits } from "../ports/rate-limits.ts";

interface Entry {
  readonly bucket: Bucket;
  readonly size: BucketSize;
}

const MAX_ENTRIES = 200_000;
const FIRST_SWEEP = 1_024;

/** {@link RateLimits} of one process. Buckets that are full again are forgotten; so are the oldest ones. */
export class MemoryRateLimits implements RateLimits {
  private readonly clock: Clock;
  private readonly entries = new Map<string, Entry>();
  private sweepAt = FIRST_SWEEP;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  async take(charges: readonly Charge[]): Promise<Admission> {
    const now = this.clock.now();
    let retryAfterMs = 0;
    const taken = new Map<string, Entry>();
    for (const { key, size, cost } of charges) {
      const bucket = (taken.get(key) ?? this.entries.get(key))?.bucket;
      const decision = takeTokens(bucket, size, cost, now);
      taken.set(key, { bucket: decision.bucket, size });
      if (decision.kind === "refused") retryAfterMs = Math.max(retryAfterMs, decision.retryAfterMs);
    }
    if (retryAfterMs > 0) return { allowed: false, retryAfterMs };
    for (const [key, entry] of taken) {
      // Deleting first moves a key in use to the end, away from what a sweep forgets.
      this.entries.delete(key);
      this.entries.set(key, entry);
    }
    if (this.entries.size > this.sweepAt) this.sweep(now);
    return { allowed: true, retryAfterMs: 0 };
  }

  /** O(entries), at most once for each doubling of their number. */
  private sweep(now: number): void {
    for (const [key, entry] of this.entries) {
      if (isFull(entry.bucket, entry.size, now)) this.entries.delete(key);
    }
    for (const key of this.entries.keys()) {
      if (this.entries.size <= MAX_ENTRIES) break;
      this.entries.delete(key);
    }
    this.sweepAt = Math.max(FIRST_SWEEP, this.entries.size * 2);
  }
}

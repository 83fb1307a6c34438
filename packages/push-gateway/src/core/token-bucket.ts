/** At most `burst` at once, refilled at `perMinute`. */
export interface Rate {
  readonly burst: number;
  readonly perMinute: number;
}

interface Bucket {
  tokens: number;
  asOfMs: number;
}

const SWEEP_AT = 10_000;

/** Token buckets by key, in memory. A bucket that is full again is forgotten. */
export class TokenBuckets {
  private readonly rate: Rate;
  private readonly buckets = new Map<string, Bucket>();
  private sweepAt = SWEEP_AT;

  constructor(rate: Rate) {
    this.rate = rate;
  }

  /** Takes `cost` tokens at `nowMs`, or none: then says after how many milliseconds they will be there. */
  take(key: string, cost: number, nowMs: number): number {
    const bucket = this.buckets.get(key) ?? { tokens: this.rate.burst, asOfMs: nowMs };
    bucket.tokens = this.tokensAt(bucket, nowMs);
    bucket.asOfMs = nowMs;
    if (bucket.tokens < cost) return Math.ceil(((cost - bucket.tokens) / this.rate.perMinute) * 60_000);
    bucket.tokens -= cost;
    this.buckets.set(key, bucket);
    if (this.buckets.size > this.sweepAt) this.sweep(nowMs);
    return 0;
  }

  private tokensAt({ tokens, asOfMs }: Bucket, nowMs: number): number {
    const gained = (Math.max(0, nowMs - asOfMs) * this.rate.perMinute) / 60_000;
    return Math.min(this.rate.burst, tokens + gained);
  }

  /** O(buckets), at most once for each doubling of their number. */
  private sweep(nowMs: number): void {
    for (const [key, bucket] of this.buckets) {
      if (this.tokensAt(bucket, nowMs) >= this.rate.burst) this.buckets.delete(key);
    }
    this.sweepAt = Math.max(SWEEP_AT, this.buckets.size * 2);
  }
}

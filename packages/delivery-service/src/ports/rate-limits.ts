import type { BucketSize } from "../core/token-bucket.ts";

/** Tokens that one action costs in one bucket. */
export interface Charge {
  /** May name an address or an account: kept in memory only, never logged. */
  readonly key: string;
  readonly size: BucketSize;
  readonly cost: number;
}

export interface Admission {
  readonly allowed: boolean;
  /** When `allowed` is false: after this time the same charges are affordable. */
  readonly retryAfterMs: number;
}

/** Token buckets by key. */
export interface RateLimits {
  /** Takes every charge, or none of them. */
  take(charges: readonly Charge[]): Promise<Admission>;
}

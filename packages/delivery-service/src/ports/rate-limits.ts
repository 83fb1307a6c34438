import type { BucketSize } from "../core/token-bucket.ts";

/** What is limited. */
export type LimitName =
  | "registrations"
  | "submits"
  | "requests"
  | "invited-envelopes"
  | "request-envelopes"
  | "uploads"
  | "bundles-of"
  | "bundles-by"
  | "one-time"
  | "key-package-uploads"
  | "key-package-claims"
  | "key-package-pair"
  | "blob-bytes"
  | "trees"
  | "tree-bytes"
  | "groups"
  | "group-growth"
  | "group-entries"
  | "group-accesses"
  | "group-bytes"
  | "group-messages"
  | "messages-of-group"
  | "group-commits"
  | "commits-of-group"
  | "group-refeeds"
  | "group-link"
  | "leaf-handles"
  | "push-handles";

/** Tokens that one action costs in one bucket. */
export interface Charge {
  /** A {@link LimitName}, and for whom. May name an address or an account: kept in memory only, never logged. */
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

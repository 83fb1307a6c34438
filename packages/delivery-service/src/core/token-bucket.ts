/** A bucket holds at most `capacity` tokens and gains `refillPerSecond` of them. */
export interface BucketSize {
  readonly capacity: number;
  readonly refillPerSecond: number;
}

export interface Bucket {
  readonly tokens: number;
  readonly asOfMs: number;
}

export type BucketDecision =
  | { readonly kind: "allowed"; readonly bucket: Bucket }
  /** `retryAfterMs` is Infinity when the cost exceeds the capacity. */
  | { readonly kind: "refused"; readonly bucket: Bucket; readonly retryAfterMs: number };

/** Tokens in a bucket at `now`; an absent bucket is full, and a clock that went back adds nothing. */
export function tokensAt(bucket: Bucket | undefined, size: BucketSize, now: number): number {
  if (bucket === undefined) return size.capacity;
  const elapsedMs = Math.max(0, now - bucket.asOfMs);
  return Math.min(size.capacity, bucket.tokens + (elapsedMs * size.refillPerSecond) / 1000);
}

/** Takes `cost` tokens, or none and says when they will be there. O(1). */
export function takeTokens(
  bucket: Bucket | undefined,
  size: BucketSize,
  cost: number,
  now: number,
): BucketDecision {
  const tokens = tokensAt(bucket, size, now);
  if (tokens >= cost) return { kind: "allowed", bucket: { tokens: tokens - cost, asOfMs: now } };
  const retryAfterMs =
    cost > size.capacity
      ? Number.POSITIVE_INFINITY
      : Math.ceil(((cost - tokens) / size.refillPerSecond) * 1000);
  return { kind: "refused", bucket: { tokens, asOfMs: now }, retryAfterMs };
}

/** True when forgetting the bucket changes nothing, because it would be full by now. */
export function isFull(bucket: Bucket, size: BucketSize, now: number): boolean {
  return tokensAt(bucket, size, now) >= size.capacity;
}

/**
 * The key under which a remote address is counted: an IPv4 address as it is (also in its IPv6-mapped form), an
 * IPv6 address by its /64, because one customer usually holds that many.
 */
export function addressKey(remoteAddress: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(remoteAddress);
  if (mapped !== null) return mapped[1]!;
  if (!remoteAddress.includes(":")) return remoteAddress;
  const [head = "", tail] = remoteAddress.toLowerCase().split("%")[0]!.split("::");
  const before = head === "" ? [] : head.split(":");
  const after = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - before.length - after.length);
  const groups = [...before, ...Array.from({ length: zeros }, () => "0"), ...after];
  return `${groups
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(":")}::/64`;
}

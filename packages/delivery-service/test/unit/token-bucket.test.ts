import { describe, expect, it } from "vitest";
import { addressKey, isFull, takeTokens, tokensAt } from "../../src/core/token-bucket.ts";

const size = { capacity: 10, refillPerSecond: 2 };

describe("token bucket", () => {
  it("gives a burst, then a rate, and says when to come back", () => {
    let bucket = takeTokens(undefined, size, 10, 0).bucket;
    expect(takeTokens(bucket, size, 1, 0)).toMatchObject({ kind: "refused", retryAfterMs: 500 });
    const later = takeTokens(bucket, size, 1, 500);
    expect(later.kind).toBe("allowed");
    bucket = later.bucket;
    expect(takeTokens(bucket, size, 4, 1_000)).toMatchObject({ kind: "refused", retryAfterMs: 1_500 });
    expect(takeTokens(bucket, size, 4, 2_500).kind).toBe("allowed");
  });

  it("never holds more than its capacity, and a clock that goes back adds nothing", () => {
    const empty = takeTokens(undefined, size, 10, 1_000).bucket;
    expect(tokensAt(empty, size, 1_000_000)).toBe(10);
    expect(tokensAt(empty, size, 0)).toBe(0);
    expect(isFull(empty, size, 5_999)).toBe(false);
    expect(isFull(empty, size, 6_000)).toBe(true);
  });

  it("a cost beyond the capacity is never affordable", () => {
    expect(takeTokens(undefined, size, 11, 0)).toMatchObject({
      kind: "refused",
      retryAfterMs: Number.POSITIVE_INFINITY,
    });
  });

  it.each([
    ["203.0.113.9", "203.0.113.9"],
    ["::ffff:203.0.113.9", "203.0.113.9"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:DB8:1:2::9", "2001:db8:1:2::/64"],
    ["2001:db8::9", "2001:db8:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
  ])("counts %s as %s", (address, key) => {
    expect(addressKey(address)).toBe(key);
  });
});

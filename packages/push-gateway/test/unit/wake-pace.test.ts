import { expect, test } from "vitest";
import { TokenBuckets } from "../../src/core/token-bucket.ts";
import { retryAfter, wakeAt } from "../../src/core/wake-pace.ts";

const pace = { windowMs: 10_000, spreadMs: 2_000 };
const retry = { firstMs: 1_000, maxMs: 8_000, tries: 5, lifetimeMs: 86_400_000 };

test("a token that was not woken lately is woken soon, by chance within the spread", () => {
  expect(wakeAt(pace, undefined, 50_000, 0)).toBe(50_000);
  expect(wakeAt(pace, undefined, 50_000, 0.5)).toBe(51_000);
  expect(wakeAt(pace, 30_000, 50_000, 0.5)).toBe(51_000);
});

test("one that was woken within the window is woken when it is over", () => {
  expect(wakeAt(pace, 45_000, 50_000, 0)).toBe(55_000);
});

test("tries lie further and further apart, up to a limit, and end", () => {
  const delays = [1, 2, 3, 4, 5].map((tried) =>
    retryAfter(retry, { tried, ageMs: 0, askedMs: undefined }, 0),
  );
  expect(delays).toEqual([1_000, 2_000, 4_000, 8_000, undefined]);
  expect(retryAfter(retry, { tried: 1, ageMs: 0, askedMs: undefined }, 0.999)).toBe(1_499);
});

test("a push service that says when is asked no sooner, and not when the wake-up is worth nothing by then", () => {
  expect(retryAfter(retry, { tried: 1, ageMs: 0, askedMs: 60_000 }, 0)).toBe(60_000);
  expect(retryAfter(retry, { tried: 1, ageMs: 86_399_500, askedMs: undefined }, 0)).toBeUndefined();
});

test("a bucket gives what it holds, and says when it holds enough again", () => {
  const buckets = new TokenBuckets({ burst: 2, perMinute: 60 });
  expect([buckets.take("a", 1, 0), buckets.take("a", 1, 0), buckets.take("a", 1, 0)]).toEqual([0, 0, 1_000]);
  expect(buckets.take("b", 2, 0)).toBe(0);
  expect(buckets.take("a", 1, 1_000)).toBe(0);
});

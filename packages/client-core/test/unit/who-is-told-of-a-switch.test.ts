import { describe, expect, test } from "vitest";
import { decidePairwise, PAIRWISE_UNTIL_MS, TOLD_AFTER_MS } from "../../src/core/migration/spoken-order.ts";

describe("who speaks pairwise after the switch", () => {
  const switchedAtMs = 1_000_000;
  const late = switchedAtMs + TOLD_AFTER_MS;
  const spoken = (last: number | undefined) => ({ seen: 0, last });

  test("is not told at once: the notice is on its way, and each member would answer each message that was", () => {
    const facts = { spoken: spoken(undefined), counter: 1, switchedAtMs, nowMs: late - 1 };
    expect(decidePairwise(facts)).toEqual({ take: true, tell: false });
  });

  test("is told when it still does a while later", () => {
    const facts = { spoken: spoken(undefined), counter: 1, switchedAtMs, nowMs: late };
    expect(decidePairwise(facts)).toEqual({ take: true, tell: true });
  });

  test("is not told where it has spoken in the MLS group since, and this was before", () => {
    expect(decidePairwise({ spoken: spoken(3), counter: 3, switchedAtMs, nowMs: late })).toEqual({
      take: true,
      tell: false,
    });
    expect(decidePairwise({ spoken: spoken(3), counter: 4, switchedAtMs, nowMs: late })).toEqual({
      take: false,
      tell: true,
    });
  });

  test("is heard for seven days and no longer, unless it said that it was through before that", () => {
    const lastMs = switchedAtMs + PAIRWISE_UNTIL_MS;
    expect(PAIRWISE_UNTIL_MS).toBe(7 * 24 * 3_600_000);
    const takes = (nowMs: number, last: number | undefined, counter: number) =>
      decidePairwise({ spoken: spoken(last), counter, switchedAtMs, nowMs }).take;
    // Whoever has not spoken over MLS, also where it numbers nothing; and what was said before its last word.
    for (const [last, counter] of [
      [undefined, 1],
      [undefined, 0],
      [3, 3],
    ] as const) {
      expect(takes(lastMs - 1, last, counter), `${counter} of ${last}, in time`).toBe(true);
      expect(takes(lastMs, last, counter), `${counter} of ${last}, late`).toBe(false);
    }
    expect(takes(lastMs - 1, 3, 4)).toBe(false);
    // It is told nevertheless: what it says from now on is to be heard.
    expect(decidePairwise({ spoken: spoken(undefined), counter: 1, switchedAtMs, nowMs: lastMs }).tell).toBe(
      true,
    );
  });

  test("is heard as ever by a device that has not gone over itself, whenever that is", () => {
    const facts = { spoken: spoken(undefined), counter: 9, switchedAtMs: 0, nowMs: 2 * PAIRWISE_UNTIL_MS };
    expect(decidePairwise(facts)).toEqual({ take: true, tell: false });
  });
});

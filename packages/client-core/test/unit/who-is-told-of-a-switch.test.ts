import { describe, expect, test } from "vitest";
import { decidePairwise, TOLD_AFTER_MS } from "../../src/core/migration/spoken-order.ts";

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
});

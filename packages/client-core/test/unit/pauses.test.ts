import { expect, test } from "vitest";
import { Pauses } from "../../src/shell/pauses.ts";

function pauses() {
  const clock = { nowMs: 1_000_000 };
  const tried = new Pauses(() => clock.nowMs, { first: 100, most: 350 });
  /** How long it is not to be tried from here on. */
  const restMs = () => {
    const fromMs = clock.nowMs;
    while (tried.has("it")) clock.nowMs++;
    return clock.nowMs - fromMs;
  };
  return { clock, tried, restMs };
}

test("what comes to nothing is tried ever less often, up to the longest pause, and anything else at once", () => {
  const { tried, restMs } = pauses();
  expect(restMs()).toBe(0);
  const rests = [0, 1, 2, 3].map(() => {
    tried.lengthen("it");
    return restMs();
  });
  expect(rests).toEqual([100, 200, 350, 350]);
  expect(tried.has("something else")).toBe(false);
});

test("once something has come of it the first pause is the shortest again", () => {
  const { tried, restMs } = pauses();
  tried.lengthen("it");
  tried.lengthen("it");
  tried.delete("it");
  expect(restMs()).toBe(0);
  tried.lengthen("it");
  expect(restMs()).toBe(100);
});

test("a clock that is set far back ends a pause", () => {
  const { clock, tried } = pauses();
  tried.lengthen("it");
  clock.nowMs -= 10_000;
  expect(tried.has("it")).toBe(false);
});

import { expect, test } from "vitest";
import { compareCosts, type Point } from "../../../src/report/crossover.ts";

const series = (costs: Readonly<Record<number, number>>): Point[] =>
  Object.entries(costs).map(([members, cost]) => ({ members: Number(members), cost }));

test("a crossing is the interval between the measured sizes beside it", () => {
  const { crossings, cheaperAtStart, cheaperAtEnd } = compareCosts(
    series({ 2: 1, 32: 16, 128: 64 }),
    series({ 2: 20, 32: 20, 128: 20 }),
  );
  expect(crossings).toEqual([{ after: 32, upTo: 128, cheaperBefore: "first" }]);
  expect([cheaperAtStart, cheaperAtEnd]).toEqual(["first", "second"]);
});

test("lines that never cross have none, whichever lies lower", () => {
  const [low, high] = [series({ 2: 1, 8: 1 }), series({ 2: 2, 8: 8 })];
  expect(compareCosts(low, high)).toMatchObject({ crossings: [], cheaperAtStart: "first" });
  expect(compareCosts(high, low)).toMatchObject({ crossings: [], cheaperAtStart: "second" });
});

test("a touch is no crossing, and the crossing goes past sizes where both cost the same", () => {
  expect(compareCosts(series({ 2: 1, 8: 5, 32: 6 }), series({ 2: 3, 8: 5, 32: 7 }))).toMatchObject({
    crossings: [],
    equalAt: [8],
  });
  expect(compareCosts(series({ 2: 1, 8: 5, 32: 9 }), series({ 2: 3, 8: 5, 32: 7 }))).toMatchObject({
    crossings: [{ after: 2, upTo: 32, cheaperBefore: "first" }],
    equalAt: [8],
  });
});

test("equal lines are equal everywhere and neither is cheaper", () => {
  const comparison = compareCosts(series({ 2: 4, 8: 4 }), series({ 2: 4, 8: 4 }));
  expect(comparison).toMatchObject({ crossings: [], equalAt: [2, 8], cheaperAtStart: undefined });
});

test("only sizes that both have count, in any order", () => {
  const first = series({ 2: 1, 8: 9 }).reverse();
  expect(compareCosts([...first, { members: 64, cost: 0 }], series({ 8: 5, 2: 5, 128: 5 }))).toMatchObject({
    sizes: [2, 8],
    crossings: [{ after: 2, upTo: 8, cheaperBefore: "first" }],
  });
  expect(compareCosts(first, [])).toMatchObject({ sizes: [], crossings: [], cheaperAtEnd: undefined });
});

test("lines that cross again have every crossing", () => {
  const { crossings } = compareCosts(series({ 2: 1, 8: 9, 32: 1 }), series({ 2: 5, 8: 5, 32: 5 }));
  expect(crossings.map(({ after, upTo }) => [after, upTo])).toEqual([
    [2, 8],
    [8, 32],
  ]);
});

test("figures whose spreads overlap are not told apart", () => {
  const first = [{ members: 2, cost: 10, least: 8, most: 13 }];
  expect(compareCosts(first, [{ members: 2, cost: 12, least: 11, most: 15 }]).equalAt).toEqual([2]);
  expect(compareCosts(first, [{ members: 2, cost: 15, least: 14, most: 16 }]).cheaperAtStart).toBe("first");
});

import { expect, test } from "vitest";
import { differencesOf, loadCounts, saveCounts } from "../../src/counts/fixture.ts";
import { COUNTED_MEMBERS, countOperations } from "../../src/counts/measure.ts";

test("operations ask for exactly what was reviewed; UPDATE=1 writes the fixture anew", () => {
  const rows = countOperations(COUNTED_MEMBERS);
  if (process.env["UPDATE"] === "1") saveCounts(rows);
  expect(differencesOf(loadCounts(), rows)).toEqual([]);
});

test("what is counted does not depend on random keys", () => {
  expect(countOperations([8])).toEqual(countOperations([8]));
});

test("every kind of difference is said", () => {
  const row = (operation: string, sign: number) => ({ operation, members: 8, counts: { sign } });
  expect(differencesOf([row("a", 1), row("b", 1)], [row("a", 2), row("c", 1)])).toEqual([
    "a at 8 members: sign was 1 and is 2",
    "b at 8 members is gone",
    "c at 8 members is new",
  ]);
});

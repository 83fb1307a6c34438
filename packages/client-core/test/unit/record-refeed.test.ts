import { expect, test } from "vitest";
import type { GroupAction } from "../../src/core/group-change.ts";
import { planRefeed } from "../../src/core/record-refeed.ts";

const action = (kind: string, generation?: number) =>
  ({ kind, ...(generation === undefined ? {} : { generation }) }) as unknown as GroupAction;
/** A group that has lost a member, has begun to move, was taken over, and has switched. */
const chain = [
  action("create"),
  action("title"),
  action("remove"),
  action("title"),
  action("migrate-prepare", 1),
  action("migrate-prepare", 2),
  action("migrate-ready", 2),
  action("migrate-switch", 2),
  action("migrate-done", 2),
];

test("nothing is written where nothing is missing", () => {
  expect(planRefeed(chain, chain.length)).toEqual([]);
});

test("a record that the service has none of begins with its creation, under the present key", () => {
  const [first] = planRefeed(chain, 0);
  expect(first).toMatchObject({ revision: 1, key: "ours", brings: "generation" });
});

test("up to a removal the key of the record is kept; from there on whoever was removed reads nothing", () => {
  expect(planRefeed(chain, 1).map(({ revision, key, brings }) => [revision, key, brings])).toEqual([
    [2, "theirs", "nothing"],
    [3, "ours", "generation"],
    [4, "ours", "nothing"],
    [5, "ours", "nothing"],
    [6, "ours", "nothing"],
    [7, "ours", "nothing"],
    [8, "ours", "fence of nobody"],
    [9, "ours", "nothing"],
  ]);
});

test("steps of a migration say where each of them leads, and which begin a lease", () => {
  expect(planRefeed(chain, 4).map(({ step, beginsLease }) => [step, beginsLease])).toEqual([
    [{ state: "preparing", generation: 1 }, true],
    [{ state: "preparing", generation: 2 }, true],
    [{ state: "ready", generation: 2 }, false],
    [{ state: "switching", generation: 2 }, false],
    [{ state: "mls", generation: 2 }, false],
  ]);
});

test("a record that somebody wrote under a key that was over by then is sealed with the present one at once", () => {
  const [first, second] = planRefeed(chain, 3, true);
  expect(first).toMatchObject({ revision: 4, key: "ours", brings: "generation" });
  expect(second).toMatchObject({ revision: 5, key: "ours", brings: "nothing" });
  // Not even then with a fence that members know: the group takes nothing pairwise any more.
  expect(planRefeed(chain, 7, true)[0]).toMatchObject({
    revision: 8,
    key: "ours",
    brings: "fence of nobody",
  });
});

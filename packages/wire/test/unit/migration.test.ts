import { describe, expect, test } from "vitest";
import {
  beginsLease,
  generationAfter,
  hasLease,
  hasSwitched,
  type MigrationState,
  migrationChanges,
  migrationStates,
  migrationTransition,
  migrationTransitionBetween,
  migrationTransitions,
  nextMigration,
  unmigrated,
} from "../../src/index.ts";
import { readMigrationDocument, withMigrationTables } from "../../tools/migration-document.ts";

const states = Object.keys(migrationStates) as MigrationState[];

function reachableFrom(start: MigrationState): Set<MigrationState> {
  const seen = new Set([start]);
  for (const state of seen) {
    for (const { from, to } of migrationTransitions) if (from === state) seen.add(to);
  }
  return seen;
}

describe("the table of transitions", () => {
  test("has one row for a change in a state, and one from a state to another", () => {
    for (const row of migrationTransitions) {
      expect(migrationTransition(row.from, row.change)).toBe(row);
      expect(migrationTransitionBetween(row.from, row.to)).toBe(row);
    }
    const count = states.flatMap((from) =>
      migrationChanges.filter((change) => migrationTransition(from, change) !== undefined),
    ).length;
    expect(count).toBe(migrationTransitions.length);
  });

  test("reaches every state from pairwise, and none that takes pairwise content once a group has switched", () => {
    expect([...reachableFrom("pairwise")].sort()).toEqual(states.toSorted());
    expect([...reachableFrom("switching")].every(hasSwitched)).toBe(true);
    expect(states.filter(hasSwitched)).toEqual(["switching", "mls", "recovering"]);
  });

  test("leaves the group id of a generation to whoever began its lease", () => {
    for (const { change, generation, to, from, who } of migrationTransitions) {
      expect(beginsLease(change)).toBe(generation === "+1");
      if (beginsLease(change)) expect(hasLease(to)).toBe(true);
      // Without a lease there is no holder to ask for.
      if (!hasLease(from)) expect(who).toBe("any");
    }
  });

  test("takes a new fence at the switch, and none after it", () => {
    for (const { from, to, fence } of migrationTransitions) {
      const switches = hasSwitched(to) && !hasSwitched(from);
      expect(fence).toBe(switches ? "new" : hasSwitched(from) ? "kept" : "free");
    }
  });

  test("uses no generation twice, also after an abort", () => {
    const first = nextMigration(unmigrated, "prepare")!;
    expect(first).toEqual({ state: "preparing", generation: 1 });
    const aborted = nextMigration(first, "abort")!;
    expect(aborted).toEqual({ state: "pairwise", generation: 1 });
    expect(nextMigration(aborted, "prepare")).toEqual({ state: "preparing", generation: 2 });
    expect(nextMigration(aborted, "switch")).toBeUndefined();
    expect(generationAfter(7, migrationTransition("switching", "done")!)).toBe(7);
  });
});

test("docs/migration.md shows the table that the code has", () => {
  const document = readMigrationDocument();
  expect(document === withMigrationTables(document), "run: npm run migration -w packages/wire").toBe(true);
  expect(document).toContain("  switching --> mls: done\n");
});

import { groupId } from "@murmuration/base";
import {
  type GroupMigrationStep,
  type GroupWriteRequest,
  type MigrationState,
  migrationStates,
  migrationTransitions,
} from "@murmuration/wire";
import { describe, expect, it } from "vitest";
import { decideMigration, decideRenewal, viewMigration } from "../../src/core/migration.ts";
import { sha256 } from "../../src/core/submit.ts";
import type { GroupMigration, GroupRecord } from "../../src/ports/group-records.ts";

const NOW = 1_800_000_000_000;
const LEASE = 60_000;
const time = (afterMs = 0) => ({ nowMs: NOW + afterMs, leaseMs: LEASE });
const bytes = (fill: number, length = 16) => new Uint8Array(length).fill(fill);
const [mine, yours] = [bytes(1), bytes(2)];
const held = (untilMs = NOW + LEASE) => ({ tokenHash: sha256(mine), untilMs });
const HELD: readonly MigrationState[] = ["preparing", "ready", "recovering"];

function record(state?: MigrationState, given: Partial<GroupMigration> = {}): GroupRecord {
  const lease = state !== undefined && HELD.includes(state) ? held() : undefined;
  return {
    groupId: groupId(bytes(9)),
    revision: 4,
    blob: bytes(8),
    accessPublicKey: bytes(7, 32),
    fence: bytes(6),
    lastUsedDay: 1,
    migration: state && { state, generation: 3, lease, sinceMs: NOW - 500, startedMs: NOW - 900, ...given },
  };
}

const write = (migration?: GroupMigrationStep, fence?: Uint8Array<ArrayBuffer>): GroupWriteRequest => ({
  expectedRevision: 4,
  blob: bytes(8),
  ...(fence && { generation: { accessPublicKey: bytes(7, 32), fence } }),
  ...(migration && { migration }),
});

/** A step with all that it needs, by the holder. */
function wholeStep(from: MigrationState, to: MigrationState): GroupWriteRequest {
  const transition = migrationTransitions.find((one) => one.from === from && one.to === to);
  const begins = transition?.generation === "+1";
  return write(
    {
      state: to,
      generation: begins ? 4 : 3,
      leaseToken: mine,
      ...(begins && { newLeaseToken: yours }),
    },
    transition?.fence === "new" ? bytes(5) : undefined,
  );
}

const states = Object.keys(migrationStates) as MigrationState[];

describe("decide on a step of a migration", () => {
  it.each(states.flatMap((from) => states.map((to) => [from, to] as const)))("%s to %s", (from, to) => {
    const transition = migrationTransitions.find((one) => one.from === from && one.to === to);
    const decide = () => decideMigration(record(from), wholeStep(from, to), time());
    if (transition === undefined) return expect(decide).toThrow("migration/not-possible");
    const begins = transition.generation === "+1";
    const goesOn = HELD.includes(from);
    expect(decide()).toEqual({
      change: transition.change,
      next: {
        state: to,
        generation: begins ? 4 : 3,
        lease: HELD.includes(to)
          ? { tokenHash: sha256(begins ? yours : mine), untilMs: NOW + LEASE }
          : undefined,
        sinceMs: NOW,
        startedMs: begins && !goesOn ? NOW : NOW - 900,
      },
      overLeaseUntilMs: undefined,
      sincePreviousMs: 500,
    });
  });

  it("a group that never began may prepare its first generation, with its first write as well", () => {
    const step = { state: "preparing", generation: 1, newLeaseToken: mine } as const;
    for (const before of [undefined, record()]) {
      expect(decideMigration(before, write(step, bytes(5)), time())).toMatchObject({
        change: "prepare",
        next: { state: "preparing", generation: 1, startedMs: NOW },
        sincePreviousMs: undefined,
      });
      expect(() => decideMigration(before, write({ ...step, generation: 2 }), time())).toThrow(
        "migration/wrong-generation",
      );
      const aborted = write({ state: "pairwise", generation: 1 });
      expect(() => decideMigration(before, aborted, time())).toThrow("migration/not-possible");
    }
  });

  it("a write that is no step is taken before the switch and while the group recovers, and else not after it", () => {
    for (const state of [undefined, "pairwise", "preparing", "ready", "recovering"] as const) {
      expect(decideMigration(record(state), write(), time())).toBeUndefined();
    }
    for (const state of ["switching", "mls"] as const) {
      expect(() => decideMigration(record(state), write(), time())).toThrow("migration/not-possible");
    }
  });

  it.each([
    ["preparing", "ready", 4],
    ["preparing", "preparing", 3],
    ["preparing", "preparing", 5],
    ["mls", "recovering", 3],
    ["switching", "mls", 2],
  ] as const)(
    "from %s in generation 3, %s in generation %i is a wrong generation",
    (from, to, generation) => {
      const step = { ...wholeStep(from, to).migration!, generation };
      expect(() => decideMigration(record(from), write(step), time())).toThrow("migration/wrong-generation");
    },
  );

  it.each([
    ["preparing", "ready"],
    ["ready", "switching"],
    ["recovering", "switching"],
  ] as const)("%s to %s is its holder's, also late; another brings it when the lease is over", (from, to) => {
    const whole = wholeStep(from, to);
    for (const leaseToken of [undefined, yours]) {
      const { leaseToken: _, ...step } = whole.migration!;
      const by = { ...whole, migration: { ...step, ...(leaseToken && { leaseToken }) } };
      const decide = (afterMs: number) => decideMigration(record(from), by, time(afterMs));
      expect(() => decide(0)).toThrow("migration/lease-held");
      expect(() => decide(LEASE - 1)).toThrow(expect.objectContaining({ retryAfterMs: 1 }));
      // Nobody but its holder makes a lease longer: what follows does not wait for another minute.
      expect(decide(LEASE)).toMatchObject({
        overLeaseUntilMs: NOW + LEASE,
        next: { state: to, lease: to === "ready" ? held() : undefined },
      });
    }
    expect(decideMigration(record(from), whole, time(10 * LEASE))).toMatchObject({
      overLeaseUntilMs: undefined,
      next: { state: to, lease: to === "ready" ? held(NOW + 11 * LEASE) : undefined },
    });
  });

  it.each([
    ["preparing", "preparing"],
    ["ready", "preparing"],
    ["recovering", "recovering"],
  ] as const)("%s to %s waits for the end of the lease", (from, to) => {
    const step = { state: to, generation: 4, newLeaseToken: yours };
    const decide = (afterMs: number) => decideMigration(record(from), write(step), time(afterMs));
    expect(() => decide(0)).toThrow("migration/lease-held");
    expect(() => decide(LEASE - 1)).toThrow(expect.objectContaining({ retryAfterMs: 1 }));
    expect(decide(LEASE)).toMatchObject({ overLeaseUntilMs: NOW + LEASE, next: { startedMs: NOW - 900 } });
    // The clock was set back: nobody waits longer than for a new lease.
    expect(decide(-1)).toMatchObject({ overLeaseUntilMs: NOW + LEASE });
    const own = decideMigration(record(from), write({ ...step, leaseToken: mine }), time());
    expect(own?.overLeaseUntilMs).toBeUndefined();
  });

  it("a lease begins with a token, and a token where none begins is refused", () => {
    const { newLeaseToken: _, ...bare } = wholeStep("preparing", "preparing").migration!;
    expect(() => decideMigration(record("preparing"), write(bare), time())).toThrow("wire/missing-field");
    const more = { ...wholeStep("preparing", "ready").migration!, newLeaseToken: yours };
    expect(() => decideMigration(record("preparing"), write(more), time())).toThrow("wire/invalid-field");
  });

  it("the switch brings another fence, and no step after it does", () => {
    const step = wholeStep("ready", "switching").migration!;
    for (const fence of [undefined, bytes(6)]) {
      expect(() => decideMigration(record("ready"), write(step, fence), time())).toThrow(
        "migration/fence-missing",
      );
    }
    for (const [from, to] of [
      ["switching", "mls"],
      ["switching", "recovering"],
      ["mls", "recovering"],
      ["recovering", "recovering"],
      ["recovering", "switching"],
    ] as const) {
      const { migration } = wholeStep(from, to);
      expect(() => decideMigration(record(from), write(migration, bytes(5)), time())).toThrow(
        "migration/not-possible",
      );
      expect(decideMigration(record(from), write(migration, bytes(6)), time())?.next.state).toBe(to);
    }
  });
});

describe("decide on a renewal", () => {
  it("its holder renews a lease, also late; others do not", () => {
    const renewal = { generation: 3, leaseToken: mine };
    const renewed = decideRenewal(record("ready"), renewal, time(5 * LEASE));
    expect(renewed).toEqual(held(NOW + 6 * LEASE));
    const refused = (group: GroupRecord, given: Partial<typeof renewal> = {}) =>
      expect(() => decideRenewal(group, { ...renewal, ...given }, time()));
    refused(record("ready"), { leaseToken: yours }).toThrow("migration/lease-lost");
    refused(record("ready"), { generation: 2 }).toThrow("migration/wrong-generation");
    for (const state of [undefined, "pairwise", "switching", "mls"] as const) {
      refused(record(state)).toThrow("migration/not-possible");
    }
  });

  it("a reader is told how long the lease still lasts, and nothing of its token", () => {
    const view = (afterMs: number) => viewMigration(record("ready").migration, time(afterMs));
    expect(view(20_000)).toEqual({ state: "ready", generation: 3, leaseLeftMs: 40_000 });
    expect(view(LEASE + 1)).toEqual({ state: "ready", generation: 3, leaseLeftMs: 0 });
    expect(viewMigration(record("mls").migration, time())).toMatchObject({ leaseLeftMs: 0 });
    expect(viewMigration(undefined, time())).toBeUndefined();
  });
});

import { groupId, RejectionError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import {
  deadlineAfterAdding,
  decideFollow,
  decidePreparation,
  decideSwitch,
  decideSwitchWrite,
  mustCommitSwitch,
  type PreparationFacts,
  patienceMs,
  requireFewRoleHolders,
  type SwitchFacts,
} from "../../src/core/migration/decisions.ts";
import { migrationGroupId } from "../../src/core/migration/keys.ts";
import { planSaidAnew } from "../../src/core/migration/said-anew.ts";
import { placeWelcome } from "../../src/core/migration/welcomes.ts";

const filled = (value: number): Uint8Array<ArrayBuffer> => new Uint8Array(32).fill(value);
const point = (epoch: number, roster = 1) => ({
  epoch,
  authenticator: filled(epoch),
  rosterHash: filled(roster),
});

describe("whether a device goes over", () => {
  const facts: SwitchFacts = {
    state: "switching",
    switchPoint: point(7),
    reached: point(7),
    isMisnamed: false,
    hasStrangers: false,
    epoch: 7,
    enteredEpoch: 2,
    hasSwitched: false,
  };

  test("it does by the commit that the record names", () => {
    expect(decideSwitch(facts)).toEqual({ kind: "switch" });
  });

  test("a device that was in the group before the switch does not go over by ordinary commits that came past it", () => {
    expect(decideSwitch({ ...facts, reached: undefined, epoch: 7 })).toMatchObject({ kind: "refuse" });
    expect(decideSwitch({ ...facts, reached: undefined, epoch: 9 })).toMatchObject({ kind: "refuse" });
    expect(decideSwitch({ ...facts, reached: undefined, epoch: 6 })).toEqual({ kind: "wait" });
  });

  test("a device whose commit was made anew, and that then entered from outside, goes over all the same", () => {
    expect(decideSwitch({ ...facts, reached: point(5), epoch: 8, enteredEpoch: 8 })).toEqual({
      kind: "switch",
    });
  });

  test("a device whose commit was made anew waits for the new one, and refuses where none comes", () => {
    expect(decideSwitch({ ...facts, reached: point(5), epoch: 6 })).toEqual({ kind: "wait" });
    expect(decideSwitch({ ...facts, reached: point(5), epoch: 7 })).toMatchObject({ kind: "refuse" });
  });

  test("one whose commit was taken back goes nowhere, and waits for what comes in its place", () => {
    expect(decideSwitch({ ...facts, epoch: 6 })).toEqual({ kind: "wait" });
    expect(decideSwitch({ ...facts, reached: undefined, epoch: 6 })).toEqual({ kind: "wait" });
    expect(decideSwitch({ ...facts, reached: undefined, epoch: 7 })).toMatchObject({ kind: "refuse" });
  });

  test("one that refused the switching commit is not led past it by entering anew", () => {
    const refused = { ...facts, hasStrangers: true, enteredEpoch: 9, epoch: 9 };
    expect(decideSwitch(refused)).toEqual({ kind: "refuse", code: "migration/roster-mismatch" });
  });
});

describe("the switching commit", () => {
  const made = {
    reached: point(5),
    rosterHash: filled(1),
    hasForeignLeaves: false,
    isContextInForce: true,
  };

  test("is made once", () => {
    expect(mustCommitSwitch(made)).toBe(false);
    expect(mustCommitSwitch({ ...made, reached: undefined })).toBe(true);
  });

  test("is made anew when somebody was removed since, though roles and settings are those of the record", () => {
    expect(mustCommitSwitch({ ...made, rosterHash: filled(2) })).toBe(true);
    expect(mustCommitSwitch({ ...made, hasForeignLeaves: true })).toBe(true);
    expect(mustCommitSwitch({ ...made, isContextInForce: false })).toBe(true);
  });

  test("of an attempt that was given up meanwhile goes nowhere, and its group is not looked at", () => {
    const write = { isSameGeneration: true, secretDue: false, mustCommit: () => false };
    const gone = { ...write, mustCommit: () => expect.unreachable() };
    expect(decideSwitchWrite({ ...gone, state: "pairwise" })).toBe("nothing");
    expect(decideSwitchWrite({ ...gone, state: "ready", isSameGeneration: false })).toBe("nothing");
    expect(decideSwitchWrite({ ...write, state: "ready" })).toBe("write");
    expect(decideSwitchWrite({ ...write, state: "recovering" })).toBe("write");
    expect(decideSwitchWrite({ ...write, state: "ready", secretDue: true })).toBe("commit-anew");
  });
});

describe("the device that prepares", () => {
  const facts: PreparationFacts = {
    state: "ready",
    mayStep: true,
    fitsContext: true,
    stands: true,
    secretSent: true,
    secretDue: false,
    toRemove: 0,
    toAdd: 0,
    everybodyReady: true,
    deadlineAtMs: 1,
    finishNow: false,
    nowMs: 0,
  };

  test("does nothing once its role is gone, so that its lease runs out and another goes on", () => {
    expect(decidePreparation(facts)).toBe("switch");
    expect(decidePreparation({ ...facts, mayStep: false })).toBe("nothing");
    expect(decidePreparation({ ...facts, mayStep: false, toRemove: 1 })).toBe("nothing");
  });

  test("gives up where there can be no such group, however far it has come, and says so before the switch alone", () => {
    for (const state of ["preparing", "ready", "recovering"] as const)
      expect(decidePreparation({ ...facts, state, fitsContext: false, stands: false })).toBe("give-up");
    expect(decidePreparation({ ...facts, state: "switching", fitsContext: false })).toBe("finish");
    expect(decidePreparation({ ...facts, mayStep: false, fitsContext: false })).toBe("nothing");
  });

  test("switches with no secret that has not left for the members, however late it is", () => {
    const late: PreparationFacts = { ...facts, secretSent: false, nowMs: 2 };
    expect(decidePreparation({ ...late, state: "recovering" })).toBe("wait");
    expect(decidePreparation(late)).toBe("wait");
    expect(decidePreparation({ ...late, state: "recovering", secretSent: true })).toBe("switch");
  });

  test("waits a minute and not a day where nobody can speak before it is done", () => {
    const settings = { migrationDeadlineMs: 86_400_000, migrationUrgentDeadlineMs: 60_000 };
    expect(patienceMs({ ...settings, state: "preparing", membersWait: false })).toBe(86_400_000);
    expect(patienceMs({ ...settings, state: "preparing", membersWait: true })).toBe(60_000);
    expect(patienceMs({ ...settings, state: "recovering", membersWait: false })).toBe(60_000);
  });

  test("gives whoever was put in last the time that members have who wait for room", () => {
    const deadline = (deadlineAtMs: number, nowMs: number) =>
      deadlineAfterAdding({ deadlineAtMs, startedAtMs: 1_000, nowMs, migrationUrgentDeadlineMs: 60_000 });
    expect(deadline(60_000, 59_000)).toBe(119_000);
    expect(deadline(86_400_000, 59_000)).toBe(86_400_000);
    // Whoever leaves to be put in anew is not waited for without end.
    expect(deadline(890_000, 889_000)).toBe(901_000);
    expect(deadline(901_000, 1_000_000)).toBe(901_000);
  });

  test("does not begin where the record names more owners and admins than an MLS group can", () => {
    const holders = (count: number) =>
      new Map(
        Array.from({ length: count }, (_, index) => [String(index), { role: "admin", invited: false }]),
      );
    expect(() => requireFewRoleHolders({ members: holders(50) })).not.toThrow();
    expect(() => requireFewRoleHolders({ members: holders(51) })).toThrow(RejectionError);
  });
});

describe("a device that comes late", () => {
  const facts = {
    state: "mls",
    hasSwitched: false,
    isRefused: false,
    isRoleHolder: false,
    place: "outside",
    isStandingStill: false,
    isMailboxEmpty: true,
  } as const;

  test("enters the group from outside, also when all others are through", () => {
    expect(decideFollow(facts)).toBe("enter");
    expect(decideFollow({ ...facts, state: "switching" })).toBe("enter");
    expect(decideFollow({ ...facts, place: "in", isStandingStill: true })).toBe("enter");
    expect(decideFollow({ ...facts, place: "in" })).toBe("wait");
  });

  test("does not enter while its Welcome or its secret may be in the mailbox: what was said before would be lost to it", () => {
    expect(decideFollow({ ...facts, isMailboxEmpty: false })).toBe("wait");
    expect(decideFollow({ ...facts, place: "in", isStandingStill: true, isMailboxEmpty: false })).toBe(
      "wait",
    );
  });

  test("recovers where it refuses and holds a role, also when all others are through", () => {
    expect(decideFollow({ ...facts, isRefused: true, isRoleHolder: true })).toBe("recover");
    expect(decideFollow({ ...facts, isRefused: true })).toBe("nothing");
  });

  test("does not enter a group that it was removed from", () => {
    expect(decideFollow({ ...facts, place: "out" })).toBe("nothing");
  });
});

describe("what waits at the switch", () => {
  const row = (counter: number | undefined, isPairwiseOnly = false) => ({ counter, isPairwiseOnly });

  test("is said anew, and nobody waits for its numbers", () => {
    const rows = [row(undefined, true), row(4), row(5, true), row(6)];
    expect(planSaidAnew(rows, { last: 6, unsaid: new Set() })).toEqual({
      sayAnew: [rows[1], rows[3]],
      drop: [rows[0], rows[2]],
      takeBackFrom: 4,
    });
    const nothing = { last: 6, unsaid: new Set<number>() };
    expect(planSaidAnew([row(undefined)], nothing).takeBackFrom).toBeUndefined();
  });

  test.each([
    { waiting: [6], unsaid: [5], from: 5 },
    { waiting: [6], unsaid: [4, 5], from: 4 },
    { waiting: [6], unsaid: [4], from: 6 },
    { waiting: [], unsaid: [6], from: 6 },
    { waiting: [], unsaid: [5, 6], from: 5 },
    { waiting: [], unsaid: [5], from: undefined },
  ])(
    "with $unsaid deleted before it had left, and $waiting waiting, ends before $from",
    ({ waiting, unsaid, from }) => {
      const rows = waiting.map((counter) => row(counter));
      expect(planSaidAnew(rows, { last: 6, unsaid: new Set(unsaid) }).takeBackFrom).toBe(from);
    },
  );
});

describe("a Welcome whose group is not known", () => {
  const conversation = groupId(new Uint8Array(16).fill(3));
  const place = (generation: number, of = conversation) =>
    placeWelcome(conversation, 3, migrationGroupId(of, generation));

  test("waits for the record if it is for a generation to come", () => {
    expect([4, 5, 6, 7].map((one) => place(one))).toEqual(["early", "early", "early", "early"]);
  });

  test("is worth nothing if it is for an attempt that is over, and makes no conversation of its own", () => {
    expect([1, 2, 3].map((one) => place(one))).toEqual(["over", "over", "over"]);
  });

  test("is that of another group otherwise", () => {
    expect(place(8)).toBeUndefined();
    expect(place(4, groupId(new Uint8Array(16).fill(4)))).toBeUndefined();
  });
});

import { accountId, deviceId, formatId, groupId } from "@murmuration/base";
import { expect, test } from "vitest";
import type { GroupAction, VerifiedChange } from "../../src/core/group-change.ts";
import { applyChange, emptyGroup, type GroupState, type RecordMember } from "../../src/core/group-record.ts";
import { FINISHED_WITHIN_MS, mayFinish } from "../../src/core/migration/decisions.ts";

const group = groupId(new Uint8Array(16));
const keyOf = (who: number): Uint8Array<ArrayBuffer> => new Uint8Array(33).fill(who);
const accountOf = (who: number) => accountId(new Uint8Array(16).fill(who));
const [alice, bob, mallory] = [1, 2, 3] as const;

const memberOf = (who: number, role: RecordMember["role"]): readonly [string, RecordMember] => [
  formatId(accountOf(who)),
  { account: accountOf(who), role, invited: false, identityKey: keyOf(who) },
];
/** As the record has it: Alice has made the MLS group, in which Bob may be an owner since, and Alice no member. */
const switched: GroupState = {
  ...emptyGroup(group),
  revision: 7,
  members: new Map([memberOf(alice, "owner"), memberOf(bob, "member")]),
  migration: {
    state: "switching",
    generation: 1,
    creator: { accountId: accountOf(alice), deviceId: deviceId(1) },
    switchPoint: undefined,
  },
};
const saidBy = (who: number, action: GroupAction, key = keyOf(who)): VerifiedChange =>
  ({
    groupId: group,
    revision: 8,
    previousHash: switched.hash,
    hash: new Uint8Array(32).fill(8),
    author: { accountId: accountOf(who), deviceId: deviceId(1) },
    authorAccountKey: key,
    action,
  }) as unknown as VerifiedChange;

const done: GroupAction = { kind: "migrate-done", generation: 1 };

test("that all is done parts nobody, whoever has said it: with a role that the record does not know, or removed since", () => {
  for (const who of [alice, bob, mallory])
    expect(applyChange(switched, saidBy(who, done)).migration.state, String(who)).toBe("mls");
});

test("it is taken of the present generation alone, in its place, and under a member's own identity", () => {
  const refuse = (change: VerifiedChange, code: string) =>
    expect(() => applyChange(switched, change)).toThrow(code);
  refuse(saidBy(bob, { kind: "migrate-done", generation: 2 }), "migration/wrong-generation");
  refuse(saidBy(bob, done, keyOf(mallory)), "group/author-key-mismatch");
  const moving = { ...switched, migration: { ...switched.migration, state: "ready" as const } };
  expect(() => applyChange(moving, saidBy(alice, done))).toThrow("migration/not-possible");
});

test("every other step is a role holder's of the record", () => {
  const recover: GroupAction = { kind: "migrate-recover", generation: 2 };
  expect(() => applyChange(switched, saidBy(bob, recover))).toThrow("group/role-too-low");
  expect(() => applyChange(switched, saidBy(mallory, recover))).toThrow("group/author-not-a-member");
  expect(applyChange(switched, saidBy(alice, recover)).migration.state).toBe("recovering");
});

test("others say it in the creator's place where it is not in the group any more, or does not say it in time", () => {
  const facts = {
    state: "switching",
    isRoleHolder: true,
    isCreatorIn: true,
    switchedAtMs: 1_000_000,
    nowMs: 1_000_001,
  } as const;
  expect(mayFinish(facts)).toBe(false);
  expect(mayFinish({ ...facts, isCreatorIn: false })).toBe(true);
  expect(mayFinish({ ...facts, nowMs: facts.switchedAtMs + FINISHED_WITHIN_MS })).toBe(true);
  // A clock that was set back does not put it off by as much.
  expect(mayFinish({ ...facts, nowMs: 999_999 })).toBe(true);
  const gone = { ...facts, isCreatorIn: false };
  expect(mayFinish({ ...gone, switchedAtMs: 0 })).toBe(false);
  expect(mayFinish({ ...gone, isRoleHolder: false })).toBe(false);
  expect(mayFinish({ ...gone, state: "mls" })).toBe(false);
});

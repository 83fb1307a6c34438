import { randomBytes } from "node:crypto";
import { accountId, deviceId, equalBytes, formatId, groupId, RejectionError } from "@murmuration/base";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { GroupAction, VerifiedChange } from "../../src/core/group-change.ts";
import { applyChange, emptyGroup, type GroupState } from "../../src/core/group-record.ts";

const bytes = (length: number) => new Uint8Array(randomBytes(length));
const group = groupId(bytes(16));
const people = Array.from({ length: 5 }, () => ({ account: accountId(bytes(16)), identityKey: bytes(33) }));

const person = fc.integer({ min: 0, max: people.length - 1 });
const action = fc.oneof(
  person.map((who) => ({ kind: "add", who }) as const),
  person.map((who) => ({ kind: "invite", who }) as const),
  person.map((who) => ({ kind: "remove", who }) as const),
  fc
    .tuple(person, fc.constantFrom("owner" as const, "admin" as const, "member" as const))
    .map(([who, role]) => ({ kind: "role", who, role }) as const),
  fc.constantFrom("leave" as const, "join" as const, "rotate" as const).map((kind) => ({ kind }) as const),
);

function actionOf(step: typeof action extends fc.Arbitrary<infer T> ? T : never): GroupAction {
  switch (step.kind) {
    case "add":
      return { kind: "add", members: [{ ...people[step.who]!, profileKey: new Uint8Array(32), name: "" }] };
    case "invite":
      return { kind: "add", members: [{ ...people[step.who]!, profileKey: undefined, name: "" }] };
    case "remove":
      return { kind: "remove", account: people[step.who]!.account };
    case "role":
      return { kind: "role", account: people[step.who]!.account, role: step.role };
    case "join":
      return { kind: "join", profileKey: new Uint8Array(32), name: "" };
    default:
      return { kind: step.kind };
  }
}

/** A change as verification would hand it over; signatures have tests of their own. */
function changeBy(state: GroupState, by: number, made: GroupAction): VerifiedChange {
  const author = people[by]!;
  return {
    groupId: group,
    revision: state.revision + 1,
    previousHash: state.hash,
    author: { accountId: author.account, deviceId: deviceId(1) },
    authorDeviceList: new Uint8Array(0),
    authorAccountKey: author.identityKey,
    atMs: 0,
    action: made,
    encoded: new Uint8Array(0),
    hash: bytes(32),
  };
}

test("whatever members try, a group with members has an owner, and a refused change changes nothing", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
  console.log(`SEED=${seed}`);
  fc.assert(
    fc.property(fc.array(fc.tuple(person, action), { maxLength: 30 }), (steps) => {
      const creator = { ...people[0]!, profileKey: new Uint8Array(32), name: "" };
      const create: GroupAction = { kind: "create", title: "", expireAfterSeconds: 0, members: [creator] };
      let state = applyChange(emptyGroup(group), changeBy(emptyGroup(group), 0, create));
      for (const [by, step] of steps) {
        const before = structuredClone(state);
        try {
          const after = applyChange(state, changeBy(state, by, actionOf(step)));
          expect(after.revision).toBe(state.revision + 1);
          state = after;
        } catch (error) {
          if (!(error instanceof RejectionError)) throw error;
        }
        if (equalBytes(before.hash, state.hash)) expect(state).toEqual(before);
        const present = [...state.members.values()].filter((member) => !member.invited);
        if (present.length > 0) expect(present.some((member) => member.role === "owner")).toBe(true);
        for (const [key, member] of state.members) expect(key).toBe(formatId(member.account));
      }
    }),
    { seed, numRuns: 300 },
  );
});

test("who was invited by a group that everybody has left owns it when it joins", () => {
  const creator = { ...people[0]!, profileKey: new Uint8Array(32), name: "" };
  const create: GroupAction = { kind: "create", title: "", expireAfterSeconds: 0, members: [creator] };
  let state = applyChange(emptyGroup(group), changeBy(emptyGroup(group), 0, create));
  for (const [by, step] of [
    [0, { kind: "invite", who: 4 }],
    [0, { kind: "leave" }],
    [4, { kind: "join" }],
  ] as const)
    state = applyChange(state, changeBy(state, by, actionOf(step)));
  expect([...state.members.values()].map(({ role, invited }) => [role, invited])).toEqual([["owner", false]]);
});

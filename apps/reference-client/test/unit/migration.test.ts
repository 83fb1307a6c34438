import type { Client, Conversation, Migration } from "@murmuration/client-core";
import { describe, expect, test } from "vitest";
import { describeMove, hasMoved } from "../../src/commands/migration.ts";

const ALICE = "AAAAAAAAAAAAAAAAAAAAAA";
const client = {
  contacts: { get: () => undefined },
  outbox: { waiting: 3 },
} as unknown as Client;
const move: Migration = {
  state: "preparing",
  generation: 2,
  creator: ALICE,
  isCreator: true,
  startedAtMs: 0,
  deadlineAtMs: 120_000,
  accounts: 4,
  readyAccounts: 3,
  notReady: [{ accountId: ALICE, code: "key-packages/none" }],
  waitsFor: "members",
  waitingMembers: 7,
};
const group = (migration: Migration | undefined, protocol: Conversation["protocol"] = "pairwise") =>
  ({ title: "Birds\u001b", protocol, migration }) as Conversation;

describe("what is said of a move", () => {
  test("on the device that prepares it", () => {
    expect(describeMove(client, group(move), 61_000)).toEqual([
      "Birds<U+001B>: preparing the move to MLS (preparing, generation 2)",
      "  messages go  pairwise",
      "  prepared by  this device",
      "  since        1970-01-01T00:00:00.000Z",
      "  ready        3 of 4",
      "  not ready    AAAAAAAA: Has left no keys by which a device could be added: the app has to be opened there. (key-packages/none)",
      "  deadline     1970-01-01T00:02:00.000Z, in 1 min: then it goes on without those who are not ready",
      "  waits for    members who are not ready",
      "  to be added  7 members, as soon as the group has moved",
      "  messages     3 wait for the delivery service",
    ]);
  });

  test("elsewhere nothing is claimed that is not known", () => {
    const lines = describeMove(client, group({ ...move, isCreator: false, notReady: [] }), 0).join("\n");
    expect(lines).toContain("prepared by  AAAAAAAA");
    expect(lines).toContain("only the device that prepares the move knows");
  });

  test("after the switch, who was left behind by it", () => {
    const notReady = [{ accountId: ALICE, code: "migration/left-behind" }];
    const lines = describeMove(
      client,
      group({ ...move, state: "mls", isCreator: false, notReady }, "mls"),
      0,
    );
    expect(lines).toContain(
      "  left behind  AAAAAAAA: Was not in the MLS group when it switched: the app has to be opened there. (migration/left-behind)",
    );
    expect(lines).toContain("  ready        3 of 4");
  });

  test("a group that never moved", () => {
    expect(describeMove(client, group(undefined), 0)[0]).toContain("has not begun to move");
    expect(describeMove(client, group(undefined, "mls"), 0)[0]).toContain("from the start");
  });
});

test("a move is over when nothing is left to do for this device", () => {
  expect(hasMoved(group(undefined))).toBe(true);
  expect(hasMoved(group(move))).toBe(false);
  const rest = { ...move, waitingMembers: 0 };
  expect(hasMoved(group({ ...rest, state: "pairwise" }))).toBe(true);
  expect(hasMoved(group({ ...rest, state: "switching" }, "mls"))).toBe(false);
  expect(hasMoved(group({ ...rest, state: "switching", isCreator: false }, "mls"))).toBe(true);
  expect(hasMoved(group({ ...move, state: "mls" }, "mls"))).toBe(false);
  expect(hasMoved(group({ ...rest, state: "mls" }, "mls"))).toBe(true);
});

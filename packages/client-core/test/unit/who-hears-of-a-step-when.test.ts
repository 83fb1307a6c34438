import { type AccountId, accountId, formatId, groupId, messageId } from "@murmuration/base";
import { beforeEach, describe, expect, test } from "vitest";
import { decodeContent } from "../../src/core/content.ts";
import type { GroupAction, VerifiedChange } from "../../src/core/group-change.ts";
import type { GroupState } from "../../src/core/group-record.ts";
import type { Context } from "../../src/shell/context.ts";
import { GroupMessages } from "../../src/shell/group-messages.ts";
import { lanes } from "../../src/shell/lanes.ts";
import {
  HEAR_AT_A_TIME,
  HEAR_PAUSE_MS_PER_MEMBER,
  REST_MS_PER_MEMBER,
} from "../../src/shell/migration/gentle.ts";
import type { NewOutboxRow } from "../../src/store/outbox.ts";

const NOW_MS = 1_000_000;
const group = groupId(new Uint8Array(16).fill(7));
const account = (number: number): AccountId => accountId(new Uint8Array(16).fill(number));
const own = account(0);
const keys = { groupKey: new Uint8Array(32), fence: new Uint8Array(16) };

let rows: NewOutboxRow[];
let ownDevices: number;
let members: readonly AccountId[];

beforeEach(() => {
  rows = [];
  ownDevices = 0;
});

function tell(action: GroupAction, others: number, creator?: AccountId): void {
  members = [own, ...Array.from({ length: others }, (_, index) => account(index + 1))];
  let messages = 0;
  const context = {
    own: { accountId: own, deviceId: 1 },
    isOwn: (one: AccountId) => formatId(one) === formatId(own),
    now: () => NOW_MS,
    newMessageId: () => messageId(new Uint8Array(16).fill(++messages)),
    conversations: { memberAccounts: () => members, group: () => ({ revision: 5 }) },
    engine: { devicesOf: () => Array.from({ length: ownDevices }) },
    migration: { record: () => ({ state: "preparing" }) },
    outbox: { append: (row: NewOutboxRow) => rows.push(row) },
  } as unknown as Context;
  const change = { action, encoded: Uint8Array.of(1, 2, 3), author: { accountId: own }, revision: 6 };
  const migration = { creator: creator && { accountId: creator, deviceId: 1 } };
  const before = { members: new Map(), migration } as unknown as GroupState;
  new GroupMessages(context).tell(group, change as unknown as VerifiedChange, before, keys);
}

/** Whom a row is for. */
const audience = ({ exclude = [] }: NewOutboxRow): readonly string[] => {
  const others = new Set(exclude.map(formatId));
  return members.map(formatId).filter((one) => one !== formatId(own) && !others.has(one));
};

describe("a step of a move before the switch", () => {
  for (const kind of ["migrate-prepare", "migrate-ready", "migrate-abort"] as const)
    for (const others of [1, HEAR_AT_A_TIME, HEAR_AT_A_TIME + 1, 199, 254])
      test(`${kind} is heard by each of ${others} members once, by some at a time, and by all before the next step`, () => {
        tell({ kind, generation: 1 }, others);
        expect(rows.length).toBe(Math.ceil(others / HEAR_AT_A_TIME));
        expect(rows.flatMap(audience).sort()).toEqual(members.slice(1).map(formatId).sort());
        for (const [index, row] of rows.entries()) {
          expect(audience(row).length).toBeLessThanOrEqual(HEAR_AT_A_TIME);
          expect(row.createdAtMs).toBe(NOW_MS + index * HEAR_PAUSE_MS_PER_MEMBER * others);
          // What this device says in the group does not wait behind it.
          expect(row.lane).toBe(lanes.migration(group));
          expect(decodeContent(row.content).groupChange?.change).toEqual(Uint8Array.of(1, 2, 3));
        }
        // Whoever gets a message by its id once does not get the one of others.
        expect(new Set(rows.map((row) => formatId(row.messageId))).size).toBe(rows.length);
        expect(rows.at(-1)!.createdAtMs - NOW_MS).toBeLessThan(REST_MS_PER_MEMBER * others);
      });

  test("is heard first by whoever has prepared the move until then", () => {
    const last = account(2 * HEAR_AT_A_TIME);
    tell({ kind: "migrate-abort", generation: 1 }, 2 * HEAR_AT_A_TIME, last);
    expect(audience(rows[0]!)).toContain(formatId(last));
    expect(rows.flatMap(audience).sort()).toEqual(members.slice(1).map(formatId).sort());
  });

  test("is told to the own other devices at once, and once", () => {
    ownDevices = 2;
    tell({ kind: "migrate-prepare", generation: 1 }, 3 * HEAR_AT_A_TIME);
    const toOwn = rows.filter(({ target }) => target.kind === "own");
    expect(toOwn.map(({ lane, createdAtMs }) => [lane, createdAtMs])).toEqual([[lanes.own, NOW_MS]]);
    expect(rows.length).toBe(4);
  });
});

test("any other change is told to all at once, in the order of what is said to the group", () => {
  tell({ kind: "title", title: "Birds" }, 199);
  expect(rows.map(({ lane, exclude, createdAtMs }) => [lane, exclude, createdAtMs])).toEqual([
    [lanes.group(group), [], NOW_MS],
  ]);
});

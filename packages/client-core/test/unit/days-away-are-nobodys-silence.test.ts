import { randomBytes } from "node:crypto";
import { accountId, type DeviceAddress, groupId } from "@murmuration/base";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openSqlcipher, type Storage, systemEnvironment, type Transport } from "../../src/index.ts";
import { Context, defaultSettings } from "../../src/shell/context.ts";
import { prepareSchema } from "../../src/store/schema.ts";

const DAY_MS = 86_400_000;
/** A day on which everything begins. */
const FIRST = 20_000;
const on = (day: number): number => (FIRST + day) * DAY_MS + 3_600_000;
const group = groupId(new Uint8Array(16).fill(9));
const [bob, carol] = [1, 2].map((byte) => ({
  accountId: accountId(new Uint8Array(16).fill(byte)),
  deviceId: 1,
})) as [DeviceAddress, DeviceAddress];

let storage: Storage;
let context: Context;

/** What a program knows that was started just now. */
function startAgain(): void {
  context = new Context(storage, {} as Transport, systemEnvironment, defaultSettings);
}

beforeEach(() => {
  storage = openSqlcipher({ path: ":memory:", key: new Uint8Array(randomBytes(32)) });
  prepareSchema(storage);
  startAgain();
  const members = [bob, carol].map(({ accountId: account }) => ({
    account,
    role: "member" as const,
    invited: false,
    identityKey: new Uint8Array(33),
  }));
  context.transaction(() => context.conversations.saveMembers(group, members, on(0)));
});
afterEach(() => storage.close());

const here = (day: number): void => context.transaction(() => context.heard.here(on(day)));
const hears = (device: DeviceAddress, saidOn: number, day = saidOn): void =>
  context.transaction(() => context.heard.note(device, on(saidOn), on(day)));
const quiet = (day: number): readonly string[] =>
  [bob, carol].flatMap(({ accountId: account }, index) =>
    context.heard.quiet(group, on(day)).isQuiet(account) ? [["Bob", "Carol"][index]!] : [],
  );

test("whoever says nothing for thirty days on which this device is there is quiet", () => {
  hears(bob, 0);
  hears(carol, 0);
  for (let day = 1; day <= 30; day++) hears(carol, day);
  expect(quiet(29)).toEqual([]);
  expect(quiet(30)).toEqual(["Bob"]);
});

test("days on which this device was away are not counted, and what was said meanwhile is", () => {
  hears(bob, 0);
  hears(carol, 0);
  for (let day = 1; day <= 20; day++) here(day);
  startAgain();
  here(60);
  expect(quiet(60)).toEqual([]);
  hears(carol, 55, 60);
  // Ten days are left of Bob's thirty, and no less however often it is asked on that day.
  here(60);
  startAgain();
  here(60);
  for (let day = 61; day <= 69; day++) here(day);
  expect(quiet(68)).toEqual([]);
  expect(quiet(69)).toEqual(["Bob"]);
});

test("a clock that was set back, or is ahead for a day, makes nobody quiet", () => {
  hears(bob, 10);
  hears(carol, 10);
  here(9);
  here(10);
  expect(quiet(10)).toEqual([]);
  here(400);
  expect(quiet(400)).toEqual([]);
  here(11);
  expect(quiet(11)).toEqual([]);
  // And keeps nobody fresh for as long.
  for (let day = 12; day <= 41; day++) here(day);
  expect(quiet(41)).toEqual(["Bob", "Carol"]);
});

import { expect, test } from "vitest";
import { MoveLedger } from "../../src/demo/move-ledger.ts";

const FOUNDERS = new Set([0, 1, 2]);

test("tells what happened when, from the moment of asking on", () => {
  const ledger = new MoveLedger();
  const note = (atMs: number, state: string, done: number) =>
    ledger.note({ atMs, kind: "migration", state, done, total: 3 });
  note(1_010, "preparing", 1);
  ledger.note({ atMs: 1_020, kind: "progress", done: 2, total: 2 });
  note(1_030, "preparing", 2);
  note(1_040, "preparing", 3);
  note(1_050, "ready", 3);
  ledger.record(0, { id: 7, what: "switched", atMs: 1_060 });
  ledger.record(2, { id: 3, what: "switched", atMs: 1_080 });
  ledger.record(1, { id: 3, what: "switched", atMs: 1_070 });
  // It comes again after a restart.
  ledger.record(1, { id: 3, what: "switched", atMs: 1_070 });
  ledger.note({ atMs: 1_090, kind: "progress", done: 1, total: 1 });
  ledger.record(3, { id: 1, what: "joined", atMs: 1_100 });
  ledger.record(0, { id: 1, what: "joined", atMs: 500 });
  expect(ledger.timeline(1_000, 0, FOUNDERS)).toEqual([
    { atMs: 10, what: "preparing" },
    { atMs: 10, what: "1 of 3 ready" },
    { atMs: 20, what: "2 put into the MLS group" },
    { atMs: 30, what: "2 of 3 ready" },
    { atMs: 40, what: "3 of 3 ready" },
    { atMs: 50, what: "ready to switch" },
    { atMs: 60, what: "the creator has switched" },
    { atMs: 70, what: "the first other member has switched" },
    { atMs: 80, what: "the last of 2 other members has switched" },
    { atMs: 90, what: "1 of 1 new members added" },
    { atMs: 100, what: "the first new member is in" },
    { atMs: 100, what: "the last of 1 new members is in" },
  ]);
  expect(ledger.readyPart()).toBe(1);
});

test("counts a message to the protocol that its sender spoke when the service took it", () => {
  const ledger = new MoveLedger();
  ledger.record(0, { id: 4, what: "accepted", message: 10, atMs: 1 });
  ledger.record(0, { id: 5, what: "switched", atMs: 2 });
  ledger.record(0, { id: 6, what: "accepted", message: 11, atMs: 3 });
  ledger.record(0, { id: 6, what: "accepted", message: 11, atMs: 3 });
  ledger.record(1, { id: 9, what: "accepted", message: 12, atMs: 4 });
  expect(ledger.carried()).toEqual({ messagesPairwise: 2, messagesMls: 1 });
});

test("the longest gap is a member's, the longest silence everybody's, and both are within bounds", () => {
  const ledger = new MoveLedger();
  for (const atMs of [0, 100, 400, 450]) ledger.record(1, { id: atMs, what: "came", message: atMs, atMs });
  for (const atMs of [50, 300, 2_000]) ledger.record(2, { id: atMs, what: "came", message: atMs, atMs });
  ledger.record(3, { id: 1, what: "said", message: 1, atMs: 200 });
  expect(ledger.longestGap([1, 2, 3], 0, 500)).toEqual({ ms: 300, fromMs: 100 });
  expect(ledger.longestGap([1, 2, 3], 0, 5_000)).toEqual({ ms: 1_700, fromMs: 300 });
  expect(ledger.longestSilenceMs(0, 500)).toBe(200);
  // Who speaks gets nothing meanwhile, and sees that it goes out, once for each message.
  for (const id of [1, 2]) ledger.record(1, { id, what: "accepted", message: 1, atMs: 250 + 40 * id });
  expect(ledger.longestGap([1], 0, 500)).toEqual({ ms: 190, fromMs: 100 });
  expect(ledger.longestSilenceMs(0, 500)).toBe(200);
});

import { describe, expect, test } from "vitest";
import { disorder, EventLedger, messageIndex, messageText, tally } from "../../src/demo/tally.ts";

const messages = [
  { index: 0, sender: 0 },
  { index: 1, sender: 2 },
];

/** Events of three members that each saw both messages. */
function complete(): EventLedger {
  const ledger = new EventLedger();
  for (const member of [0, 1, 2]) for (const index of [0, 1]) ledger.record(member, 10 + index, index);
  return ledger;
}

describe("counting losses and doubles", () => {
  test("a clean run: every message once with every member, the sender included but no delivery", () => {
    expect(
      tally(
        messages,
        [
          [0, 1],
          [1, 0],
          [0, 1],
        ],
        complete(),
      ),
    ).toEqual({
      deliveries: 4,
      lost: 0,
      duplicated: 0,
      faults: [],
    });
  });

  test("a message that is missing in one history", () => {
    expect(tally(messages, [[0, 1], [1], [0, 1]], complete())).toEqual({
      deliveries: 3,
      lost: 1,
      duplicated: 0,
      faults: ["message 0 of member 0: 0 times in history of member 1"],
    });
  });

  test("a sender that forgot its own message", () => {
    expect(tally(messages, [[1], [0, 1], [0, 1]], complete()).lost).toBe(1);
  });

  test("a message that stands twice in a history", () => {
    expect(
      tally(
        messages,
        [
          [0, 1, 0],
          [1, 0],
          [0, 1],
        ],
        complete(),
      ).duplicated,
    ).toBe(1);
  });

  test("an event that comes again with the same id is no double", () => {
    const ledger = complete();
    ledger.record(1, 10, 0);
    expect(
      tally(
        messages,
        [
          [0, 1],
          [1, 0],
          [0, 1],
        ],
        ledger,
      ).duplicated,
    ).toBe(0);
  });

  test("a second event for the same message is a double, although the history has it once", () => {
    const ledger = complete();
    ledger.record(1, 99, 0);
    expect(
      tally(
        messages,
        [
          [0, 1],
          [1, 0],
          [0, 1],
        ],
        ledger,
      ).duplicated,
    ).toBe(1);
  });

  test("a message that no event announced is lost, although the history has it", () => {
    const ledger = new EventLedger();
    for (const member of [0, 1, 2]) ledger.record(member, 1, 0);
    expect(
      tally(
        messages,
        [
          [0, 1],
          [1, 0],
          [0, 1],
        ],
        ledger,
      ).lost,
    ).toBe(3);
  });

  test("who has a message", () => {
    const ledger = complete();
    ledger.record(3, 1, undefined);
    expect([
      ledger.membersWith(0, [0, 1, 2]),
      ledger.membersWith(0, [0, 1, 2, 3]),
      ledger.membersWith(7, [0, 1, 2, 3]),
    ]).toEqual([3, 3, 0]);
  });
});

test("a text names its message, and no other text does", () => {
  expect(messageIndex(messageText(17))).toBe(17);
  for (const text of ["", "message", "message 017", "message 1x", "Message 1"])
    expect(messageIndex(text)).toBeUndefined();
});

describe("messages that not everybody has to have", () => {
  const readers = new Set([0, 1]);
  const said = [{ index: 0, sender: 0, readers }];
  const ledger = (...members: number[]): EventLedger => {
    const events = new EventLedger();
    for (const member of members) events.record(member, 1, 0);
    return events;
  };

  test("nobody else misses them", () => {
    expect(tally(said, [[0], [0], []], ledger(0, 1))).toMatchObject({ deliveries: 1, lost: 0 });
    expect(tally(said, [[0], [], []], ledger(0)).lost).toBe(1);
  });

  test("whoever came at that moment has them whole and once", () => {
    expect(tally(said, [[0], [0], [0]], ledger(0, 1, 2))).toMatchObject({ deliveries: 2, lost: 0 });
    expect(tally(said, [[0], [0], [0]], ledger(0, 1)).lost).toBe(1);
    expect(tally(said, [[0], [0], []], ledger(0, 1, 2)).lost).toBe(1);
    expect(tally(said, [[0], [0], [0, 0]], ledger(0, 1, 2)).duplicated).toBe(1);
  });
});

test("what stands behind something that its sender said later is out of order, whoever else spoke between", () => {
  const said = [
    { index: 0, sender: 0 },
    { index: 1, sender: 1 },
    { index: 2, sender: 0 },
    { index: 3, sender: 0 },
  ];
  expect(disorder(said, [[0, 2, 3, 1], [1, 0, 2, 3], []])).toEqual([]);
  expect(disorder(said, [[], [2, 1, 0, 3]])).toEqual([
    "message 0 of member 0: behind message 2 in the history of member 1",
  ]);
  expect(disorder(said, [[3, 2, 0]])).toHaveLength(2);
});

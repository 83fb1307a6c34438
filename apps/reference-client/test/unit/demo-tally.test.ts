import { describe, expect, test } from "vitest";
import { EventLedger, messageIndex, messageText, tally } from "../../src/demo/tally.ts";

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
    expect([ledger.membersWith(0, 3), ledger.membersWith(0, 4), ledger.membersWith(7, 4)]).toEqual([3, 3, 0]);
  });
});

test("a text names its message, and no other text does", () => {
  expect(messageIndex(messageText(17))).toBe(17);
  for (const text of ["", "message", "message 017", "message 1x", "Message 1"])
    expect(messageIndex(text)).toBeUndefined();
});

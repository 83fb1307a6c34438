import { describe, expect, test } from "vitest";
import { decideOnLog, type LogFacts, spreadMarks } from "../../src/core/log-decision.ts";

const hash = (fill: number) => new Uint8Array(32).fill(fill);
const facts = (given: Partial<LogFacts> = {}): LogFacts => ({
  epoch: 5,
  cursor: 100,
  commitHash: hash(1),
  marked: true,
  serviceEpoch: 5,
  lastSequence: 100,
  agreedSequence: 100,
  serviceCommitHash: undefined,
  ...given,
});

describe("whether the service's log is ours", () => {
  test.each<[string, Partial<LogFacts>, string]>([
    ["it has what we have", {}, "in-step"],
    ["it has more", { lastSequence: 140, serviceEpoch: 9 }, "in-step"],
    ["it took our newest commit back", { lastSequence: 101, serviceEpoch: 4 }, "in-step"],
    ["it lost our epoch", { lastSequence: 80, agreedSequence: 80, serviceEpoch: 3 }, "behind"],
    [
      "it lost it and has as many entries again",
      { lastSequence: 120, agreedSequence: 80, serviceEpoch: 3 },
      "behind",
    ],
    ["it lost messages only", { lastSequence: 80, agreedSequence: 80 }, "another-log"],
    [
      "it lost messages, and others have talked since",
      { lastSequence: 160, agreedSequence: 80 },
      "another-log",
    ],
    [
      "it was fed by others",
      { agreedSequence: 80, serviceEpoch: 7, serviceCommitHash: hash(1) },
      "another-log",
    ],
    ["nothing is common any more", { agreedSequence: 0, serviceEpoch: 7 }, "another-log"],
    [
      "it went on with others",
      { agreedSequence: 80, serviceEpoch: 7, serviceCommitHash: hash(2) },
      "another-past",
    ],
    ["we have just joined", { marked: false, agreedSequence: 0, lastSequence: 140 }, "in-step"],
    ["we have just joined what it lost", { marked: false, serviceEpoch: 4 }, "behind"],
    [
      "we have just joined behind its end",
      { marked: false, lastSequence: 60, agreedSequence: 0 },
      "another-log",
    ],
  ])("%s", (_, given, kind) => {
    expect(decideOnLog(facts(given))).toEqual({ kind });
  });
});

describe("entries that are named", () => {
  const newestFirst = (count: number) => Array.from({ length: count }, (_, index) => index);

  test("all of them, where there are few", () => {
    expect(spreadMarks(newestFirst(32), 32)).toEqual(newestFirst(32));
  });

  test.each([33, 100, 500, 5_000])("the newest, the oldest, and fewer and fewer in between: %i", (count) => {
    const named = spreadMarks(newestFirst(count), 32);
    expect(named.length).toBeLessThanOrEqual(32);
    expect(named[0]).toBe(0);
    expect(named.at(-1)).toBe(count - 1);
    const distances = named.slice(1).map((index, at) => index - named[at]!);
    expect(Math.min(...distances)).toBeGreaterThan(0);
    // Whatever was lost, about as much again is read a second time.
    for (const [at, distance] of distances.entries()) expect(distance).toBeLessThanOrEqual(named[at]! + 2);
  });
});

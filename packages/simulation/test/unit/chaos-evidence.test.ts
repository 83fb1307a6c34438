import { Writer } from "@murmuration/base";
import { expect, test } from "vitest";
import { countHits, findLosses, isVoid, type Story } from "../../src/chaos/evidence.ts";
import { epochsWithoutOneCommit, type GroupLog, isGapless } from "../../src/chaos/group-logs.ts";
import { planChaos, TARGETS } from "../../src/chaos/plan.ts";

const story = (acceptedAtMs: number | undefined, ...stored: readonly number[][]): Story => ({
  text: "tweet",
  acceptedAtMs,
  stored: stored.map((atMs, index) => ({ member: `m${index}`, atMs })),
});

test("a message is lost where a member lacks it, doubled where one has it twice, and unaccepted until its sender hears of it", () => {
  const { deliveries, lost, doubled, neverAccepted } = findLosses([
    story(5, [1], [7]),
    story(5, [1], []),
    story(5, [1, 9], [2]),
    story(undefined, [1], [2]),
  ]);
  expect(deliveries).toBe(7);
  expect(lost).toEqual(['"tweet" at m1']);
  expect(doubled).toEqual(['"tweet" at m0']);
  expect(neverAccepted).toEqual(["tweet"]);
});

test("a kill hits a fan-out between the sender's answer and the last member, unless somebody is away for long", () => {
  const hits = (atMs: number, told: Story) => countHits([{ target: "redis", atMs }], [], [told]).fanOuts;
  const told = story(10_000, [9_000], [10_100]);
  expect([9_999, 10_000, 10_099, 10_100].map((atMs) => hits(atMs, told))).toEqual([0, 1, 1, 0]);
  expect(hits(11_000, story(10_000, [9_000], [30_000]))).toBe(0);
  expect(hits(10_050, story(undefined, [9_000], [10_100]))).toBe(0);
});

test("a kill hits a commit that has no answer yet; that of a node only if its connection broke without one", () => {
  const answered = { sentAtMs: 10, endedAtMs: 20, answered: true };
  const broken = { sentAtMs: 10, endedAtMs: 20, answered: false };
  const hits = (target: (typeof TARGETS)[number], atMs: number, commit: typeof answered) =>
    countHits([{ target, atMs }], [commit], []).commits;
  expect([9, 10, 19, 20].map((atMs) => hits("postgres", atMs, answered))).toEqual([0, 1, 1, 0]);
  expect([hits("node A", 15, answered), hits("node A", 15, broken)]).toEqual([0, 1]);
});

test("a run is void unless one kill hit a commit and another one a fan-out: the same kill does not count for both", () => {
  const commit = { sentAtMs: 10, endedAtMs: 20, answered: true };
  const told = story(15, [5], [30]);
  const isVoidWith = (...killedAtMs: readonly number[]) =>
    isVoid(
      countHits(
        killedAtMs.map((atMs) => ({ target: "postgres", atMs })),
        [commit],
        [told],
      ),
    );
  const [onlyCommit, both, onlyFanOut, neither] = [10, 16, 25, 40];
  expect(
    [[], [neither], [onlyCommit, onlyCommit], [onlyFanOut, neither]].map((kills) => isVoidWith(...kills)),
  ).toEqual([true, true, true, true]);
  expect([isVoidWith(both), isVoidWith(both, neither)]).toEqual([true, true]);
  expect([isVoidWith(onlyCommit, onlyFanOut), isVoidWith(both, onlyFanOut)]).toEqual([false, false]);
  expect([isVoidWith(onlyCommit, both), isVoidWith(both, both)]).toEqual([false, false]);
});

const commitFrom = (epoch: number) =>
  new Writer().uint16(1).uint16(1).bytes(new Uint8Array(16)).uint64(BigInt(epoch)).finish();
const log = (epoch: number, ...from: readonly number[]): GroupLog => ({
  epoch,
  firstSequence: 1,
  lastSequence: from.length,
  entries: from.map((one, index) => ({
    sequence: index + 1,
    kind: "commit",
    voids: null,
    message: commitFrom(one),
  })),
});

test("a log is whole when each epoch is left by one commit and no sequence number is missing", () => {
  expect(epochsWithoutOneCommit(log(3, 0, 1, 2))).toEqual([]);
  expect(epochsWithoutOneCommit(log(2, 0, 1, 1))).toEqual([1]);
  expect(epochsWithoutOneCommit(log(3, 0, 2))).toEqual([1]);
  expect(epochsWithoutOneCommit(log(2, 0, 1, 2))).toEqual([2]);
  expect(isGapless(log(2, 0, 1))).toBe(true);
  expect(isGapless({ ...log(2, 0, 1), lastSequence: 3 })).toBe(false);
});

test("a commit that a void entry took back does not count", () => {
  const { entries, ...rest } = log(2, 0, 1);
  const voided = { sequence: 3, kind: "void", voids: 2, message: new Uint8Array() } as const;
  const again = { sequence: 4, kind: "commit", voids: null, message: commitFrom(1) } as const;
  const whole = { ...rest, lastSequence: 4, entries: [...entries, voided, again] };
  expect(epochsWithoutOneCommit(whole)).toEqual([]);
  expect(epochsWithoutOneCommit({ ...whole, entries: [...entries, again] })).toEqual([1]);
});

test("the same seed plans the same kills, and each of the four is among the first four", () => {
  const plan = (seed: number) => planChaos({ seed, minutes: 3, everySeconds: 20 }).kills;
  expect(plan(7)).toEqual(plan(7));
  expect(plan(7)).not.toEqual(plan(8));
  expect(plan(7)).toHaveLength(9);
  const first = plan(7).slice(0, 4);
  expect(first.map(({ target }) => target).sort()).toEqual([...TARGETS].sort());
});

import { groupId } from "@murmuration/base";
import type { GroupEntries } from "@murmuration/wire";
import { expect, test } from "vitest";
import { Unhurried } from "../../src/shell/communities/unhurried.ts";

const [ID, OTHER] = [1, 2].map((byte) => groupId(new Uint8Array(16).fill(byte))) as [
  ReturnType<typeof groupId>,
  ReturnType<typeof groupId>,
];

/** One member on a clock that a test moves; `taken` has what was taken, in order. */
function member({ patienceMs = 4_000, luck = 0.4 } = {}) {
  const timers: { atMs: number; done: () => void }[] = [];
  const taken: string[] = [];
  const closing = new AbortController();
  const failures: unknown[] = [];
  const context = {
    closing,
    failed: (error: unknown) => failures.push(error),
    environment: {
      random: () => [luck * 255],
      sleep: (ms: number) => new Promise<void>((done) => timers.push({ atMs: ms, done })),
    },
  };
  const patience = { ms: patienceMs };
  const unhurried = new Unhurried(context as never, () => patience.ms);
  const come = (what: string, kind: "commit" | "application", id = ID): void => {
    const frame = { groupId: id, entries: [{ [kind]: {} }] } as unknown as GroupEntries;
    if (!unhurried.putOff(frame, () => taken.push(what))) taken.push(what);
  };
  const over = async (ms: number): Promise<void> => {
    for (const timer of timers) if (timer.atMs <= ms) timer.done();
    await Promise.resolve();
  };
  return { come, over, taken, patience, unhurried, closing, failures };
}

test("commits of a group that is prepared are taken together, at a moment of each member's own", async () => {
  const { come, over, taken } = member({ luck: 0.4 });
  come("first", "commit");
  come("second", "commit");
  await over(1_599);
  expect(taken).toEqual([]);
  await over(1_600);
  expect(taken).toEqual(["first", "second"]);
  come("third", "commit");
  expect(taken).toHaveLength(2);
  await over(1_600);
  expect(taken).toEqual(["first", "second", "third"]);
});

test("what is said in it is taken at once, and what came before is taken before it", () => {
  const { come, taken } = member();
  come("commit", "commit");
  come("the switch", "application");
  expect(taken).toEqual(["commit", "the switch"]);
});

test("a group that is prepared no more is taken at once, and groups do not wait for each other", () => {
  const { come, taken, patience, unhurried } = member();
  come("of this", "commit");
  come("of another", "commit", OTHER);
  unhurried.hurry(ID);
  expect(taken).toEqual(["of this"]);
  patience.ms = 0;
  come("of another, later", "commit", OTHER);
  expect(taken).toEqual(["of this", "of another", "of another, later"]);
});

test("what fails when it is taken later ends the client as it would have at once, and not the process", async () => {
  const { over, failures, unhurried } = member();
  const broken = { groupId: ID, entries: [{ commit: {} }] } as unknown as GroupEntries;
  const isPutOff = unhurried.putOff(broken, () => {
    throw new Error("the storage is gone");
  });
  await over(4_000);
  await Promise.resolve();
  expect({ isPutOff, failures }).toEqual({ isPutOff: true, failures: [new Error("the storage is gone")] });
});

test("no service fills the memory with what waits, and a client that closes takes nothing any more", async () => {
  const { come, over, taken, closing } = member();
  for (let at = 0; at < 17; at++) come(String(at), "commit");
  expect(taken).toEqual(Array.from({ length: 17 }, (_, at) => String(at)));
  come("too late", "commit");
  closing.abort();
  await over(4_000);
  expect(taken).toHaveLength(17);
});

test("Welcomes into a group that is prepared are taken up once, at a moment of each member's own, and within half of the time", async () => {
  const { unhurried, over, patience } = member({ luck: 0.4 });
  let times = 0;
  const putOff = (...ids: (typeof ID)[]) => unhurried.putOffWelcomes(ids, () => times++);
  expect(putOff(ID)).toBe(true);
  // Whatever else the mailbox brings meanwhile.
  expect(putOff(ID, OTHER)).toBe(true);
  await over(799);
  expect(times).toBe(0);
  await over(800);
  expect(times).toBe(1);
  // The next one waits for a moment of its own.
  expect(putOff(OTHER)).toBe(true);
  await over(800);
  expect(times).toBe(2);
  patience.ms = 0;
  expect(putOff(ID)).toBe(false);
});

test("no Welcome waits where one of them is into a group that nobody prepares, nor does any other thing where there is none", async () => {
  const { unhurried, patience } = member();
  const urgent = new Unhurried({} as never, (id) => (id === OTHER ? 0 : patience.ms));
  expect(urgent.putOffWelcomes([ID, OTHER], () => undefined)).toBe(false);
  expect(unhurried.putOffWelcomes([], () => undefined)).toBe(false);
});

test("nobody takes a Welcome up whose device has been closed meanwhile", async () => {
  const { unhurried, over, closing } = member();
  let times = 0;
  unhurried.putOffWelcomes([ID], () => times++);
  closing.abort();
  await over(4_000);
  expect(times).toBe(0);
});

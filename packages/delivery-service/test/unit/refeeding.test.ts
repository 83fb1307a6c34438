import { type GroupId, groupId } from "@murmuration/base";
import { limits } from "@murmuration/wire";
import { expect, test } from "vitest";
import type { GroupReader } from "../../src/service/group-delivery.ts";
import type { GroupHub, GroupInUse } from "../../src/service/group-hub.ts";
import { Refeeding } from "../../src/service/group-refeeds.ts";
import { random } from "../support/random.ts";

const commits = [{ commit: random(100), proposals: [] }];

/** A connection that feeds, and what its service counts; `allowed` is when a rate is answered. */
function feeding(allowed: Promise<void> = Promise.resolve()) {
  const timers = new Set<() => void>();
  const hub = {
    waitingRefeedBytes: 0,
    context: {
      limits,
      clock: {
        now: () => 0,
        after(_: number, run: () => void) {
          timers.add(run);
          return () => timers.delete(run);
        },
      },
      metrics: { count() {} },
      rateLimits: { take: () => allowed.then(() => ({ allowed: true, retryAfterMs: 0 })) },
    },
  } as unknown as GroupHub;
  const refeeding = new Refeeding(hub, { remoteAddress: "192.0.2.1", challenge: random(32) });
  /** A frame that is not the last one. */
  const take = (id: GroupId) => {
    const reader = { name: "leaf", group: { groupId: id }, member: async () => ({}) };
    const frame = { groupId: id, commits, agreedSequence: 0 };
    return refeeding.take({} as GroupInUse, reader as unknown as GroupReader, frame);
  };
  return { hub, refeeding, take, timers };
}

// The fault that this finds: bytes that count as waiting for good, until nobody can feed a service any more.
test("a frame whose connection ends while its rate is asked for leaves nothing behind", async () => {
  let allow = () => {};
  const allowed = new Promise<void>((resolve) => {
    allow = resolve;
  });
  const { hub, refeeding, take } = feeding(allowed);
  const outcome = expect(take(groupId(random(16)))).rejects.toThrow("group/not-open");
  refeeding.end();
  allow();
  await outcome;
  expect(hub.waitingRefeedBytes).toBe(0);
});

// The fault that this finds: a client that has several groups to feed feeds none, since each begins when the other is dropped.
test("frames of two groups wait beside each other on one connection, each for its own next one", async () => {
  const { hub, refeeding, take, timers } = feeding();
  const [one, other] = [groupId(random(16)), groupId(random(16))];
  for (const id of [one, other, one]) await take(id);
  expect(hub.waitingRefeedBytes).toBe(300);
  refeeding.end();
  expect([hub.waitingRefeedBytes, timers.size]).toEqual([0, 0]);
});

// The fault that this finds: on a slow line the frames of one group take so long that those of the others are forgotten.
test("what waits is forgotten when nothing has come for a while, of whatever group", async () => {
  const { hub, take, timers } = feeding();
  await take(groupId(random(16)));
  const [first] = timers;
  await take(groupId(random(16)));
  const [second, ...more] = timers;
  expect([second === first, more]).toEqual([false, []]);
  expect(hub.waitingRefeedBytes).toBe(200);
  second!();
  expect(hub.waitingRefeedBytes).toBe(0);
});

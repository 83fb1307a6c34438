import { groupId } from "@murmuration/base";
import { expect, test } from "vitest";
import type { Context } from "../../src/shell/context.ts";
import { FollowUp } from "../../src/shell/follow-up.ts";
import type { Groups } from "../../src/shell/groups.ts";
import type { Receiver } from "../../src/shell/receiver.ts";

const group = groupId(new Uint8Array(16).fill(7));

/** A device that holds something for a group; `retried`: how often it was looked at again. */
function device(canRead: boolean) {
  const state = { revision: 5, retried: 0, asked: 0, nowMs: 0, extent: { count: 1, lastAtMs: 1 } };
  const context = {
    held: {
      after: () => undefined,
      extent: () => state.extent,
      hasOf: () => state.extent.count > 0,
      subjects: () => [group],
    },
    now: () => state.nowMs,
    conversations: { group: () => ({ revision: state.revision }) },
    notifier: { flush: () => undefined },
  } as unknown as Context;
  const groups = {
    refresh: async () => {
      state.asked++;
      return canRead;
    },
  } as unknown as Groups;
  const receiver = { retryHeld: () => state.retried++ } as unknown as Receiver;
  return { state, followUp: new FollowUp(context, groups, receiver) };
}

test("what is held for a group is looked at again when its record was read", async () => {
  const { state, followUp } = device(true);
  await followUp.run();
  expect([state.asked, state.retried]).toEqual([1, 1]);
});

test("whoever cannot read the record any more looks at what is held once for each change that comes late, and not again and again", async () => {
  const { state, followUp } = device(false);
  await followUp.run();
  await followUp.run();
  expect([state.asked, state.retried]).toEqual([2, 0]);
  state.revision = 6;
  await followUp.run();
  expect(state.retried).toBe(1);
  await followUp.run();
  expect(state.retried).toBe(1);
});

test("where the record says nothing of what is held, it is read ever less often for it, and at once for what else comes", async () => {
  const { state, followUp } = device(true);
  for (state.nowMs = 0; state.nowMs < 3_600_000; state.nowMs += 100) await followUp.run();
  // After 1, 2, 4, ... 256 s, and then every 300 s.
  expect([state.asked, state.retried]).toEqual([20, 20]);
  state.extent = { count: 2, lastAtMs: 2 };
  await followUp.run();
  expect(state.asked).toBe(21);
  state.revision++;
  await followUp.run();
  expect(state.asked).toBe(22);
  await followUp.run();
  expect(state.asked).toBe(22);
  followUp.connected();
  await followUp.run();
  expect(state.asked).toBe(23);
});

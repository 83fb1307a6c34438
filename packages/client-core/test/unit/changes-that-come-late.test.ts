import { groupId } from "@murmuration/base";
import { expect, test } from "vitest";
import type { Context } from "../../src/shell/context.ts";
import { FollowUp } from "../../src/shell/follow-up.ts";
import type { Groups } from "../../src/shell/groups.ts";
import type { Receiver } from "../../src/shell/receiver.ts";

const group = groupId(new Uint8Array(16).fill(7));

/** A device that holds something for a group; `retried`: how often it was looked at again. */
function device(canRead: boolean) {
  const state = { revision: 5, retried: 0, asked: 0 };
  const context = {
    held: { of: (reason: string) => (reason === "group" ? [{ subject: group }] : []) },
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

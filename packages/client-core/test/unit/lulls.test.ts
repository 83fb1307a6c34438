import { groupId } from "@murmuration/base";
import { beforeEach, expect, test } from "vitest";
import type { Context } from "../../src/shell/context.ts";
import { BEHIND_A_WORD_MS, LONGEST_MS, LULL_MS, Lulls, SILENCE_MS } from "../../src/shell/migration/lulls.ts";

const group = groupId(new Uint8Array(16));
const MEMBERS = 100;
const [behindMs, lullMs, silenceMs, longestMs] = [BEHIND_A_WORD_MS, LULL_MS, SILENCE_MS, LONGEST_MS].map(
  (ms) => ms * MEMBERS,
) as [number, number, number, number];

let members: number;
let nowMs: number;
let saidAtMs: number;
let closing: AbortController;
let lulls: Lulls;

beforeEach(() => {
  members = MEMBERS;
  nowMs = 1_000_000;
  saidAtMs = 0;
  closing = new AbortController();
  const conversations = { countMembers: () => members, activeAtMs: () => saidAtMs };
  const environment = {
    sleep: async (ms: number) => {
      nowMs += ms;
    },
  };
  lulls = new Lulls({ conversations, environment, closing, now: () => nowMs } as unknown as Context);
});

test("where nobody has said anything for a while a step is taken at once", () => {
  saidAtMs = nowMs - silenceMs;
  expect(lulls.mustWait(group)).toBe(false);
  expect(lulls.takeNextAtMs()).toBe(Number.POSITIVE_INFINITY);
});

test("where somebody has just said something, a step comes right behind it, and whoever runs steps is told when, once", () => {
  saidAtMs = nowMs - 10;
  expect(lulls.mustWait(group)).toBe(true);
  expect(lulls.takeNextAtMs()).toBe(saidAtMs + behindMs);
  expect(lulls.takeNextAtMs()).toBe(Number.POSITIVE_INFINITY);
  nowMs = saidAtMs + behindMs;
  expect(lulls.mustWait(group)).toBe(false);
  nowMs = saidAtMs + behindMs + lullMs - 1;
  expect(lulls.mustWait(group)).toBe(false);
});

test("where the next word may come any moment, a step waits for it, or until it turns out that nobody talks", () => {
  saidAtMs = nowMs - behindMs - lullMs;
  expect(lulls.mustWait(group)).toBe(true);
  expect(lulls.takeNextAtMs()).toBeLessThan(saidAtMs + silenceMs);
  nowMs += 300;
  saidAtMs = nowMs;
  expect(lulls.mustWait(group)).toBe(true);
  expect(lulls.takeNextAtMs()).toBe(saidAtMs + behindMs);
  nowMs = saidAtMs + behindMs;
  expect(lulls.mustWait(group)).toBe(false);
  nowMs = saidAtMs + silenceMs - 1;
  expect(lulls.mustWait(group)).toBe(true);
  expect(lulls.takeNextAtMs()).toBe(saidAtMs + silenceMs);
  nowMs++;
  expect(lulls.mustWait(group)).toBe(false);
});

test("members of thousands do not make it long", () => {
  members = 1_000_000;
  saidAtMs = nowMs;
  const beganMs = nowMs;
  while (lulls.mustWait(group)) {
    nowMs += 100;
    saidAtMs = nowMs;
  }
  expect(nowMs - beganMs).toBeLessThan(10_000);
});

test("where people never stop talking each step waits for some time, and no longer", () => {
  for (let step = 0; step < 3; step++) {
    const beganMs = nowMs;
    do {
      saidAtMs = nowMs;
      nowMs += behindMs / 2;
    } while (lulls.mustWait(group));
    expect(nowMs - beganMs).toBeGreaterThanOrEqual(longestMs);
    expect(nowMs - beganMs).toBeLessThanOrEqual(longestMs + behindMs);
  }
});

test("a clock that was set back, or a word from the future, keeps nothing waiting for longer", () => {
  saidAtMs = nowMs + 3_600_000;
  expect(lulls.mustWait(group)).toBe(true);
  nowMs -= 3_600_000;
  expect(lulls.mustWait(group)).toBe(true);
  nowMs += longestMs;
  expect(lulls.mustWait(group)).toBe(false);
});

test("whoever waits for the lull goes on when it has come, or the client closes", async () => {
  saidAtMs = nowMs;
  await lulls.come(group);
  expect(nowMs).toBe(saidAtMs + behindMs);
  saidAtMs = nowMs;
  closing.abort();
  await expect(lulls.come(group)).rejects.toThrow("client/closing");
});

import { groupId } from "@murmuration/base";
import { beforeEach, expect, test } from "vitest";
import type { Context } from "../../src/shell/context.ts";
import { LONGEST_LULL_MS, LULL_MS_PER_MEMBER, Lulls, MOST_LULLS } from "../../src/shell/migration/lulls.ts";

const group = groupId(new Uint8Array(16));
const MEMBERS = 100;
const LULL_MS = LULL_MS_PER_MEMBER * MEMBERS;

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

test("where nobody has said anything just now a step is taken at once", () => {
  saidAtMs = nowMs - LULL_MS;
  expect(lulls.mustWait(group)).toBe(false);
  expect(lulls.takeNextAtMs()).toBe(Number.POSITIVE_INFINITY);
});

test("where somebody has, a step waits until members have it, and whoever runs steps is told for how long, once", () => {
  saidAtMs = nowMs - 30;
  expect(lulls.mustWait(group)).toBe(true);
  expect(lulls.takeNextAtMs()).toBe(saidAtMs + LULL_MS);
  expect(lulls.takeNextAtMs()).toBe(Number.POSITIVE_INFINITY);
  nowMs = saidAtMs + LULL_MS;
  expect(lulls.mustWait(group)).toBe(false);
});

test("members of thousands do not make it long", () => {
  members = 10_000;
  saidAtMs = nowMs;
  expect(lulls.mustWait(group)).toBe(true);
  expect(lulls.takeNextAtMs()).toBe(saidAtMs + LONGEST_LULL_MS);
});

test("where people never stop talking each step waits for some time, and no longer", () => {
  for (let step = 0; step < 3; step++) {
    const beganMs = nowMs;
    do {
      saidAtMs = nowMs;
      nowMs += LULL_MS / 4;
    } while (lulls.mustWait(group));
    expect(nowMs - beganMs).toBeGreaterThanOrEqual(MOST_LULLS * LULL_MS);
    expect(nowMs - beganMs).toBeLessThanOrEqual((MOST_LULLS + 1) * LULL_MS);
  }
});

test("a clock that was set back, or a word from the future, keeps nothing waiting", () => {
  saidAtMs = nowMs + 3_600_000;
  expect(lulls.mustWait(group)).toBe(true);
  nowMs -= 3_600_000;
  expect(lulls.mustWait(group)).toBe(false);
  saidAtMs = nowMs + 24 * 3_600_000;
  expect(lulls.mustWait(group)).toBe(true);
  nowMs += MOST_LULLS * LULL_MS;
  expect(lulls.mustWait(group)).toBe(false);
});

test("whoever waits for the lull goes on when it has come, or the client closes", async () => {
  saidAtMs = nowMs;
  await lulls.come(group);
  expect(nowMs).toBe(saidAtMs + LULL_MS);
  saidAtMs = nowMs;
  closing.abort();
  await lulls.come(group);
  expect(nowMs).toBe(saidAtMs + LULL_MS);
});

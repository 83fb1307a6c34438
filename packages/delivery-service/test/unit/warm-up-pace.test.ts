import { expect, test } from "vitest";
import { mostTook, type Pace, warmUpDueAt } from "../../src/core/warm-up-pace.ts";

const QUIET_MS = 5_000;
const NOW = 1_000_000;
const calm: Pace = {
  committedAtMs: NOW - 500,
  takenAtMs: NOW - 400,
  cameAtMs: 0,
  saidAtMs: 0,
  releasedAtMs: 0,
};

test("a calm group is warmed as soon as most have taken the commit before", () => {
  expect(warmUpDueAt(calm, NOW, QUIET_MS)).toBe(NOW - 400);
});

test("until most have taken it, it is looked again soon, and after a minute nobody is waited for", () => {
  const taking = { ...calm, takenAtMs: undefined };
  expect(warmUpDueAt(taking, NOW, QUIET_MS)).toBe(NOW + 200);
  expect(warmUpDueAt({ ...taking, committedAtMs: NOW - 60_000 }, NOW, QUIET_MS)).toBe(NOW);
});

test("while people talk, a commit is followed by a rest of three times what it took", () => {
  expect(warmUpDueAt({ ...calm, saidAtMs: NOW - 9_999 }, NOW, QUIET_MS)).toBe(NOW - 400 + 3 * 100);
  expect(warmUpDueAt({ ...calm, saidAtMs: NOW - 10_000 }, NOW, QUIET_MS)).toBe(NOW - 400);
});

test("while members come, who verify the tree, it waits for them, but never longer than a minute after a commit", () => {
  expect(warmUpDueAt({ ...calm, cameAtMs: NOW - 100 }, NOW, QUIET_MS)).toBe(NOW + 4_900);
  const long = { ...calm, committedAtMs: NOW - 58_000, takenAtMs: NOW - 57_000, cameAtMs: NOW - 100 };
  expect(warmUpDueAt(long, NOW, QUIET_MS)).toBe(NOW + 2_000);
});

test("after a turn was given back another member is asked half a minute later, however long ago the last commit was", () => {
  const released = { ...calm, releasedAtMs: NOW - 100 };
  expect(warmUpDueAt(released, NOW, QUIET_MS)).toBe(NOW + 29_900);
  const hourAgo = { ...released, committedAtMs: NOW - 3_600_000, takenAtMs: NOW - 3_590_000 };
  expect(warmUpDueAt(hourAgo, NOW, QUIET_MS)).toBe(NOW + 29_900);
});

test("most are three quarters of those who are here", () => {
  expect(mostTook([7, 7, 7, 6], 7)).toBe(true);
  expect(mostTook([7, 7, 6, 6], 7)).toBe(false);
  expect(mostTook([], 7)).toBe(true);
});

import { expect, test } from "vitest";
import { decideArrival, idleLine, perfectLink, pieceBytes } from "../../src/link-shape.ts";

test("a perfect link hands on at once", () => {
  expect(decideArrival(idleLine, 5000, perfectLink, 100, 0.9)).toEqual({ freeAtMs: 100, lastArrivalMs: 100 });
  expect(pieceBytes(perfectLink)).toBe(64 * 1024);
});

test("a throttled link is occupied by each piece in turn, and free again after a pause", () => {
  const shape = { ...perfectLink, bytesPerSecond: 1000 };
  const first = decideArrival(idleLine, 20, shape, 0, 0);
  const second = decideArrival(first, 20, shape, 0, 0);
  expect([first.lastArrivalMs, second.lastArrivalMs]).toEqual([20, 40]);
  expect(decideArrival(second, 20, shape, 500, 0).lastArrivalMs).toBe(520);
  expect(pieceBytes(shape)).toBe(20);
  expect(pieceBytes({ ...shape, bytesPerSecond: 1 })).toBe(1);
});

test("jitter never lets one piece overtake another", () => {
  const shape = { ...perfectLink, delayMs: 10, jitterMs: 100 };
  const late = decideArrival(idleLine, 1, shape, 0, 0.9);
  const lucky = decideArrival(late, 1, shape, 1, 0);
  expect(late.lastArrivalMs).toBe(100);
  expect(lucky.lastArrivalMs).toBe(100);
});

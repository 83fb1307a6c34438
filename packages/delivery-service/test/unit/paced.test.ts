import { expect, test } from "vitest";
import { Paced } from "../../src/core/paced.ts";

const never = () => {
  throw new Error("let through again");
};

test("a key goes through once in a window, and once more at its end if something came meanwhile", () => {
  const paced = new Paced(100, 10);
  let again = 0;
  const count = () => void again++;
  expect(paced.enter("a", 0, never)).toBe(true);
  expect(paced.enter("a", 10, count)).toBe(false);
  expect(paced.enter("a", 99, count)).toBe(false);
  paced.tick(99);
  expect(again).toBe(0);
  paced.tick(100);
  expect(again).toBe(1);
  expect(paced.isEmpty).toBe(true);
});

test("where nothing came meanwhile nothing happens at the end", () => {
  const paced = new Paced(100, 10);
  paced.enter("a", 0, never);
  paced.tick(100);
  expect(paced.enter("a", 101, never)).toBe(true);
});

test("who came by itself is let through at once the next time", () => {
  const paced = new Paced(100, 10);
  paced.enter("a", 0, never);
  paced.enter("a", 1, never);
  paced.forget("a");
  paced.tick(200);
  expect(paced.enter("a", 50, never)).toBe(true);
});

test("keys do not disturb each other, and there are never more of them than allowed", () => {
  const paced = new Paced(100, 2);
  expect(paced.enter("a", 0, never)).toBe(true);
  expect(paced.enter("b", 50, never)).toBe(true);
  expect(paced.enter("c", 60, never)).toBe("full");
  paced.tick(100);
  expect(paced.enter("c", 101, never)).toBe(true);
  paced.tick(149);
  expect(paced.enter("b", 149, () => {})).toBe(false);
});

test("a key that enters again when its window ends may do so from within", () => {
  const paced = new Paced(100, 10);
  const again = () => void paced.enter("a", 100, never);
  paced.enter("a", 0, never);
  paced.enter("a", 1, again);
  paced.tick(100);
  expect(paced.isEmpty).toBe(false);
});

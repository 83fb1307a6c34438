import { expect, test } from "vitest";
import { Reader } from "../../src/index.ts";

test("what is read from a Buffer is a plain Uint8Array, whose slice() is a copy", () => {
  const input = Buffer.from([3, 1, 2, 3]);
  const read = new Reader(input).bytes();
  expect(Buffer.isBuffer(read)).toBe(false);
  read.slice().fill(0);
  expect([...input]).toEqual([3, 1, 2, 3]);
});

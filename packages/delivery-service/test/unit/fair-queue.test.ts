import { describe, expect, it } from "vitest";
import { FairQueue } from "../../src/core/fair-queue.ts";

describe("a fair queue", () => {
  it("takes from one after the other, and from each in order", () => {
    const queue = new FairQueue<string>({ perKey: 10, total: 10 });
    for (const work of ["a1", "a2", "a3", "b1", "c1", "b2"]) queue.add(work[0]!, work);
    const taken = Array.from({ length: 7 }, () => queue.take());
    expect(taken).toEqual(["a1", "b1", "c1", "a2", "b2", "a3", undefined]);
  });

  it("has room for so many of one, and for so many together", () => {
    const queue = new FairQueue<number>({ perKey: 2, total: 3 });
    expect(["a", "a", "a", "b", "c"].map((key) => queue.add(key, 1))).toEqual([
      true,
      true,
      false,
      true,
      false,
    ]);
    queue.take();
    expect(queue.add("c", 1)).toBe(true);
  });
});

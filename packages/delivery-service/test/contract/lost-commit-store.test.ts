import { groupId } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { LostCommitStore } from "../../src/ports/lost-commits.ts";
import { engines, type OpenedEngine } from "../support/engines.ts";
import { random } from "../support/random.ts";

describe.each(engines)("counts of lost commits on $name", (engine) => {
  let opened: OpenedEngine;
  let store: LostCommitStore;
  beforeEach(async () => {
    opened = await engine.open();
    store = opened.stores.lostCommits;
  });
  afterEach(() => opened.dispose());

  const [one, other] = [groupId(random(16)), groupId(random(16))];

  it("add up, for each group and from a day on", async () => {
    await store.add([
      { groupId: one, day: 10, count: 2 },
      { groupId: one, day: 11, count: 3 },
      { groupId: other, day: 11, count: 50 },
    ]);
    await store.add([{ groupId: one, day: 11, count: 4 }]);
    expect(await store.since(one, 10)).toBe(9);
    expect(await store.since(one, 11)).toBe(7);
    expect(await store.since(one, 12)).toBe(0);
    expect(await store.since(other, 0)).toBe(50);
  });

  it("miss nothing when many nodes add at a time, in any order", async () => {
    const rows = [one, other].map((groupId) => ({ groupId, day: 10, count: 1 }));
    const adds = Array.from({ length: 40 }, (_, i) => store.add(i % 2 === 0 ? rows : rows.toReversed()));
    await Promise.all(adds);
    expect(await store.since(one, 10)).toBe(40);
    expect(await store.since(other, 10)).toBe(40);
  });

  it("expire by their day, so many at a time", async () => {
    await store.add([10, 11, 12].map((day) => ({ groupId: one, day, count: 1 })));
    expect(await store.expire(12, 1)).toBe(1);
    expect(await store.expire(12, 10)).toBe(1);
    expect(await store.expire(12, 10)).toBe(0);
    expect(await store.since(one, 0)).toBe(1);
  });
});

/** A challenge is used once, whichever nodes are asked. */
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { MemorySpentChallenges } from "../../src/adapters/memory-spent-challenges.ts";
import { RedisSpentChallenges } from "../../src/adapters/redis-spent-challenges.ts";
import { systemClock } from "../../src/adapters/system-environment.ts";
import type { SpentChallenges } from "../../src/ports/spent-challenges.ts";
import { openCluster } from "../support/cluster.ts";

interface Opened {
  readonly nodes: readonly [SpentChallenges, SpentChallenges];
  dispose(): Promise<void>;
}

const adapters: readonly { readonly name: string; open(): Promise<Opened> }[] = [
  {
    name: "one process",
    open: async () => {
      const spent = new MemorySpentChallenges(systemClock);
      return { nodes: [spent, spent], dispose: async () => {} };
    },
  },
  ...(inject("cluster") === undefined
    ? []
    : [
        {
          name: "two nodes on Redis",
          open: async (): Promise<Opened> => {
            const cluster = await openCluster();
            const other = await cluster.another();
            const nodes = [cluster.redis, other.redis].map(
              (redis) => new RedisSpentChallenges(redis, systemClock),
            );
            return {
              nodes: nodes as [RedisSpentChallenges, RedisSpentChallenges],
              dispose: () => cluster.dispose(),
            };
          },
        },
      ]),
];

describe.each(adapters)("challenges spent in $name", ({ open }) => {
  let opened: Opened;
  beforeEach(async () => {
    opened = await open();
  });
  afterEach(() => opened.dispose());

  it("of many who spend one at once one is the first", async () => {
    const [a, b] = opened.nodes;
    const until = Date.now() + 30_000;
    const spent = await Promise.all(
      Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? a : b).spend("one", until)),
    );
    expect(spent.filter(Boolean)).toHaveLength(1);
    expect(await b.spend("one", until)).toBe(false);
    expect(await b.spend("another", until)).toBe(true);
  });
});

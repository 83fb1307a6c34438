/** What nodes remember of a group together, on each adapter; on Redis by two nodes. */
import { groupId } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { MemoryGroupMemory } from "../../src/adapters/memory-group-memory.ts";
import { createPinoLog } from "../../src/adapters/pino-log.ts";
import { RedisGroupMemory } from "../../src/adapters/redis-group-memory.ts";
import { systemClock } from "../../src/adapters/system-environment.ts";
import type { GroupMemory } from "../../src/ports/group-memory.ts";
import { type OpenedCluster, openCluster } from "../support/cluster.ts";
import { random } from "../support/random.ts";

const silentLog = createPinoLog("silent");
const TURN_MS = 5_000;

interface Nodes {
  readonly a: GroupMemory;
  readonly b: GroupMemory;
  readonly dispose: () => Promise<void>;
}

let opened = 0;

async function twoNodes(cluster: OpenedCluster): Promise<Nodes> {
  const other = await cluster.another();
  const [a, b] = [cluster.redis, other.redis].map(
    (redis) => new RedisGroupMemory(redis, systemClock, silentLog, `node-${++opened}`),
  ) as [RedisGroupMemory, RedisGroupMemory];
  return {
    a,
    b,
    dispose: async () => {
      a.close();
      b.close();
      await cluster.dispose();
    },
  };
}

const adapters: readonly { readonly name: string; open(): Promise<Nodes> }[] = [
  {
    name: "one process",
    open: async () => {
      const memory = new MemoryGroupMemory(systemClock);
      return { a: memory, b: memory, dispose: async () => {} };
    },
  },
  ...(inject("cluster") === undefined
    ? []
    : [{ name: "two nodes on Redis", open: async () => twoNodes(await openCluster()) }]),
];

describe.each(adapters)("the memory of a group in $name", ({ open }) => {
  let nodes: Nodes;
  const group = groupId(random(16));
  const now = () => Date.now();
  beforeEach(async () => {
    nodes = await open();
  });
  afterEach(() => nodes.dispose());

  it("is one line: whoever comes second waits, and has its turn when the first has committed", async () => {
    const { a, b } = nodes;
    const first = await a.step(group, { kind: "lost", who: "ann" }, now(), TURN_MS);
    expect(first.granted).toMatchObject({ holder: "ann", reason: "line" });
    const second = await b.step(group, { kind: "lost", who: "bob" }, now(), TURN_MS);
    expect(second.granted).toBeUndefined();
    expect(await a.line(group)).toMatchObject({ current: { holder: "ann" }, waiting: ["bob"] });
    const then = await a.step(group, { kind: "committed", who: "ann" }, now(), TURN_MS);
    expect(then).toMatchObject({ granted: { holder: "bob" }, ended: { how: "used" } });
    expect((await b.line(group)).current?.turn).toBeGreaterThan(first.granted!.turn);
  });

  it("gives fifty who come at once over all nodes one place each, and one of them the turn", async () => {
    const granted = await Promise.all(
      Array.from({ length: 50 }, async (_, i) => {
        const node = i % 2 === 0 ? nodes.a : nodes.b;
        const step = await node.step(group, { kind: "lost", who: `member ${i}` }, now(), TURN_MS);
        return step.granted;
      }),
    );
    expect(granted.filter((turn) => turn !== undefined)).toHaveLength(1);
    const { waiting } = await nodes.b.line(group);
    expect(new Set(waiting).size).toBe(49);
    expect(waiting).toHaveLength(49);
  });

  it("keeps a leaf from committing until it is pardoned, whichever node asks", async () => {
    await nodes.a.suspend(group, "aa");
    expect(await nodes.b.suspended(group)).toEqual(new Set(["aa"]));
    await nodes.b.pardon(group);
    expect(await nodes.a.suspended(group)).toEqual(new Set());
  });
});

describe.skipIf(inject("cluster") === undefined)("the memory of a group that two nodes share", () => {
  let nodes: Nodes;
  const group = groupId(random(16));
  beforeEach(async () => {
    nodes = await twoNodes(await openCluster());
  });
  afterEach(() => nodes.dispose());

  it("knows what was said about a commit on the other node, for it and against it", async () => {
    const { a, b } = nodes;
    a.vouch(group, 7, "leaf1", "account1");
    const one = { leafIndex: 3, signature: random(64) };
    const two = { leafIndex: 5, signature: random(64) };
    expect((await a.refuse(group, 7, "account3", one)).refusals).toEqual(new Map([["account3", one]]));
    const words = await b.refuse(group, 7, "account5", two);
    expect(words.refusals).toEqual(
      new Map([
        ["account3", one],
        ["account5", two],
      ]),
    );
    expect(words.vouchers).toEqual(new Map([["leaf1", "account1"]]));
    expect((await b.refuse(group, 8, "account5", two)).vouchers.size).toBe(0);
  });

  it("lets those who waited on a node that is gone out of the line with the first turn that runs out", async () => {
    const cluster = await openCluster();
    const dead = new RedisGroupMemory(cluster.redis, systemClock, silentLog, "dead");
    const alive = new RedisGroupMemory((await cluster.another()).redis, systemClock, silentLog, "alive");
    for (const who of ["d1", "d2", "d3"]) await dead.step(group, { kind: "lost", who }, 1_000, TURN_MS);
    await alive.step(group, { kind: "lost", who: "ann" }, 1_000, TURN_MS);
    dead.close();
    await cluster.redis.call("DEL", `${cluster.prefix}node:dead`);
    const step = await alive.step(group, { kind: "looked" }, 1_000 + TURN_MS, TURN_MS);
    expect(step.ended?.how).toBe("expired");
    const { current, waiting } = await alive.line(group);
    expect(waiting).toEqual(["ann"]);
    // The turn that had begun for one of them costs its time, and no other does.
    expect(current?.holder).toBe("d2");
    alive.close();
    await cluster.dispose();
  });
});

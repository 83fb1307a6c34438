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

  describe("in slow mode", () => {
    const HOUR_MS = 3_600_000;
    /** A leaf that has said nothing yet. */
    const leafOf = () => Buffer.from(random(32)).toString("hex");
    const speak = (node: GroupMemory, leaf: string, text: string, pauseMs = HOUR_MS) =>
      node.speak(group, leaf, text, pauseMs);
    const isHeard = async (...what: Parameters<typeof speak>) => (await speak(...what)) !== undefined;

    it("lets a leaf say one thing in the pause, however many it says at once and to whom; others say theirs", async () => {
      const [leaf, other] = [leafOf(), leafOf()];
      const said = await Promise.all(
        Array.from({ length: 20 }, (_, i) => isHeard(i % 2 === 0 ? nodes.a : nodes.b, leaf, `f${i}`)),
      );
      expect(said.filter((heard) => heard)).toHaveLength(1);
      expect(await isHeard(nodes.b, other, "f0")).toBe(true);
      const elsewhere = groupId(random(16));
      expect(await nodes.b.speak(elsewhere, leaf, "e1", HOUR_MS)).toBeDefined();
    });

    it("lets it say the next when the pause is over, also where that has become shorter", async () => {
      const leaf = leafOf();
      expect(await isHeard(nodes.a, leaf, "01", HOUR_MS)).toBe(true);
      expect(await isHeard(nodes.b, leaf, "02", HOUR_MS)).toBe(false);
      await new Promise((resolve) => setTimeout(resolve, 60));
      expect(await isHeard(nodes.b, leaf, "02", 50)).toBe(true);
      // Forgotten with the pause that it was said with.
      await expect.poll(() => isHeard(nodes.a, leaf, "03", HOUR_MS)).toBe(true);
      expect(await isHeard(nodes.b, leaf, "04", HOUR_MS)).toBe(false);
    });

    it("takes the same again as often as it comes, and counts it from the first time", async () => {
      const leaf = leafOf();
      const [pauseMs, startedAt] = [2_000, performance.now()];
      expect(await isHeard(nodes.a, leaf, "01", pauseMs)).toBe(true);
      await new Promise((resolve) => setTimeout(resolve, pauseMs / 2));
      for (const node of [nodes.a, nodes.b]) expect(await isHeard(node, leaf, "01", pauseMs)).toBe(true);
      expect(await isHeard(nodes.b, leaf, "02", pauseMs)).toBe(false);
      await expect.poll(() => isHeard(nodes.b, leaf, "02", pauseMs), { timeout: 4_000 }).toBe(true);
      expect(performance.now() - startedAt).toBeGreaterThan(pauseMs - 50);
      expect(performance.now() - startedAt).toBeLessThan(1.5 * pauseMs);
    });

    it("counts no longer what was taken back, once every attempt at it was, and nothing else with it", async () => {
      const leaf = leafOf();
      const [first, second] = [await speak(nodes.a, leaf, "01"), await speak(nodes.b, leaf, "01")];
      await first!();
      expect(await isHeard(nodes.a, leaf, "02")).toBe(false);
      await second!();
      expect(await isHeard(nodes.a, leaf, "02")).toBe(true);
      await second!();
      expect(await isHeard(nodes.b, leaf, "03")).toBe(false);
    });

    it("takes nothing back from the same said again after its pause", async () => {
      const leaf = leafOf();
      const late = await speak(nodes.a, leaf, "01", 50);
      await new Promise((resolve) => setTimeout(resolve, 60));
      expect(await isHeard(nodes.b, leaf, "01")).toBe(true);
      await late!();
      expect(await isHeard(nodes.b, leaf, "02")).toBe(false);
    });
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

  it("goes by one clock in slow mode, whatever those of the nodes say", async () => {
    const cluster = await openCluster();
    const ahead = { ...systemClock, now: () => Date.now() + 7_200_000 };
    const [here, there] = [
      new RedisGroupMemory(cluster.redis, systemClock, silentLog, "here"),
      new RedisGroupMemory((await cluster.another()).redis, ahead, silentLog, "ahead"),
    ];
    expect(await here.speak(group, "aa", "01", 3_600_000)).toBeDefined();
    expect(await there.speak(group, "aa", "02", 3_600_000)).toBeUndefined();
    here.close();
    there.close();
    await cluster.dispose();
  });

  it("keeps what was said in slow mode for one pause, under a name that names nobody", async () => {
    const cluster = await openCluster();
    const memory = new RedisGroupMemory(cluster.redis, systemClock, silentLog, "one");
    const leaf = Buffer.from(random(32)).toString("hex");
    await memory.speak(group, leaf, "01", 3_600_000);
    const keys = async () =>
      ((await cluster.redis.call("KEYS", `${cluster.prefix}*:said:*`)) as readonly Buffer[]).map(String);
    const [key] = await keys();
    expect(key).not.toContain(leaf);
    expect(Number(await cluster.redis.call("PTTL", key!))).toBeLessThanOrEqual(3_600_000);
    expect(Number(await cluster.redis.call("PTTL", key!))).toBeGreaterThan(3_500_000);
    memory.close();
    await cluster.dispose();
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

/** Nodes know who is connected to another one, and know nothing rather than something wrong. */
import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { MemoryPresence } from "../../src/adapters/memory-presence.ts";
import { RedisClient } from "../../src/adapters/redis-client.ts";
import { RedisPresence } from "../../src/adapters/redis-presence.ts";
import { type LocalRedis, startLocalRedis } from "../../src/local-engines/index.ts";
import type { Presence } from "../../src/ports/presence.ts";
import { openCluster } from "../support/cluster.ts";

interface Opened {
  readonly nodes: readonly [Presence, Presence];
  dispose(): Promise<void>;
}

const adapters: readonly { readonly name: string; open(): Promise<Opened> }[] = [
  {
    name: "in one process",
    open: async () => {
      const nodes = new Map<string, MemoryPresence>();
      return { nodes: [new MemoryPresence(nodes), new MemoryPresence(nodes)], dispose: async () => {} };
    },
  },
  ...(inject("cluster") === undefined
    ? []
    : [
        {
          name: "on Redis",
          open: async (): Promise<Opened> => {
            const cluster = await openCluster();
            const other = await cluster.another();
            const first = new RedisPresence(cluster.redis, randomUUID());
            // The second one has heard of the first, and the first hears of it with its next beat.
            const second = new RedisPresence(other.redis, randomUUID());
            return {
              nodes: [first, second],
              dispose: async () => {
                await Promise.all([first.close(), second.close()]);
                await cluster.dispose();
              },
            };
          },
        },
      ]),
];

/** Asked until the answer is this one: what a node says others hear soon, and who else there is with the next beat. */
const expectElsewhere = (node: Presence, names: readonly string[], there: readonly boolean[]) =>
  expect
    .poll(async () => (await node.elsewhere(names)).map((found) => found !== undefined), { timeout: 8_000 })
    .toEqual(there);

describe.each(adapters)("presence $name", ({ open }) => {
  let opened: Opened;
  beforeEach(async () => {
    opened = await open();
  });
  afterEach(() => opened.dispose());

  it("is of those who are connected to another node, for as long as they are", async () => {
    const [a, b] = opened.nodes;
    a.came("ann");
    a.came("bob");
    b.came("carol");
    await expectElsewhere(b, ["ann", "bob", "carol", "dave"], [true, true, false, false]);
    await expectElsewhere(a, ["ann", "carol"], [false, true]);
    a.went("ann");
    await expectElsewhere(b, ["ann", "bob"], [false, true]);
    a.came("ann");
    await expectElsewhere(b, ["ann", "bob"], [true, true]);
    expect(await b.elsewhere([])).toEqual([]);
  }, 20_000);

  it("of a node that closes nobody is left, and it is not alive", async () => {
    const [a, b] = opened.nodes;
    a.came("ann");
    await expectElsewhere(b, ["ann"], [true]);
    const [node] = await b.elsewhere(["ann"]);
    expect(b.isAlive(node!)).toBe(true);
    await a.close();
    await expectElsewhere(b, ["ann"], [false]);
    await expect.poll(() => b.isAlive(node!), { timeout: 8_000 }).toBe(false);
  }, 20_000);
});

describe.skipIf(inject("cluster") === undefined)("presence when Redis goes away", () => {
  let local: LocalRedis;
  beforeEach(async () => {
    local = await startLocalRedis();
  }, 30_000);
  afterEach(() => local.dispose());

  it("is unknown, so that everybody is woken; and is written anew when Redis is there again without it", async () => {
    const clients = await Promise.all([0, 1].map(() => RedisClient.open({ url: local.url })));
    const nodes = clients.map((client) => new RedisPresence(client, randomUUID()));
    const [a, b] = [nodes[0]!, nodes[1]!];
    a.came("ann");
    a.came("bob");
    await expectElsewhere(b, ["ann", "bob"], [true, true]);
    await local.kill();
    expect(await b.elsewhere(["ann", "bob"])).toEqual([undefined, undefined]);
    // It goes while nobody can be told.
    a.went("ann");
    await local.start();
    await expectElsewhere(b, ["ann", "bob"], [false, true]);
    // Everything is gone from Redis: it comes again with a beat.
    const wiper = await RedisClient.open({ url: local.url });
    await wiper.call("FLUSHALL");
    await expectElsewhere(b, ["ann", "bob"], [false, true]);
    await Promise.all([a.close(), b.close()]);
    await Promise.all([...clients, wiper].map((client) => client.close()));
  }, 60_000);

  it("of a node that died without a word ends by itself", async () => {
    const clients = await Promise.all([0, 1].map(() => RedisClient.open({ url: local.url })));
    const nodes = clients.map((client) => new RedisPresence(client, randomUUID()));
    const [a, b] = [nodes[0]!, nodes[1]!];
    a.came("ann");
    await expectElsewhere(b, ["ann"], [true]);
    await clients[0]!.close();
    await expect
      .poll(async () => (await b.elsewhere(["ann"]))[0], { timeout: 25_000, interval: 500 })
      .toBeUndefined();
    await b.close();
    await clients[1]!.close();
  }, 60_000);
});

import { accountId, type DeviceAddress, type DeviceId, envelopeId, groupId } from "@murmuration/base";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { createPinoLog } from "../../src/adapters/pino-log.ts";
import { RedisClient } from "../../src/adapters/redis-client.ts";
import { RedisGroupMemory } from "../../src/adapters/redis-group-memory.ts";
import { RedisMailboxStore } from "../../src/adapters/redis-mailboxes.ts";
import { RedisPresence } from "../../src/adapters/redis-presence.ts";
import { RedisRateLimits } from "../../src/adapters/redis-rate-limits.ts";
import { systemClock } from "../../src/adapters/system-environment.ts";
import { type LocalRedis, startLocalRedis } from "../../src/local-engines/index.ts";
import { random } from "../support/random.ts";

const NOW = 1_800_000_000_000;

// One node that holds every slot refuses what would need two nodes, as a larger cluster does.
describe.skipIf(inject("cluster") === undefined)("on a Redis that runs as a cluster", () => {
  let local: LocalRedis;
  let redis: RedisClient;
  beforeAll(async () => {
    local = await startLocalRedis({ "cluster-enabled": "yes" });
    redis = await RedisClient.open({ url: local.url });
    await redis.call("CLUSTER", "ADDSLOTSRANGE", 0, 16_383);
    while (!String(await redis.call("CLUSTER", "INFO")).includes("cluster_state:ok")) {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }, 30_000);
  afterAll(async () => {
    await redis.close();
    await local.dispose();
  });

  it("a command over two slots is refused: the test would notice one", async () => {
    await expect(redis.call("DEL", "one", "another")).rejects.toMatchObject({ code: "store/redis-refused" });
  });

  it("every operation on mailboxes keeps to one slot at a time", async () => {
    const store = new RedisMailboxStore(redis);
    const owner = (): DeviceAddress => ({ accountId: accountId(random(16)), deviceId: 1 as DeviceId });
    const owners = Array.from({ length: 300 }, owner);
    const append = {
      submitHash: random(32),
      envelopes: owners.map((recipient) => ({ recipient, ciphertext: random(50), source: undefined })),
      acceptedAtMs: NOW,
      limits: { maxEnvelopes: 2, maxBytes: 1_000 },
    };
    expect(await store.append(append)).toMatchObject({ kind: "missing" });
    await Promise.all(owners.map((recipient) => store.open(recipient, NOW)));
    expect(await store.append(append)).toEqual({ kind: "stored" });
    expect(await store.append(append)).toEqual({ kind: "repeated" });
    const toOne = { ...append, submitHash: random(32), envelopes: append.envelopes.slice(0, 1) };
    expect(await store.append(toOne)).toEqual({ kind: "stored" });
    expect(await store.wasStored(toOne.submitHash)).toBe(true);
    expect(await store.append({ ...append, submitHash: random(32) })).toEqual({
      kind: "full",
      devices: [owners[0]],
    });
    expect(await store.totals()).toEqual({ envelopes: 301, bytes: 301 * 50 });
    expect(await store.acknowledge(owners[0]!, envelopeId(1))).toBe(1);
    await store.discard(owners[1]!, [envelopeId(1)]);
    const before = await store.storeId();
    await store.count();
    await store.requireState(before, store.state()!);
    expect(await store.storeId()).toEqual(before);
    await store.requireState(before, { run: random(8), count: 1 });
    expect(await store.storeId()).not.toEqual(before);
    await store.remove(owners[2]!);
    expect(await store.owners(undefined, 1_000, NOW + 1)).toHaveLength(299);
    await store.sweep();
    expect(await store.expireEnvelopes(NOW + 1, 1_000)).toBe(298);
    expect(await store.expireSubmits(NOW + 1, 1_000)).toBe(2);
    expect(await store.totals()).toEqual({ envelopes: 0, bytes: 0 });
    // What is left once everybody has gone: the store's id, and what was carried out, for ten minutes.
    await Promise.all(owners.map((recipient) => store.remove(recipient)));
    const left = ((await redis.call("KEYS", "*")) as readonly Buffer[]).map(String);
    expect(left.filter((key) => !key.endsWith(":done")).sort()).toEqual([
      "murmuration:store-id",
      "{murmuration:store-id}:counts",
    ]);
  });

  it("who is connected to which node is asked and told in one slot at a time", async () => {
    const nodes = ["one", "two"].map((node) => new RedisPresence(redis, node));
    const [a, b] = [nodes[0]!, nodes[1]!];
    const names = Array.from({ length: 100 }, (_, i) => `device ${i}`);
    for (const name of names) a.came(name);
    const elsewhere = async () => (await b.elsewhere(names)).filter((node) => node === "one").length;
    await expect.poll(elsewhere, { timeout: 8_000 }).toBe(100);
    for (const name of names.slice(0, 40)) a.went(name);
    await expect.poll(elsewhere).toBe(60);
    await Promise.all([a.close(), b.close()]);
    const left = ((await redis.call("KEYS", "murmuration:presence*")) as readonly Buffer[]).map(String);
    expect(left).toEqual([]);
  });

  it("what is remembered of a group is in one slot", async () => {
    const memory = new RedisGroupMemory(redis, systemClock, createPinoLog("silent"), "one");
    const group = groupId(random(16));
    const lost = await memory.step(group, { kind: "lost", who: "ann" }, Date.now(), 5_000);
    expect(lost.granted).toMatchObject({ holder: "ann" });
    expect(await memory.line(group)).toMatchObject({ current: { holder: "ann" } });
    memory.vouch(group, 1, "aa", "ann");
    const refusal = { leafIndex: 3, signature: random(64) };
    const words = await memory.refuse(group, 1, "bob", refusal);
    expect(words.vouchers).toEqual(new Map([["aa", "ann"]]));
    expect(words.refusals.has("bob")).toBe(true);
    memory.close();
    // Had Redis refused something, the node would have gone on with a memory of its own.
    const shared = ((await redis.call("KEYS", "murmuration:{group:*")) as readonly Buffer[]).map(String);
    expect(shared.map((key) => key.split("}:")[1]).sort()).toEqual(["line", "refusals:1", "vouchers:1"]);
  });

  it("charges of several buckets keep to one slot each", async () => {
    const limits = new RedisRateLimits(redis, { clock: systemClock });
    const size = { capacity: 2, refillPerSecond: 0.001 };
    const charges = Array.from({ length: 20 }, (_, i) => ({ key: `bucket ${i}`, size, cost: 2 }));
    expect(await limits.take(charges.slice(0, 10))).toMatchObject({ allowed: true });
    expect(await limits.take(charges)).toMatchObject({ allowed: false });
    expect(await limits.take(charges.slice(10))).toMatchObject({ allowed: true });
  });
});

import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { accountId, type DeviceAddress, type DeviceId, groupId } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { createPinoLog } from "../../src/adapters/pino-log.ts";
import { RedisBus } from "../../src/adapters/redis-bus.ts";
import { checkRedisDurability, RedisClient } from "../../src/adapters/redis-client.ts";
import { RedisGroupMemory } from "../../src/adapters/redis-group-memory.ts";
import { RedisGroupSignals } from "../../src/adapters/redis-group-signals.ts";
import { RedisMailboxSignals } from "../../src/adapters/redis-mailbox-signals.ts";
import { RedisMailboxStore } from "../../src/adapters/redis-mailboxes.ts";
import { RedisRateLimits, type WithoutRedis } from "../../src/adapters/redis-rate-limits.ts";
import { systemClock } from "../../src/adapters/system-environment.ts";
import { type LocalRedis, startLocalRedis } from "../../src/local-engines/index.ts";
import type { CarriedEntry } from "../../src/ports/group-signals.ts";
import type { Append } from "../../src/ports/mailboxes.ts";
import { random } from "../support/random.ts";
import { movableClock } from "../support/service.ts";

const address = (): DeviceAddress => ({ accountId: accountId(random(16)), deviceId: 1 as DeviceId });

const to = (...recipients: readonly DeviceAddress[]): Append => ({
  submitHash: random(32),
  envelopes: recipients.map((recipient) => ({ recipient, ciphertext: random(50), source: undefined })),
  acceptedAtMs: 1_800_000_000_000,
  limits: { maxEnvelopes: 1_000, maxBytes: 1_000_000 },
});

const TIMEOUT_MS = 2_000;
/** At once, on a machine that has much to do. */
const AT_ONCE_MS = 500;

describe.skipIf(inject("cluster") === undefined)("when Redis goes away", { timeout: 30_000 }, () => {
  let local: LocalRedis;
  const clients: RedisClient[] = [];
  beforeEach(async () => {
    local = await startLocalRedis();
  });
  afterEach(async () => {
    local.thaw();
    await Promise.all(clients.splice(0).map((client) => client.close()));
    await local.dispose();
  });

  async function open(commandTimeoutMs = TIMEOUT_MS): Promise<RedisClient> {
    const client = await RedisClient.open({ url: local.url, commandTimeoutMs });
    clients.push(client);
    return client;
  }

  describe("mailboxes", () => {
    it("refuse at once while it is down, and take again by themselves when it is back, with all they held", async () => {
      const store = new RedisMailboxStore(await open());
      const owner = address();
      await store.open(owner, 0);
      const before = to(owner);
      expect(await store.append(before)).toEqual({ kind: "stored" });
      await local.kill();
      for (let i = 0; i < 3; i++) {
        const startedAt = performance.now();
        await expect(store.append(to(owner))).rejects.toMatchObject({ code: "store/redis-unreachable" });
        await expect(store.wasStored(random(32))).rejects.toMatchObject({ code: "store/redis-unreachable" });
        expect(performance.now() - startedAt).toBeLessThan(AT_ONCE_MS);
      }
      await local.start();
      await untilTrue(async () => (await store.append(to(owner)).catch(() => undefined)) !== undefined);
      expect(await store.append(before)).toEqual({ kind: "repeated" });
      expect(await store.lastId(owner)).toBe(2);
    });

    it("let nobody wait longer than a command may take while it is frozen, and later callers not at all", async () => {
      const store = new RedisMailboxStore(await open());
      const owner = address();
      await store.open(owner, 0);
      local.freeze();
      const startedAt = performance.now();
      const refused = { code: "store/redis-unreachable" };
      await Promise.all(
        Array.from({ length: 5 }, () => expect(store.append(to(owner))).rejects.toMatchObject(refused)),
      );
      expect(performance.now() - startedAt).toBeLessThan(TIMEOUT_MS + AT_ONCE_MS);
      const nextAt = performance.now();
      for (let i = 0; i < 3; i++) await expect(store.append(to(owner))).rejects.toMatchObject(refused);
      expect(performance.now() - nextAt).toBeLessThan(AT_ONCE_MS);
      local.thaw();
      await untilTrue(async () => (await store.append(to(owner)).catch(() => undefined)) !== undefined);
    });

    it("tell of the loss when its disk is lost: another store id, said before anything is acknowledged in the new one", async () => {
      const store = new RedisMailboxStore(await open());
      const owner = address();
      await store.open(owner, 0);
      await store.append(to(owner));
      const before = await store.storeId();
      const lost: unknown[] = [];
      store.onLost((id) => lost.push(id));
      await local.kill();
      await local.start();
      await untilTrue(async () => (await store.lastId(owner).catch(() => undefined)) === 1);
      expect(await store.storeId()).toEqual(before);
      expect(lost).toEqual([]);
      await local.kill();
      local.loseDisk();
      await local.start();
      await untilTrue(async () => lost.length > 0);
      expect(lost).toEqual([await store.storeId()]);
      expect(lost).not.toEqual([before]);
      expect(await store.append(to(owner))).toEqual({ kind: "missing", devices: [owner] });
    });

    it("flushed without a word, an acknowledgement of the old store's ids deletes nothing in the new one", async () => {
      const redis = await open();
      const [store, other] = [new RedisMailboxStore(redis), new RedisMailboxStore(await open())];
      const owner = address();
      await store.open(owner, 0);
      for (let i = 0; i < 3; i++) await store.append(to(owner));
      await store.storeId();
      await redis.call("FLUSHALL");
      await other.open(owner, 0);
      await other.append(to(owner));
      await expect(store.acknowledge(owner, 3 as never)).rejects.toMatchObject({
        code: "store/mailboxes-lost",
      });
      expect(await store.depth(owner)).toMatchObject({ envelopes: 1 });
    });
  });

  it("what was acknowledged is no longer in Redis's file once it was written anew", async () => {
    const redis = await open(5_000);
    const store = new RedisMailboxStore(redis);
    const owners = [address(), address(), address()];
    await Promise.all(owners.map((owner) => store.open(owner, 0)));
    const content = random(50);
    const envelopes = owners.map((recipient) => ({ recipient, ciphertext: content, source: undefined }));
    await store.append({ ...to(...owners), envelopes });
    await Promise.all(owners.map((owner) => store.acknowledge(owner, 1 as never)));
    const [, directory] = ((await redis.call("CONFIG", "GET", "dir")) as readonly Buffer[]).map(String);
    const isOnDisk = () => {
      const files = join(directory!, "appendonlydir");
      return readdirSync(files).some((name) =>
        readFileSync(join(files, name)).includes(Buffer.from(content)),
      );
    };
    expect(isOnDisk()).toBe(true);
    await store.compact();
    await untilTrue(async () => {
      try {
        return !isOnDisk();
      } catch (error) {
        // Redis replaces its files meanwhile: one that was listed may be gone.
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
        return false;
      }
    });
    // Another node asks as well: it was done.
    await store.compact();
  });

  describe("signals", () => {
    function listener() {
      const heard: string[] = [];
      return {
        heard,
        lookAgain: (entry?: CarriedEntry) =>
          void heard.push(entry === undefined ? "look" : `entry ${entry.sequence}, ${entry.frame.length}`),
        membersChanged: () => void heard.push("members"),
        turnsChanged: () => void heard.push("turns"),
        ephemeral: ({ ciphertext, acceptedAtMs }: { ciphertext: Uint8Array; acceptedAtMs: number }) =>
          void heard.push(`ephemeral ${ciphertext.length} ${acceptedAtMs}`),
        stockLow: ({ preKeys }: { preKeys: number }) => void heard.push(`stock ${preKeys}`),
        keyPackagesLow: ({ keyPackages }: { keyPackages: number }) =>
          void heard.push(`packages ${keyPackages}`),
      };
    }
    const node = async () => {
      const bus = new RedisBus(await open());
      return { mailboxes: new RedisMailboxSignals(bus), groups: new RedisGroupSignals(bus) };
    };

    it("reach listeners of another node with what they carry, and those of the own one once", async () => {
      const [here, there] = [await node(), await node()];
      const device = address();
      const [mine, theirs] = [listener(), listener()];
      here.mailboxes.subscribe(device, mine);
      const end = there.mailboxes.subscribe(device, theirs);
      // Once the subscription took effect each is told to look: what came before was not heard.
      await untilTrue(async () => mine.heard.length > 0 && theirs.heard.length > 0);
      here.mailboxes.publish([device, address()]);
      here.mailboxes.forward(device, { ciphertext: random(70), acceptedAtMs: 1_800_000_000_000 });
      here.mailboxes.stockLow(device, { preKeys: 5, kyberPreKeys: 6 });
      here.mailboxes.keyPackagesLow(device, { keyPackages: 7 } as never);
      const expected = ["look", "look", "ephemeral 70 1800000000000", "stock 5", "packages 7"];
      await untilTrue(async () => theirs.heard.length === expected.length);
      expect(theirs.heard).toEqual(expected);
      expect(mine.heard).toEqual(expected);
      end();
      here.mailboxes.publish([device]);
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect(theirs.heard).toEqual(expected);
      expect(mine.heard).toEqual([...expected, "look"]);
    });

    it("of groups carry a small entry along, and of a large one only that it is there", async () => {
      const [here, there] = [await node(), await node()];
      const group = groupId(random(16));
      const theirs = listener();
      there.groups.subscribe(group, theirs);
      await untilTrue(async () => theirs.heard.length === 3);
      here.groups.publish(group, "entries", { sequence: 2 ** 40, frame: random(900) });
      here.groups.publish(group, "entries", { sequence: 3, frame: random(100_000) });
      here.groups.publish(group, "entries");
      here.groups.publish(group, "members");
      here.groups.publish(group, "turns");
      await untilTrue(async () => theirs.heard.length === 8);
      expect(theirs.heard.slice(3)).toEqual([`entry ${2 ** 40}, 900`, "look", "look", "members", "turns"]);
    });

    it("reach the own node at once while it is down, and everybody is told to look when it is back", async () => {
      const [here, there] = [await node(), await node()];
      const device = address();
      const [mine, theirs] = [listener(), listener()];
      here.mailboxes.subscribe(device, mine);
      there.mailboxes.subscribe(device, theirs);
      await untilTrue(async () => mine.heard.length > 0 && theirs.heard.length > 0);
      await local.kill();
      here.mailboxes.publish([device]);
      expect(mine.heard).toEqual(["look", "look"]);
      expect(theirs.heard).toEqual(["look"]);
      await local.start();
      // By its own node, and perhaps by the one that could not say it: whichever was there first.
      await untilTrue(async () => theirs.heard.length >= 2 && clients.every(({ isReady }) => isReady));
      expect(new Set(theirs.heard)).toEqual(new Set(["look"]));
      const later = listener();
      const another = address();
      there.mailboxes.subscribe(another, later);
      await untilTrue(async () => later.heard.length === 1);
      here.mailboxes.publish([another]);
      await untilTrue(async () => later.heard.length === 2);
    });

    it("find out that their connection is dead although nobody closed it", async () => {
      const wire = await stallableWire(Number(new URL(local.url).port));
      const redis = await RedisClient.open({ url: `redis://127.0.0.1:${wire.port}` });
      clients.push(redis);
      const signals = new RedisMailboxSignals(new RedisBus(redis, 50));
      const device = address();
      const mine = listener();
      signals.subscribe(device, mine);
      await untilTrue(async () => mine.heard.length === 1);
      // The second connection is the subscription: it goes silent, commands go on.
      wire.stall(1);
      const other = await node();
      other.mailboxes.publish([device]);
      await untilTrue(async () => mine.heard.length === 2);
      other.mailboxes.publish([device]);
      await untilTrue(async () => mine.heard.length === 3);
      wire.close();
    });

    it("name nobody: what Redis sees of a channel is a hash", async () => {
      const redis = await open();
      const signals = new RedisMailboxSignals(new RedisBus(redis));
      const device = address();
      const mine = listener();
      signals.subscribe(device, mine);
      await untilTrue(async () => mine.heard.length > 0);
      const channels = ((await redis.call("PUBSUB", "CHANNELS")) as readonly Buffer[]).map(String);
      expect(channels.filter((channel) => channel.includes(":mailbox:"))).toHaveLength(1);
      const names = [
        Buffer.from(device.accountId).toString("base64url"),
        Buffer.from(device.accountId).toString("hex"),
      ];
      for (const name of names) expect(channels.join(" ")).not.toContain(name);
    });
  });

  describe("limits", () => {
    const size = { capacity: 8, refillPerSecond: 1 };
    const charge = (key: string, cost = 1) => ({ key, size, cost });
    /** Redis's own time goes on meanwhile: a hundredth of a token a second is none. */
    const slow = (key: string, cost: number) => ({ key, size: { ...size, refillPerSecond: 0.01 }, cost });
    const clock = movableClock(1_000_000);

    it("are one for all nodes, and give back what was taken where another bucket refuses", async () => {
      const nodes = [await open(), await open()].map((redis) => new RedisRateLimits(redis, { clock }));
      const taken = await Promise.all(
        Array.from({ length: 12 }, (_, i) => nodes[i % 2]!.take([slow("submits a", 1)])),
      );
      expect(taken.filter(({ allowed }) => allowed).length).toBe(8);
      const refused = await nodes[0]!.take([slow("submits b", 8), slow("submits a", 4)]);
      expect(refused.allowed).toBe(false);
      expect(refused.retryAfterMs).toBeGreaterThan(390_000);
      expect(refused.retryAfterMs).toBeLessThanOrEqual(400_000);
      expect(await nodes[1]!.take([slow("submits b", 8)])).toMatchObject({ allowed: true });
      expect(await nodes[1]!.take([slow("submits c", 9)])).toEqual({
        allowed: false,
        retryAfterMs: Number.POSITIVE_INFINITY,
      });
    });

    it("leave no key behind for a bucket that is full again, and none that names anybody", async () => {
      const redis = await open();
      const limits = new RedisRateLimits(redis, { clock });
      await limits.take([{ key: "submits 192.0.2.7", size: { capacity: 8, refillPerSecond: 2 }, cost: 4 }]);
      const keys = () => redis.call("KEYS", "*rate*") as Promise<readonly Buffer[]>;
      expect(await keys()).toHaveLength(1);
      expect(String((await keys())[0])).not.toContain("192.0.2.7");
      await untilTrue(async () => (await keys()).length === 0);
    });

    it("go on without it: each kind as it was told to, counted", async () => {
      const counted: WithoutRedis[] = [];
      const limits = new RedisRateLimits(await open(), {
        clock,
        nodes: 4,
        withoutRedis: { registrations: "closed", trees: "open" },
        report: (choice) => counted.push(choice),
      });
      await limits.take([charge("submits a", 1)]);
      await local.kill();
      // A quarter of eight for this node, and no less than one action.
      expect(await limits.take([charge("submits a", 2)])).toEqual({ allowed: true, retryAfterMs: 0 });
      expect(await limits.take([charge("submits a", 1)])).toEqual({ allowed: false, retryAfterMs: 4_000 });
      expect(await limits.take([charge("submits b", 6)])).toMatchObject({ allowed: true });
      expect(await limits.take([charge("registrations a")])).toEqual({ allowed: false, retryAfterMs: 1_000 });
      expect(await limits.take([charge("trees a", 7)])).toMatchObject({ allowed: true });
      expect(await limits.take([charge("trees a", 7)])).toMatchObject({ allowed: true });
      expect(counted).toEqual(["share", "share", "share", "closed", "open", "open"]);
      await local.start();
      await untilTrue(async () => {
        counted.length = 0;
        await limits.take([charge("submits d", 0)]);
        return counted.length === 0;
      });
      expect(await limits.take([charge("submits d", 8)])).toMatchObject({ allowed: true });
    });
  });

  it("slow mode goes on without it, counted by each node for itself, and by both together when it is back", async () => {
    const [here, there] = [await open(), await open()].map(
      (redis, index) => new RedisGroupMemory(redis, systemClock, createPinoLog("silent"), `node-${index}`),
    ) as [RedisGroupMemory, RedisGroupMemory];
    const group = groupId(random(16));
    const isHeard = async (node: RedisGroupMemory, text: string) =>
      (await node.speak(group, "aa", text, 3_600_000)) !== undefined;
    expect(await isHeard(here, "01")).toBe(true);
    const taken = await there.speak(group, "bb", "01", 3_600_000);
    await local.kill();
    // What cannot be taken back now counts until its pause is over.
    await taken!();
    for (const node of [here, there]) {
      expect(await isHeard(node, "02")).toBe(true);
      expect(await isHeard(node, "03")).toBe(false);
    }
    await local.start();
    await untilTrue(async () => !(await isHeard(there, "02")));
    expect(await isHeard(there, "01")).toBe(true);
    here.close();
    there.close();
  });

  it("a Redis that may forget what it has answered is refused, and every reason is named", async () => {
    const redis = await open();
    expect(await checkRedisDurability(redis)).toEqual([]);
    await redis.call("CONFIG", "SET", "appendfsync", "everysec", "maxmemory-policy", "allkeys-lru");
    await redis.call("CONFIG", "SET", "no-appendfsync-on-rewrite", "yes");
    expect(await checkRedisDurability(redis)).toEqual([
      "redis/append-fsync-not-always",
      "redis/no-fsync-on-rewrite",
      "redis/eviction-on",
    ]);
    await expect(open()).rejects.toMatchObject({ code: "redis/append-fsync-not-always" });
    await redis.call("CONFIG", "SET", "appendonly", "no");
    await expect(open()).rejects.toMatchObject({ code: "redis/append-only-off" });
    clients.push(await RedisClient.open({ url: local.url, requireDurable: false }));
    await redis.call("ACL", "SETUSER", "default", "-config");
    expect(await checkRedisDurability(redis)).toEqual(["redis/settings-hidden"]);
  });
});

/** A way to a port on which single connections can be made to stand still, without an end. */
async function stallableWire(port: number) {
  const pairs: (readonly [Socket, Socket])[] = [];
  const server = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    pairs.push([near, far]);
    near.pipe(far).pipe(near);
    for (const socket of [near, far]) socket.on("error", () => {});
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    stall(index: number) {
      const [near, far] = pairs[index]!;
      near.unpipe(far);
      far.unpipe(near);
    },
    close() {
      server.close();
      for (const socket of pairs.flat()) socket.destroy();
    },
  };
}

async function untilTrue(met: () => Promise<boolean>): Promise<void> {
  const until = performance.now() + 20_000;
  while (!(await met())) {
    if (performance.now() > until) throw new Error("it did not come about");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

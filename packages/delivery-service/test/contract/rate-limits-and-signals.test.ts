import { accountId, type DeviceId, groupId } from "@murmuration/base";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { MemoryGroupSignals } from "../../src/adapters/memory-group-signals.ts";
import { MemoryMailboxSignals } from "../../src/adapters/memory-mailbox-signals.ts";
import { MemoryRateLimits } from "../../src/adapters/memory-rate-limits.ts";
import { RedisBus } from "../../src/adapters/redis-bus.ts";
import type { RedisCommands } from "../../src/adapters/redis-client.ts";
import { RedisGroupSignals } from "../../src/adapters/redis-group-signals.ts";
import { RedisMailboxSignals } from "../../src/adapters/redis-mailbox-signals.ts";
import { RedisRateLimits } from "../../src/adapters/redis-rate-limits.ts";
import type { GroupListener, GroupSignals } from "../../src/ports/group-signals.ts";
import type { MailboxListener, MailboxSignals } from "../../src/ports/mailbox-signals.ts";
import type { RateLimits } from "../../src/ports/rate-limits.ts";
import { type OpenedCluster, openCluster } from "../support/cluster.ts";
import { random } from "../support/random.ts";
import { movableClock } from "../support/service.ts";

const clock = movableClock(1_000_000);
const hasCluster = inject("cluster") !== undefined;
let cluster: OpenedCluster;
let bus: RedisBus;
beforeAll(async () => {
  if (!hasCluster) return;
  cluster = await openCluster();
  bus = new RedisBus(cluster.redis);
});
afterAll(() => cluster?.dispose());

/** Keys of its own for each, as if nothing had been counted before. */
let created = 0;
const anew = (): RedisCommands => {
  const { redis } = cluster;
  return {
    prefix: `${cluster.prefix}${created++}:`,
    call: (command, ...args) => redis.call(command, ...args),
    run: (script, keys, ...args) => redis.run(script, keys, ...args),
    onReconnect: () => {},
    repeat: () => {},
  };
};

const rateLimitAdapters: readonly { readonly name: string; create(): RateLimits }[] = [
  { name: "memory", create: () => new MemoryRateLimits(clock) },
  ...(hasCluster
    ? [{ name: "Redis", create: () => new RedisRateLimits(anew(), { clock, useOwnClock: true }) }]
    : []),
];
const signalAdapters: readonly { readonly name: string; create(): MailboxSignals }[] = [
  { name: "memory", create: () => new MemoryMailboxSignals() },
  ...(hasCluster ? [{ name: "Redis", create: () => new RedisMailboxSignals(bus) }] : []),
];

const groupSignalAdapters: readonly { readonly name: string; create(): GroupSignals }[] = [
  { name: "memory", create: () => new MemoryGroupSignals() },
  ...(hasCluster ? [{ name: "Redis", create: () => new RedisGroupSignals(bus) }] : []),
];

describe.each(rateLimitAdapters)("rate limits on $name", ({ create }) => {
  const size = { capacity: 3, refillPerSecond: 1 };
  const charge = (key: string, cost = 1) => ({ key, size, cost });

  it("takes every charge or none", async () => {
    const limits = create();
    expect(await limits.take([charge("a", 2), charge("b", 2)])).toEqual({ allowed: true, retryAfterMs: 0 });
    expect(await limits.take([charge("c", 3), charge("a", 2)])).toEqual({
      allowed: false,
      retryAfterMs: 1_000,
    });
    expect(await limits.take([charge("c", 3)])).toMatchObject({ allowed: true });
    clock.advance(1_000);
    expect(await limits.take([charge("a", 2), charge("b", 2)])).toMatchObject({ allowed: true });
  });

  it("counts one key twice when it is charged twice", async () => {
    const limits = create();
    expect(await limits.take([charge("a", 2), charge("a", 2)])).toMatchObject({ allowed: false });
    expect(await limits.take([charge("a", 1), charge("a", 2)])).toMatchObject({ allowed: true });
  });

  it("forgets full buckets, not empty ones, when very many keys come", async () => {
    const limits = create();
    await limits.take([charge("spent", 3)]);
    await Promise.all(Array.from({ length: 5_000 }, (_, i) => limits.take([charge(`key ${i}`)])));
    expect(await limits.take([charge("spent", 3)])).toMatchObject({ allowed: false });
  });
});

describe.each(signalAdapters)("mailbox signals on $name", ({ create }) => {
  const address = () => ({ accountId: accountId(random(16)), deviceId: 1 as DeviceId });

  function listener(): MailboxListener & { readonly heard: string[] } {
    const heard: string[] = [];
    return {
      heard,
      lookAgain: () => void heard.push("look again"),
      ephemeral: ({ ciphertext }) => void heard.push(`ephemeral ${ciphertext.length}`),
      keyPackagesLow: ({ keyPackages }) => void heard.push(`key packages low ${keyPackages}`),
      stockLow: ({ preKeys }) => void heard.push(`stock ${preKeys}`),
    };
  }

  it("reaches who listens for the address, and nobody after the end of the subscription", () => {
    const signals = create();
    const [here, there] = [address(), address()];
    const [a, b, other] = [listener(), listener(), listener()];
    const end = signals.subscribe(here, a);
    signals.subscribe(here, b);
    signals.subscribe(there, other);
    signals.publish([here, address()]);
    signals.forward(here, { ciphertext: random(7), acceptedAtMs: 0 });
    signals.stockLow(here, { preKeys: 24, kyberPreKeys: 30 });
    end();
    signals.publish([here]);
    expect(a.heard).toEqual(["look again", "ephemeral 7", "stock 24"]);
    expect(b.heard).toEqual([...a.heard, "look again"]);
    expect(other.heard).toEqual([]);
  });

  it("the end of an old subscription, said twice, does not end a new one", () => {
    const signals = create();
    const here = address();
    const end = signals.subscribe(here, listener());
    end();
    const second = listener();
    signals.subscribe(here, second);
    end();
    signals.publish([here]);
    expect(second.heard).toEqual(["look again"]);
  });
});

describe.each(groupSignalAdapters)("group signals on $name", ({ create }) => {
  function listener(): GroupListener & { readonly heard: string[] } {
    const heard: string[] = [];
    return {
      heard,
      lookAgain: () => void heard.push("look again"),
      membersChanged: () => void heard.push("members changed"),
      turnsChanged: () => void heard.push("turns changed"),
    };
  }

  it("reaches who has the group open, and nobody after the end of the subscription", () => {
    const signals = create();
    const [here, there] = [groupId(random(16)), groupId(random(16))];
    const [a, b, other] = [listener(), listener(), listener()];
    const end = signals.subscribe(here, a);
    signals.subscribe(here, b);
    signals.subscribe(there, other);
    signals.publish(here, "entries");
    signals.publish(groupId(random(16)), "entries");
    signals.publish(here, "members");
    signals.publish(here, "turns");
    end();
    end();
    signals.publish(here, "entries");
    expect(a.heard).toEqual(["look again", "members changed", "turns changed"]);
    expect(b.heard).toEqual([...a.heard, "look again"]);
    expect(other.heard).toEqual([]);
  });

  it("the end of an old subscription, said twice, does not end a new one", () => {
    const signals = create();
    const group = groupId(random(16));
    const [first, second] = [listener(), listener()];
    const end = signals.subscribe(group, first);
    end();
    signals.subscribe(group, second);
    end();
    signals.publish(group, "entries");
    expect(second.heard).toEqual(["look again"]);
  });

  it("whoever closes a group while it is told of a change does not hide the change from the others", () => {
    const signals = create();
    const group = groupId(random(16));
    const last = listener();
    const end = signals.subscribe(group, {
      lookAgain: () => end(),
      membersChanged: () => end(),
      turnsChanged: () => end(),
    });
    signals.subscribe(group, last);
    signals.publish(group, "entries");
    expect(last.heard).toEqual(["look again"]);
  });
});

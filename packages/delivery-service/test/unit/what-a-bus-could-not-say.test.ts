import { EventEmitter } from "node:events";
import { UnavailableError } from "@murmuration/base";
import { expect, test } from "vitest";
import { RedisBus } from "../../src/adapters/redis-bus.ts";
import type { RedisArgument, RedisClient } from "../../src/adapters/redis-client.ts";

/** A Redis that one node is cut off from: what it was told is kept here, without the number of the node before it. */
class CutOffRedis {
  readonly prefix = "test:";
  isThere = true;
  readonly said: string[] = [];
  private readonly back: (() => void)[] = [];

  async call(_: string, channel: RedisArgument, bytes: RedisArgument): Promise<unknown> {
    if (!this.isThere) throw new UnavailableError("store/redis-unreachable");
    return this.said.push(`${String(channel)} ${(bytes as Buffer).subarray(8).toString()}`);
  }

  subscriber(): EventEmitter {
    return new EventEmitter();
  }

  onReconnect(run: () => void): void {
    this.back.push(run);
  }

  repeat(): void {}

  /** The connection is there again; with false it breaks before anything goes over it. */
  async heal(isThere = true): Promise<void> {
    this.isThere = isThere;
    for (const run of this.back) run();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

// The fault that this finds: nodes that Redis was there for all the time are told nothing of what one that was cut off from it
// had stored meanwhile, and their clients wait until they look by themselves.
test("what a bus could not say it says when Redis is there again, each thing once and in its short form", async () => {
  const redis = new CutOffRedis();
  const bus = new RedisBus(redis as unknown as RedisClient);
  bus.publish("a", bytes("long one"), bytes("short"));
  redis.isThere = false;
  for (const text of ["long two", "long three"]) bus.publish("a", bytes(text), bytes("short"));
  bus.publish("b", bytes("long four"), bytes("short"));
  bus.publish("b", bytes("typing"));
  await new Promise((resolve) => setImmediate(resolve));
  expect(redis.said).toEqual(["a long one"]);
  await redis.heal();
  expect(redis.said).toEqual(["a long one", "a short", "b short"]);
  await redis.heal();
  expect(redis.said).toHaveLength(3);
});

test("what it cannot say then either it keeps, and no more than so much", async () => {
  const redis = new CutOffRedis();
  const bus = new RedisBus(redis as unknown as RedisClient);
  redis.isThere = false;
  for (let channel = 0; channel < 10_050; channel++) bus.publish(String(channel), bytes("x"), bytes("x"));
  await new Promise((resolve) => setImmediate(resolve));
  await redis.heal();
  expect(redis.said).toHaveLength(10_000);

  redis.isThere = false;
  bus.publish("a", bytes("x"), bytes("x"));
  await new Promise((resolve) => setImmediate(resolve));
  await redis.heal(false);
  await redis.heal();
  expect(redis.said.at(-1)).toBe("a x");
});

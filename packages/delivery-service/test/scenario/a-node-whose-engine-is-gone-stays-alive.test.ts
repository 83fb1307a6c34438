import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import {
  type LocalPostgres,
  type LocalRedis,
  startLocalPostgres,
  startLocalRedis,
} from "../../src/local-engines/index.ts";
import { type ServiceProcess, startNode } from "../support/service-process.ts";

const DRAIN_SECONDS = 2;

describe.skipIf(inject("cluster") === undefined)(
  "a node whose engine is gone stays alive and says so",
  () => {
    let postgres: LocalPostgres;
    let redis: LocalRedis;
    let node: ServiceProcess;
    beforeAll(async () => {
      [postgres, redis] = await Promise.all([startLocalPostgres(), startLocalRedis()]);
    });
    afterAll(async () => {
      await Promise.all([postgres.dispose(), redis.dispose()]);
    });

    const start = async () => {
      node = await startNode({
        MURMURATION_STORE: "cluster",
        MURMURATION_POSTGRES_URL: postgres.url,
        MURMURATION_POSTGRES_SCHEMA: `test_${randomBytes(6).toString("hex")}`,
        MURMURATION_REDIS_URL: redis.url,
        MURMURATION_DRAIN_SECONDS: String(DRAIN_SECONDS),
      });
    };
    const health = async () => {
      const [ready, alive] = await Promise.all(
        ["/health", "/health/alive"].map((path) => fetch(`${node.base}${path}`)),
      );
      return { status: ready!.status, text: await ready!.text(), alive: alive!.status };
    };
    const READY = { status: 200, text: "ok\n", alive: 200 };
    const without = (engines: string) => ({
      status: 503,
      text: `not ready: no answer from ${engines}\n`,
      alive: 200,
    });
    const becomes = (expected: object) =>
      expect.poll(health, { timeout: 30_000, interval: 200 }).toEqual(expected);

    it("when one was killed, when both were, and it is ready again when they are back", async () => {
      await start();
      expect(await health()).toEqual(READY);
      await redis.kill();
      await becomes(without("redis"));
      const metrics = await (await fetch(`${node.base}/metrics`)).text();
      expect(metrics).toMatch(/^murmuration_engine_answers\{label="redis"\} 0$/m);
      expect(metrics).toMatch(/^murmuration_engine_answers\{label="postgresql"\} 1$/m);
      await postgres.kill();
      await becomes(without("postgresql, redis"));
      await redis.start();
      await postgres.start();
      await becomes(READY);
      expect(await node.terminate()).toBe(0);
    });

    it("when one hangs: it is told within seconds, and drains within its time", async () => {
      await start();
      redis.freeze();
      await becomes(without("redis"));
      const startedAt = performance.now();
      expect(await node.terminate()).toBe(0);
      expect(performance.now() - startedAt).toBeLessThan(DRAIN_SECONDS * 1_000 + 5_000);
      redis.thaw();
    });

    it("does not start without an engine, and does not hang", async () => {
      await redis.kill();
      await expect(start()).rejects.toThrow("store/redis-unreachable");
      await redis.start();
    });
  },
);

import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { RedisClient } from "../../src/adapters/redis-client.ts";
import { createConfig } from "../../src/config.ts";
import { examine } from "../../src/doctor.ts";
import { type LocalRedis, startLocalRedis } from "../../src/local-engines/index.ts";
import { startTestService, temporaryDirectory } from "../support/service.ts";

const urls = inject("cluster");
const NOBODY = "127.0.0.1:9";

const cluster = (postgres: string, redis: string, schema = `test_${randomBytes(6).toString("hex")}`) =>
  createConfig({
    dataDirectory: "unused",
    maxConnections: 100,
    engines: {
      kind: "cluster",
      postgres: { url: postgres, schema, writers: 8, readers: 4 },
      redis: { url: redis, prefix: "test:" },
      nodes: 2,
    },
  });

const complaints = async (config: Parameters<typeof examine>[0]) =>
  Object.fromEntries(
    (await examine(config)).filter(({ status }) => status !== "ok").map((row) => [row.check, row]),
  );

describe.skipIf(urls === undefined)("the doctor of a cluster", () => {
  it("has nothing to say of engines that `npm run services` started, and leaves nothing behind", async () => {
    const config = cluster(urls!.postgres, urls!.redis);
    expect(await complaints(config)).toEqual({});
    const schema = (await examine(config)).find(({ check }) => check === "postgresql/schema");
    expect(schema?.found).toMatch(/^empty/);
  });

  it("tells an engine that is not there from one that refuses", async () => {
    const wrong = new URL(urls!.postgres);
    wrong.password = "wrong";
    expect(await complaints(cluster(wrong.href, `redis://${NOBODY}`))).toMatchObject({
      "postgresql/reachable": { status: "fail", found: "refuses" },
      "redis/reachable": { status: "fail", found: "no answer" },
    });
    expect(await complaints(cluster(`postgres://a:b@${NOBODY}/c`, urls!.redis))).toMatchObject({
      "postgresql/reachable": { status: "fail", found: "no answer" },
    });
  });
});

describe.skipIf(urls === undefined)("the doctor of a Redis that is set otherwise", () => {
  let redis: LocalRedis;
  let client: RedisClient;
  beforeEach(async () => {
    redis = await startLocalRedis();
    client = await RedisClient.open({ url: redis.url });
  });
  afterEach(async () => {
    await client.close();
    await redis.dispose();
  });

  it("fails for each setting with which it would forget, and says how to set it", async () => {
    const config = cluster(urls!.postgres, redis.url);
    expect(await complaints(config)).toEqual({});
    await client.call("CONFIG", "SET", "appendfsync", "everysec");
    await client.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru");
    expect(await complaints(config)).toMatchObject({
      "redis/appendfsync": {
        status: "fail",
        found: "everysec",
        fix: expect.stringContaining("CONFIG SET appendfsync always"),
      },
      "redis/maxmemory-policy": { status: "fail", found: "allkeys-lru" },
    });
    await client.call("CONFIG", "SET", "appendonly", "no");
    expect(await complaints(config)).toMatchObject({ "redis/appendonly": { status: "fail", found: "no" } });
  });

  it("fails for one that does not wait for its disk while it rewrites its file, as a node does that starts on it", async () => {
    await client.call("CONFIG", "SET", "no-appendfsync-on-rewrite", "yes");
    expect(await complaints(cluster(urls!.postgres, redis.url))).toEqual({
      "redis/no-appendfsync-on-rewrite": {
        check: "redis/no-appendfsync-on-rewrite",
        status: "fail",
        found: "yes",
        fix: expect.stringContaining("CONFIG SET no-appendfsync-on-rewrite no"),
      },
    });
    await expect(RedisClient.open({ url: redis.url })).rejects.toMatchObject({
      code: "redis/no-fsync-on-rewrite",
    });
  });

  it("fails for one that hides its settings, as a node does that starts on it, until what the fix says is done", async () => {
    const config = cluster(urls!.postgres, redis.url);
    await client.call("ACL", "SETUSER", "default", "-config");
    const hidden = {
      status: "fail",
      found: "it does not tell",
      fix: expect.stringContaining("ACL SETUSER NAME +config|get"),
    };
    const names = ["appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy"];
    const found = await complaints(config);
    expect(Object.keys(found)).toEqual(names.map((name) => `redis/${name}`));
    for (const finding of Object.values(found)) expect(finding).toMatchObject(hidden);
    await expect(RedisClient.open({ url: redis.url })).rejects.toMatchObject({
      code: "redis/settings-hidden",
    });

    await client.call("ACL", "SETUSER", "default", "+config|get");
    expect(await complaints(config)).toEqual({});
    await (await RedisClient.open({ url: redis.url })).close();
  });
});

describe("the doctor of the embedded store", () => {
  it("finds an empty place good, and the store of a running service as well", async () => {
    const directory = temporaryDirectory();
    const config = createConfig({ dataDirectory: `${directory.path}/not/yet/there`, maxConnections: 100 });
    expect(await complaints(config)).toEqual({});
    directory.remove();
    const service = await startTestService();
    const running = createConfig({ dataDirectory: service.directory, maxConnections: 100 });
    expect(await complaints(running)).toEqual({});
    expect((await examine(running)).find(({ check }) => check === "sqlite/schema")?.found).toMatch(
      /^step \d+$/,
    );
    await service.stop();
  });

  it("fails for more connections than files that may be open", async () => {
    const config = createConfig({ dataDirectory: ".", maxConnections: 999_000_000 });
    expect(await complaints(config)).toMatchObject({ "machine/open-files": { status: "fail" } });
  });
});

import { describe, expect, it } from "vitest";
import { diagnose, type Facts, type PostgresFacts, type RedisFacts } from "../../src/core/diagnosis.ts";

const GIB = 1024 ** 3;
const postgres: PostgresFacts = {
  version: 140_000,
  settings: { fsync: "on", synchronous_commit: "on", full_page_writes: "on" },
  freeConnections: 12,
  wantedConnections: 12,
  schema: { steps: 3, known: 3 },
  clockAheadMs: 0,
};
const redis: RedisFacts = {
  version: "7.0.0",
  settings: {
    appendonly: "yes",
    appendfsync: "always",
    "no-appendfsync-on-rewrite": "no",
    "maxmemory-policy": "noeviction",
  },
  lastWriteOk: true,
  clockAheadMs: 0,
};
const disk = (freeBytes: number) => ({ of: "redis", freeBytes, totalBytes: 100 * GIB });
const sound = {
  machine: { openFiles: 1_256, maxConnections: 1_000, disks: [disk(5 * GIB)] },
  sqlite: { steps: 6, known: 6 },
  postgres,
  redis,
} satisfies Facts;

/** Status of each check that is not ok. */
const complaints = (facts: Facts) =>
  Object.fromEntries(
    diagnose(facts)
      .filter(({ status }) => status !== "ok")
      .map(({ check, status }) => [check, status]),
  );
const withPostgres = (given: Partial<PostgresFacts>) =>
  complaints({ ...sound, postgres: { ...postgres, ...given } });
const withRedis = (given: Partial<RedisFacts>) => complaints({ ...sound, redis: { ...redis, ...given } });
const withSetting = (name: string, value: string | undefined) =>
  withRedis({ settings: { ...redis.settings, [name]: value } });

describe("a diagnosis", () => {
  it("finds nothing where everything is just good enough", () => {
    expect(complaints(sound)).toEqual({});
  });

  it("has a fix for what is wrong, and none for what is well", () => {
    const facts = { ...sound, postgres: { ...postgres, version: 130_000 }, redis: "no-answer" as const };
    for (const { status, fix } of diagnose(facts)) expect(fix === "").toBe(status === "ok");
  });

  it("fails for an engine that does not answer, or refuses", () => {
    expect(complaints({ ...sound, postgres: "no-answer", redis: "refused" })).toEqual({
      "postgresql/reachable": "fail",
      "redis/reachable": "fail",
    });
  });

  it("fails for versions that are too old", () => {
    expect(withPostgres({ version: 130_018 })).toEqual({ "postgresql/version": "fail" });
    expect(withRedis({ version: "6.2.14" })).toEqual({ "redis/version": "fail" });
  });

  it("fails for a PostgreSQL that a power cut destroys, and warns of one that commits before it writes", () => {
    const setting = (given: Partial<PostgresFacts["settings"]>) =>
      withPostgres({ settings: { ...postgres.settings, ...given } });
    expect(setting({ fsync: "off" })).toEqual({ "postgresql/fsync": "fail" });
    expect(setting({ full_page_writes: "off" })).toEqual({ "postgresql/full_page_writes": "fail" });
    expect(setting({ synchronous_commit: "off" })).toEqual({ "postgresql/synchronous_commit": "warn" });
    expect(setting({ synchronous_commit: "remote_apply" })).toEqual({});
  });

  it("fails for a Redis that forgets, and for one that does not tell: a node starts on neither", () => {
    expect(withSetting("appendonly", "no")).toEqual({ "redis/appendonly": "fail" });
    expect(withSetting("appendfsync", "everysec")).toEqual({ "redis/appendfsync": "fail" });
    expect(withSetting("maxmemory-policy", "allkeys-lru")).toEqual({ "redis/maxmemory-policy": "fail" });
    expect(withSetting("no-appendfsync-on-rewrite", "yes")).toEqual({
      "redis/no-appendfsync-on-rewrite": "fail",
    });
    expect(withSetting("appendfsync", undefined)).toEqual({ "redis/appendfsync": "fail" });
    expect(withRedis({ lastWriteOk: false })).toEqual({ "redis/last-write": "fail" });
  });

  it.each([
    [1_000, {}],
    [-1_000, {}],
    [1_001, { "redis/clock": "warn" }],
    [-10_000, { "redis/clock": "warn" }],
    [-10_001, { "redis/clock": "fail" }],
  ])("judges a clock that is %i ms ahead", (clockAheadMs, expected) => {
    expect(withRedis({ clockAheadMs })).toEqual(expected);
  });

  it("fails for a store that a newer version has used, not for an old or empty one", () => {
    expect(withPostgres({ schema: { steps: 4, known: 3 } })).toEqual({ "postgresql/schema": "fail" });
    expect(withPostgres({ schema: { steps: 0, known: 3 } })).toEqual({});
    expect(complaints({ ...sound, sqlite: { steps: 7, known: 6 } })).toEqual({ "sqlite/schema": "fail" });
  });

  it("warns when connections of PostgreSQL run out", () => {
    expect(withPostgres({ freeConnections: 11 })).toEqual({ "postgresql/connections": "warn" });
  });

  it.each([
    [1_255, { "machine/open-files": "warn" }],
    [999, { "machine/open-files": "fail" }],
    [undefined, {}],
  ])("holds %s open files against 1,000 connections", (openFiles, expected) => {
    expect(complaints({ ...sound, machine: { ...sound.machine, openFiles } })).toEqual(expected);
  });

  it.each([
    [5 * GIB - 1, { "machine/disk-of-redis": "warn" }],
    [GIB / 2 - 1, { "machine/disk-of-redis": "fail" }],
  ])("complains of %i bytes of free disk", (freeBytes, expected) => {
    expect(complaints({ ...sound, machine: { ...sound.machine, disks: [disk(freeBytes)] } })).toEqual(
      expected,
    );
  });
});

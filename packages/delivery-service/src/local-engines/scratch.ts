import { randomBytes } from "node:crypto";
import pg from "pg";
import { PostgresDatabase } from "../adapters/postgres-database.ts";
import { RedisClient } from "../adapters/redis-client.ts";
import type { EngineConfig } from "../config.ts";
import type { ClusterUrls } from "./services.ts";

/** Tables and keys of one's own on engines that others use as well. */
export interface Scratch {
  readonly engines: Extract<EngineConfig, { readonly kind: "cluster" }>;
  /** Deletes these tables and keys, and nothing else. Whoever used them has closed. O(keys of the whole Redis). */
  drop(): Promise<void>;
}

/** What the engines answer when a session of the service asks them; undefined where they do not tell. */
export interface EngineSettings {
  readonly postgres: Readonly<Record<"server_version" | "synchronous_commit" | "fsync", string>>;
  readonly redis: Readonly<Record<"redis_version" | "appendonly" | "appendfsync", string | undefined>>;
}

/** Names for them that nobody has; nothing is made before a node opens them. `purpose`: lower case letters. */
export function scratch({ postgres, redis }: ClusterUrls, purpose: string, nodes = 1): Scratch {
  const schema = `${purpose}_${randomBytes(6).toString("hex")}`;
  const prefix = `${schema}:`;
  return {
    engines: {
      kind: "cluster",
      postgres: { url: postgres, schema, writers: 8, readers: 4 },
      redis: { url: redis, prefix },
      nodes,
    },
    drop: async () => {
      await Promise.all([dropSchema(postgres, schema), dropKeys(redis, prefix)]);
    },
  };
}

/** Asks both engines over connections as a node has them: it sets for its sessions what it relies on. */
export async function engineSettings(urls: ClusterUrls): Promise<EngineSettings> {
  const { engines, drop } = scratch(urls, "settings");
  const database = await PostgresDatabase.open(engines.postgres);
  const redis = await RedisClient.open(engines.redis);
  try {
    const setting = (name: string) =>
      database.read(async (statements) => {
        const row = await statements.get("SELECT current_setting($1) AS value", name);
        return String(row?.["value"]);
      });
    const pairs = ((await redis.call("CONFIG", "GET", "appendonly", "appendfsync")) as Buffer[]).map(String);
    const configured = (name: string) => (pairs.includes(name) ? pairs[pairs.indexOf(name) + 1] : undefined);
    return {
      postgres: {
        server_version: await setting("server_version"),
        synchronous_commit: await setting("synchronous_commit"),
        fsync: await setting("fsync"),
      },
      redis: {
        redis_version: /^redis_version:(\S+)/m.exec(String(await redis.call("INFO", "server")))?.[1],
        appendonly: configured("appendonly"),
        appendfsync: configured("appendfsync"),
      },
    };
  } finally {
    await Promise.all([database.close(), redis.close()]);
    await drop();
  }
}

/** What is there for a purpose: names of tables' schemas and of keys. O(keys of the whole Redis). */
export async function scratchNames(urls: ClusterUrls, purpose: string): Promise<readonly string[]> {
  const schemas = await inPostgres(urls.postgres, async (client) => {
    const { rows } = await client.query("SELECT nspname FROM pg_namespace WHERE starts_with(nspname, $1)", [
      `${purpose}_`,
    ]);
    return (rows as { readonly nspname: string }[]).map(({ nspname }) => nspname);
  });
  const keys: string[] = [];
  await eachKeys(urls.redis, `${purpose}_`, async (found) => void keys.push(...found.map(String)));
  return [...schemas, ...keys].sort();
}

async function dropSchema(url: string, schema: string): Promise<void> {
  await inPostgres(url, async (client) => {
    await client.query("SET client_min_messages = warning");
    await client.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
  });
}

async function dropKeys(url: string, prefix: string): Promise<void> {
  await eachKeys(url, prefix, async (keys, redis) => void (await redis.call("UNLINK", ...keys)));
}

async function inPostgres<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

async function eachKeys(
  url: string,
  prefix: string,
  work: (keys: readonly Buffer[], redis: RedisClient) => Promise<void>,
): Promise<void> {
  const redis = await RedisClient.open({ url, prefix });
  try {
    let cursor = "0";
    do {
      const scan = await redis.call("SCAN", cursor, "MATCH", `${prefix}*`, "COUNT", 1_000);
      const [next, keys] = scan as [Buffer, Buffer[]];
      cursor = next.toString();
      if (keys.length > 0) await work(keys, redis);
    } while (cursor !== "0");
  } finally {
    await redis.close();
  }
}

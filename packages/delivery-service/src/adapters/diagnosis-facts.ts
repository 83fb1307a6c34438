import { existsSync, readFileSync, statfsSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { UnavailableError } from "@murmuration/base";
import pg from "pg";
import type { DeliveryServiceConfig, EngineConfig } from "../config.ts";
import type {
  Facts,
  MachineFacts,
  PostgresFacts,
  RedisFacts,
  SchemaFacts,
  Unreachable,
} from "../core/diagnosis.ts";
import { POSTGRES_SCHEMA_STEPS } from "./postgres-schema.ts";
import { RedisClient } from "./redis-client.ts";
import { SCHEMA_VERSION } from "./sqlite-schema.ts";

type Cluster = Extract<EngineConfig, { readonly kind: "cluster" }>;
type Disk = MachineFacts["disks"][number];

const CONNECT_TIMEOUT_MS = 5_000;

/** Looks at this machine and the engines and changes nothing. Takes at most some seconds; what cannot be asked says so. */
export async function collectFacts(config: DeliveryServiceConfig): Promise<Facts> {
  const { engines, dataDirectory, maxConnections } = config;
  const machine = { openFiles: openFilesLimit(), maxConnections };
  if (engines.kind === "embedded") {
    return {
      machine: { ...machine, disks: diskOf("sqlite", dataDirectory) },
      sqlite: sqliteSchema(dataDirectory),
    };
  }
  const [postgres, redis] = await Promise.all([askPostgres(engines), askRedis(engines)]);
  return {
    machine: { ...machine, disks: [...postgres.disks, ...redis.disks] },
    postgres: postgres.facts,
    redis: redis.facts,
  };
}

/** Node.js has raised it to what the system allows this process at most. */
function openFilesLimit(): number | undefined {
  try {
    const [, soft] = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8")) ?? [];
    return soft === undefined ? undefined : Number(soft);
  } catch {
    return undefined;
  }
}

/** Of the nearest directory that exists. Empty where the path cannot be seen from here. */
function diskOf(of: string, path: string): readonly Disk[] {
  let directory = resolve(path);
  while (!existsSync(directory) && dirname(directory) !== directory) directory = dirname(directory);
  try {
    const { bavail, blocks, bsize } = statfsSync(directory);
    return [{ of, freeBytes: bavail * bsize, totalBytes: blocks * bsize }];
  } catch {
    return [];
  }
}

function sqliteSchema(dataDirectory: string): SchemaFacts {
  const path = join(dataDirectory, "delivery-service.sqlite");
  if (!existsSync(path)) return { steps: 0, known: SCHEMA_VERSION };
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    const row = database.prepare("PRAGMA user_version").get() as { readonly user_version: number };
    return { steps: row.user_version, known: SCHEMA_VERSION };
  } finally {
    database.close();
  }
}

interface Asked<T> {
  readonly facts: T | Unreachable;
  readonly disks: readonly Disk[];
}

async function askPostgres({ postgres }: Cluster): Promise<Asked<PostgresFacts>> {
  const client = new pg.Client({
    connectionString: postgres.url,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: CONNECT_TIMEOUT_MS,
    options: "-c default_transaction_read_only=on",
  });
  client.on("error", () => {});
  try {
    await client.connect();
    const one = async (sql: string, values: readonly unknown[] = []) => {
      const { rows } = await client.query({ text: sql, values: [...values], rowMode: "array" });
      return rows[0]?.[0] as string | null | undefined;
    };
    const show = async (name: string) => (await one("SELECT current_setting($1, true)", [name])) ?? "";
    const clockAheadMs = await clockAhead(async () =>
      Number(await one("SELECT extract(epoch FROM clock_timestamp()) * 1000")),
    );
    const facts: PostgresFacts = {
      version: Number(await show("server_version_num")),
      settings: {
        fsync: await show("fsync"),
        synchronous_commit: await show("synchronous_commit"),
        full_page_writes: await show("full_page_writes"),
      },
      freeConnections: Number(
        await one(
          `SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
             - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int`,
        ),
      ),
      wantedConnections: postgres.writers + postgres.readers,
      schema: { steps: await stepsOf(one, postgres.schema), known: POSTGRES_SCHEMA_STEPS },
      clockAheadMs,
    };
    // Only a superuser may see the directory, and only this machine can look into its own.
    const directory = isHere(postgres.url) ? await show("data_directory").catch(() => "") : "";
    return { facts, disks: seen("postgresql", directory) };
  } catch (error) {
    return { facts: error instanceof pg.DatabaseError ? "refused" : "no-answer", disks: [] };
  } finally {
    await client.end().catch(() => {});
  }
}

async function stepsOf(
  one: (sql: string, values?: readonly unknown[]) => Promise<string | null | undefined>,
  schema: string,
): Promise<number> {
  const table = `${schema}.schema_steps`;
  if ((await one("SELECT to_regclass($1)::text", [table])) == null) return 0;
  return Number(await one(`SELECT coalesce(max(step), 0) FROM ${table}`));
}

async function askRedis({ redis }: Cluster): Promise<Asked<RedisFacts>> {
  let client: RedisClient;
  try {
    client = await RedisClient.open({ ...redis, requireDurable: false });
  } catch {
    return { facts: "no-answer", disks: [] };
  }
  try {
    const setting = async (name: string) => {
      try {
        const [, value] = (await client.call("CONFIG", "GET", name)) as readonly Buffer[];
        return value?.toString();
      } catch (error) {
        // Hosted engines keep CONFIG to themselves.
        if (error instanceof UnavailableError && error.code === "store/redis-refused") return undefined;
        throw error;
      }
    };
    const clockAheadMs = await clockAhead(async () => {
      const [seconds, microseconds] = (await client.call("TIME")) as readonly Buffer[];
      return Number(seconds) * 1000 + Number(microseconds) / 1000;
    });
    const info = String(await client.call("INFO"));
    const field = (name: string) => new RegExp(`^${name}:(.*)$`, "m").exec(info)?.[1]?.trim();
    const facts: RedisFacts = {
      version: field("redis_version") ?? "unknown",
      settings: {
        appendonly: await setting("appendonly"),
        appendfsync: await setting("appendfsync"),
        "no-appendfsync-on-rewrite": await setting("no-appendfsync-on-rewrite"),
        "maxmemory-policy": await setting("maxmemory-policy"),
      },
      lastWriteOk: field("aof_last_write_status") !== "err",
      clockAheadMs,
    };
    return { facts, disks: seen("redis", isHere(redis.url) ? ((await setting("dir")) ?? "") : "") };
  } catch (error) {
    const refused = error instanceof UnavailableError && error.code === "store/redis-refused";
    return { facts: refused ? "refused" : "no-answer", disks: [] };
  } finally {
    await client.close();
  }
}

/** By how much another clock is ahead, against the middle of the time that its answer took. */
async function clockAhead(askMs: () => Promise<number>): Promise<number> {
  // The first question may pay for more than its answer.
  await askMs();
  const before = Date.now();
  const there = await askMs();
  return there - (before + Date.now()) / 2;
}

function isHere(url: string): boolean {
  return /^(?:localhost|127\.|\[::1\])/.test(new URL(url).hostname);
}

function seen(of: string, directory: string): readonly Disk[] {
  return directory !== "" && existsSync(directory) ? diskOf(of, directory) : [];
}

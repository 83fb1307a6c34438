import { createHash } from "node:crypto";
import { MurmurationError, toHex, UnavailableError } from "@murmuration/base";
import pg from "pg";
import { migratePostgres } from "./postgres-schema.ts";
import { readText } from "./postgres-values.ts";
import type { TransactionReport } from "./sqlite-database.ts";

/** A value of a statement. Bytes become bytea, arrays become PostgreSQL arrays. */
export type PostgresValue =
  | Uint8Array
  | string
  | number
  | boolean
  | null
  | readonly (Uint8Array | string | number | null)[];

/** A row by column name: bytea is a Uint8Array of its own, int8 a number, NULL is null. */
export type PostgresRow = Readonly<Record<string, unknown>>;

/** Statements on one connection. Each is prepared once per connection under a name made of its text. */
export interface PostgresStatements {
  /** All rows. */
  all(sql: string, ...values: readonly PostgresValue[]): Promise<readonly PostgresRow[]>;
  /** The first row, if there is one. */
  get(sql: string, ...values: readonly PostgresValue[]): Promise<PostgresRow | undefined>;
  /** How many rows were changed. */
  run(sql: string, ...values: readonly PostgresValue[]): Promise<number>;
}

export interface PostgresOptions {
  /** postgres://user:password@host:port/database */
  readonly url: string;
  /** Schema in which the tables are; created when absent. Several services may share a database. */
  readonly schema?: string;
  /** Connections that write; as many transactions run at a time. */
  readonly writers?: number;
  /** Connections that read. */
  readonly readers?: number;
  readonly report?: (transaction: TransactionReport) => void;
}

interface PendingWrite {
  readonly key: string;
  run(statements: PostgresStatements): Promise<void>;
  done(): void;
  failed(error: unknown): void;
}

/** Writes that may share a transaction: what a row lock can be kept waiting for is bounded by it. */
const MAX_BATCH = 64;
/** Tries of a transaction that PostgreSQL ended for the sake of another one. */
const MAX_TRIES = 5;
/** deadlock_detected, serialization_failure: the transaction did nothing, and may be tried again. */
const AGAIN = new Set(["40P01", "40001"]);
const SESSION = `
  SET synchronous_commit = on;
  SET statement_timeout = '30s';
  SET lock_timeout = '10s';
  SET idle_in_transaction_session_timeout = '30s';
`;

/**
 * A PostgreSQL database, shared by all nodes.
 *
 * Writes are put into lanes by their key, one connection for each lane. What arrives in a lane while its transaction
 * runs goes into the next one together: under load many writes pay for one fsync, and a single one does not wait.
 * Writes of one key happen in the order in which they were asked for, on this node; between nodes row locks decide.
 * A transaction takes its keys in rising order, so that two which lock the rows of their keys cannot wait for each other.
 * Each write stands behind a savepoint, so that one that throws is undone alone. A write is answered after COMMIT and
 * never before: when the connection breaks meanwhile, it is answered `store/write-failed`, which says "perhaps"; every
 * caller asks again with the same hash or id, and is told what happened.
 */
export class PostgresDatabase {
  private readonly pool: pg.Pool;
  private readonly lanes: readonly Lane[];
  private closed = false;

  /**
   * Opens the database and brings its tables up to date; of several nodes one does it and the others wait. Rejects with
   * UnavailableError `store/postgres-unreachable`, and UsageError `store/newer-schema` where a newer version was here.
   */
  static async open(options: PostgresOptions): Promise<PostgresDatabase> {
    const { url, schema = "murmuration", readers = 4, writers = 8, report = () => {} } = options;
    const pool = new pg.Pool({
      connectionString: url,
      max: readers + writers,
      connectionTimeoutMillis: 5_000,
      keepAlive: true,
      options: `-c search_path=${schema}`,
      application_name: "murmuration",
    });
    // An idle connection that breaks is replaced when the next one is asked for.
    pool.on("error", () => {});
    pool.on("connect", (client) => {
      client.query(SESSION).catch(() => {});
    });
    try {
      await migratePostgres(pool, schema);
    } catch (error) {
      await pool.end();
      throw asUnavailable(error, "store/postgres-unreachable");
    }
    return new PostgresDatabase(pool, writers, report);
  }

  private constructor(pool: pg.Pool, writers: number, report: (transaction: TransactionReport) => void) {
    this.pool = pool;
    this.lanes = Array.from({ length: writers }, () => new Lane(pool, report));
  }

  /**
   * Runs statements that change nothing, each on what is committed when it begins. Rejects with UnavailableError
   * `store/closed` after {@link close}, and `store/read-failed`.
   */
  async read<T>(run: (statements: PostgresStatements) => Promise<T>): Promise<T> {
    return this.onReader(run);
  }

  /** As {@link read}, but all statements see the same state. */
  async readAtOnce<T>(run: (statements: PostgresStatements) => Promise<T>): Promise<T> {
    return this.onReader(async (statements, client) => {
      await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
      try {
        return await run(statements);
      } finally {
        await client.query("COMMIT");
      }
    });
  }

  /**
   * Runs `run` within a transaction and resolves with its result once that is durable. Writes with the same key keep their
   * order. `run` may run again when the transaction was in another's way, so it changes nothing but rows. Rejects with what
   * `run` threw, its changes undone, or with UnavailableError `store/write-failed`: then nobody knows whether it happened.
   */
  write<T>(key: Uint8Array | string, run: (statements: PostgresStatements) => Promise<T>): Promise<T> {
    if (this.closed) return Promise.reject(new UnavailableError("store/closed"));
    const name = typeof key === "string" ? key : toHex(key);
    return this.lanes[laneOf(name, this.lanes.length)]!.write(name, run);
  }

  /** Answers every write that was asked for, then closes the connections. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await Promise.all(this.lanes.map((lane) => lane.settled()));
    await this.pool.end();
  }

  private async onReader<T>(
    run: (statements: PostgresStatements, client: pg.PoolClient) => Promise<T>,
  ): Promise<T> {
    if (this.closed) throw new UnavailableError("store/closed");
    let broken = false;
    const client = await connect(this.pool);
    const onError = () => {
      broken = true;
    };
    client.on("error", onError);
    try {
      return await run(new ConnectionStatements(client), client);
    } catch (error) {
      broken ||= !isAnswer(error);
      throw asUnavailable(error, "store/read-failed");
    } finally {
      client.removeListener("error", onError);
      client.release(broken);
    }
  }
}

/** One transaction after the other, on whatever connection is free. */
class Lane {
  private readonly pool: pg.Pool;
  private readonly report: (transaction: TransactionReport) => void;
  private queue: PendingWrite[] = [];
  private running: Promise<void> | undefined;

  constructor(pool: pg.Pool, report: (transaction: TransactionReport) => void) {
    this.pool = pool;
    this.report = report;
  }

  write<T>(key: string, run: (statements: PostgresStatements) => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      let result: T;
      this.queue.push({
        key,
        run: async (statements) => {
          result = await run(statements);
        },
        done: () => resolve(result),
        failed: reject,
      });
      this.running ??= this.drain().finally(() => {
        this.running = undefined;
      });
    });
  }

  async settled(): Promise<void> {
    while (this.running !== undefined) await this.running;
  }

  private async drain(): Promise<void> {
    // What is asked for within one turn of the event loop goes together.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.queue.length > 0) await this.commit(byKey(this.queue.splice(0, MAX_BATCH)));
  }

  private async commit(batch: readonly PendingWrite[]): Promise<void> {
    for (let tries = 1; ; tries++) {
      const startedAt = performance.now();
      const { again, durable } = await this.tryToCommit(batch, tries < MAX_TRIES);
      if (again) continue;
      for (const write of durable) write.done();
      if (durable.length > 0)
        this.report({ writes: batch.length, durationMs: performance.now() - startedAt });
      return;
    }
  }

  private async tryToCommit(
    batch: readonly PendingWrite[],
    mayTryAgain: boolean,
  ): Promise<{ readonly again: boolean; readonly durable: readonly PendingWrite[] }> {
    let client: pg.PoolClient;
    try {
      client = await connect(this.pool);
    } catch (error) {
      for (const write of batch) write.failed(error);
      return { again: false, durable: [] };
    }
    let broken = false;
    const onError = () => {
      broken = true;
    };
    client.on("error", onError);
    const thrown = new Map<PendingWrite, unknown>();
    try {
      const statements = new ConnectionStatements(client);
      await client.query("BEGIN");
      for (const write of batch) {
        await client.query("SAVEPOINT one_write");
        try {
          await write.run(statements);
          await client.query("RELEASE one_write");
        } catch (error) {
          if (isAgain(error) || broken || isConnectionError(error)) throw error;
          await client.query("ROLLBACK TO one_write; RELEASE one_write");
          thrown.set(write, error);
        }
      }
      await client.query("COMMIT");
    } catch (error) {
      if (isAnswer(error) && !broken) await client.query("ROLLBACK").catch(() => (broken = true));
      else broken = true;
      if (isAgain(error) && mayTryAgain && !broken) return { again: true, durable: [] };
      for (const write of batch) {
        write.failed(thrown.get(write) ?? new UnavailableError("store/write-failed"));
      }
      return { again: false, durable: [] };
    } finally {
      client.removeListener("error", onError);
      client.release(broken);
    }
    for (const [write, error] of thrown) write.failed(fromStatement(error));
    return { again: false, durable: batch.filter((write) => !thrown.has(write)) };
  }
}

class ConnectionStatements implements PostgresStatements {
  private readonly client: pg.PoolClient;

  constructor(client: pg.PoolClient) {
    this.client = client;
  }

  async all(sql: string, ...values: readonly PostgresValue[]): Promise<readonly PostgresRow[]> {
    return (await this.query(sql, values)).rows;
  }

  async get(sql: string, ...values: readonly PostgresValue[]): Promise<PostgresRow | undefined> {
    return (await this.query(sql, values)).rows[0];
  }

  async run(sql: string, ...values: readonly PostgresValue[]): Promise<number> {
    return (await this.query(sql, values)).rowCount ?? 0;
  }

  private query(sql: string, values: readonly PostgresValue[]): Promise<pg.QueryResult<PostgresRow>> {
    return this.client.query({
      name: nameOf(sql),
      text: sql,
      values: [...values],
      types: readText,
    } as pg.QueryConfig);
  }
}

const names = new Map<string, string>();

function nameOf(sql: string): string {
  let name = names.get(sql);
  if (name === undefined) {
    name = createHash("sha256").update(sql).digest("base64url").slice(0, 22);
    names.set(sql, name);
  }
  return name;
}

/** By rising key; writes of one key stay in their order. */
function byKey(batch: readonly PendingWrite[]): readonly PendingWrite[] {
  return batch.toSorted((a, b) => (a.key < b.key ? -1 : Number(a.key > b.key)));
}

/** FNV-1a: only spreads keys over lanes. */
function laneOf(key: string, lanes: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193) >>> 0;
  return hash % lanes;
}

async function connect(pool: pg.Pool): Promise<pg.PoolClient> {
  try {
    return await pool.connect();
  } catch {
    throw new UnavailableError("store/postgres-unreachable");
  }
}

/** Whether PostgreSQL said this, the connection being whole. Class 57 and 08: it is going down. */
function isAnswer(error: unknown): boolean {
  return error instanceof pg.DatabaseError && !/^(?:57|08)/.test(error.code ?? "57");
}

function isAgain(error: unknown): boolean {
  return error instanceof pg.DatabaseError && AGAIN.has(error.code ?? "");
}

function isConnectionError(error: unknown): boolean {
  if (error instanceof MurmurationError) return false;
  if (error instanceof pg.DatabaseError) return !isAnswer(error);
  return error instanceof Error && ("code" in error || /^Connection terminated|^Client /.test(error.message));
}

/** An error of PostgreSQL quotes rows in its details: it goes no further than this. */
function fromStatement(error: unknown): unknown {
  return error instanceof pg.DatabaseError ? new UnavailableError("store/write-failed", error.code) : error;
}

function asUnavailable(error: unknown, code: string): unknown {
  if (error instanceof pg.DatabaseError) return new UnavailableError(code, error.code);
  return isConnectionError(error) ? new UnavailableError(code) : error;
}

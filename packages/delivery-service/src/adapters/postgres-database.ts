import { toHex, UnavailableError, UsageError } from "@murmuration/base";
import pg from "pg";
import { PostgresConnection, type PostgresStatements, unavailable } from "./postgres-connection.ts";
import { Lane } from "./postgres-lane.ts";
import { migratePostgres } from "./postgres-schema.ts";
import type { TransactionReport } from "./sqlite-database.ts";

export type { PostgresRow, PostgresStatements, PostgresValue } from "./postgres-connection.ts";

export interface PostgresOptions {
  /** postgres://user:password@host:port/database */
  readonly url: string;
  /** Schema in which the tables are; created when absent. Several services may share a database. */
  readonly schema?: string;
  /**
   * Connections that write; as many transactions run at a time. More are no faster: with 16 who write one after the other
   * four do 11,000 small writes a second on two cores, eight do 5,000, since fewer share a transaction.
   */
  readonly writers?: number;
  /** Connections that read. */
  readonly readers?: number;
  /** The longest that a statement may take. */
  readonly statementTimeoutMs?: number;
  readonly report?: (transaction: TransactionReport) => void;
}

/** What a new connection is asked, once. */
export const FIRST_QUESTION = "SELECT pg_is_in_recovery() AS follows";

/** How long PostgreSQL's own end of a statement may be on its way before the connection counts as cut. */
const ANSWER_MARGIN_MS = 2_000;

/**
 * A PostgreSQL database, shared by all nodes.
 *
 * Writes are put into lanes by their key, one connection for each lane. What arrives in a lane while its transaction
 * runs goes into the next one together: under load many writes pay for one fsync, and a single one does not wait.
 * Writes of one key happen in the order in which they were asked for, on this node; between nodes row locks decide.
 * A transaction takes its keys in rising order, so that two which lock the rows of their keys cannot wait for each other.
 * When one of its writes throws, all are undone and run again, each behind a savepoint, so that the one that throws is
 * undone alone. A write is answered after COMMIT and
 * never before. When a connection breaks before COMMIT was sent, the transaction did nothing and is tried again on
 * another one; when it breaks afterwards, the write is answered `store/write-failed`, which says "perhaps": every caller
 * asks again with the same hash or id, and is told what happened.
 *
 * Connections that broke are replaced by themselves, so the object outlives PostgreSQL's restarts. Nothing waits forever:
 * a statement ends after `statementTimeoutMs`, and where not even that is heard its connection counts as broken.
 */
export class PostgresDatabase {
  private readonly writers: pg.Pool;
  private readonly readers: pg.Pool;
  private readonly lanes: readonly Lane[];
  private closed = false;

  /**
   * Opens the database and brings its tables up to date; of several nodes one does it and the others wait. Rejects with
   * UnavailableError `store/postgres-unreachable`, and UsageError `store/newer-schema` where a newer version was here or
   * `store/postgres-url` where the URL is none.
   */
  static async open(options: PostgresOptions): Promise<PostgresDatabase> {
    const { schema = "murmuration" } = options;
    // A step of the schema may take as long as it needs.
    const pool = poolOf(options, 1, { search_path: schema });
    try {
      await migratePostgres(pool, schema);
    } catch (error) {
      throw unavailable(error, "store/postgres-unreachable");
    } finally {
      await pool.end();
    }
    return new PostgresDatabase(options);
  }

  private constructor(options: PostgresOptions) {
    const { readers = 4, report = () => {}, statementTimeoutMs = 30_000, writers = 4 } = options;
    const settings = {
      search_path: options.schema ?? "murmuration",
      synchronous_commit: "on",
      statement_timeout: statementTimeoutMs,
      lock_timeout: Math.ceil(statementTimeoutMs / 3),
      // Shorter than who waits for its locks waits: a node that was cut off does not stop the others.
      idle_in_transaction_session_timeout: Math.ceil(statementTimeoutMs / 6),
    };
    const answerTimeoutMs = statementTimeoutMs + ANSWER_MARGIN_MS;
    this.writers = poolOf(options, writers, settings, answerTimeoutMs);
    // Of their own, so that many who read do not keep one waiting that writes.
    this.readers = poolOf(options, readers, settings, answerTimeoutMs);
    this.lanes = Array.from({ length: writers }, () => new Lane(this.writers, report));
  }

  /**
   * Runs statements that change nothing, each on what is committed when it begins; `run` may run twice. Rejects with
   * UnavailableError `store/closed` after {@link close}, and `store/read-failed`.
   */
  read<T>(run: (statements: PostgresStatements) => Promise<T>): Promise<T> {
    return this.onReader(run);
  }

  /** As {@link read}, but all statements see the same state. */
  readAtOnce<T>(run: (statements: PostgresStatements) => Promise<T>): Promise<T> {
    return this.onReader(async (connection) => {
      connection.send("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
      try {
        return await run(connection);
      } finally {
        connection.send("COMMIT");
      }
    });
  }

  /**
   * Runs `run` within a transaction and resolves with its result once that is durable. Writes with the same key keep their
   * order. `run` may run again when the transaction was in another's way, its connection broke or another write threw, so it
   * changes nothing but rows. Rejects with what `run` threw, its changes undone; with UnavailableError
   * `store/postgres-unreachable`, nothing having happened; or with `store/write-failed`: then nobody knows whether it
   * happened. Costs the round trips of `run`, and one for the COMMIT, with its fsync, that those of a transaction share.
   */
  write<T>(key: Uint8Array | string, run: (statements: PostgresStatements) => Promise<T>): Promise<T> {
    return this.onLane(key, false, run);
  }

  /**
   * As {@link write}, for what touches no rows but those that belong to the key. Such writes of different keys run side by
   * side in their transaction and share its round trips.
   */
  writeRowsOf<T>(key: Uint8Array | string, run: (statements: PostgresStatements) => Promise<T>): Promise<T> {
    return this.onLane(key, true, run);
  }

  /** Answers every write that was asked for, then closes the connections. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    await Promise.all(this.lanes.map((lane) => lane.settled()));
    await Promise.all([this.writers.end(), this.readers.end()]);
  }

  private onLane<T>(
    key: Uint8Array | string,
    own: boolean,
    run: (statements: PostgresStatements) => Promise<T>,
  ): Promise<T> {
    if (this.closed) return Promise.reject(new UnavailableError("store/closed"));
    const name = typeof key === "string" ? key : toHex(key);
    return this.lanes[laneOf(name, this.lanes.length)]!.write(name, own, run);
  }

  private async onReader<T>(run: (connection: PostgresConnection) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      if (this.closed) throw new UnavailableError("store/closed");
      const connection = await PostgresConnection.take(this.readers);
      try {
        return await run(connection);
      } catch (error) {
        // One that lay idle may have been cut without anybody's noticing.
        if (connection.isBroken && tries === 1) continue;
        const isOfPostgres = connection.isBroken || error instanceof pg.DatabaseError;
        throw isOfPostgres ? unavailable(error, "store/read-failed") : error;
      } finally {
        connection.release();
      }
    }
  }
}

function poolOf(
  options: PostgresOptions,
  connections: number,
  settings: Readonly<Record<string, string | number>>,
  answerTimeoutMs?: number,
): pg.Pool {
  const pool = new pg.Pool({
    connectionString: withSettings(options.url, settings),
    max: connections,
    connectionTimeoutMillis: 5_000,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    ...(answerTimeoutMs !== undefined && { query_timeout: answerTimeoutMs }),
    application_name: "murmuration",
    verify: requireInCharge,
    // Statements that do not wait for each other's answers share a round trip.
    pipeline: true,
  });
  // An idle connection that breaks is replaced when the next one is asked for.
  pool.on("error", () => {});
  // One that was given back as broken may still hear why, when nobody listens any more.
  pool.on("connect", (client) => client.on("error", () => {}));
  return pool;
}

/**
 * Whoever only reads would not notice that the address leads to a replica, which follows late: who was banned would be let in
 * by it. One round trip for each new connection.
 */
function requireInCharge(client: pg.PoolClient, verified: (error?: Error) => void): void {
  client
    .query(FIRST_QUESTION)
    .then(
      ({ rows: [row] }) => verified(row.follows === true ? new Error("not in charge") : undefined),
      verified,
    );
}

/** The URL with settings of its sessions: they come with the connection itself, so that none is ever without them. */
function withSettings(url: string, settings: Readonly<Record<string, string | number>>): string {
  if (!URL.canParse(url)) throw new UsageError("store/postgres-url");
  const parsed = new URL(url);
  const flags = Object.entries(settings).map(([name, value]) => `-c ${name}=${value}`);
  parsed.searchParams.set("options", [parsed.searchParams.get("options") ?? "", ...flags].join(" ").trim());
  return parsed.toString();
}

/** FNV-1a: only spreads keys over lanes. */
function laneOf(key: string, lanes: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193) >>> 0;
  return hash % lanes;
}

import { createHash } from "node:crypto";
import { MurmurationError, UnavailableError } from "@murmuration/base";
import pg from "pg";
import { readText } from "./postgres-values.ts";

/** A value of a statement. Bytes become bytea, arrays become PostgreSQL arrays. */
export type PostgresValue =
  | Uint8Array
  | string
  | number
  | boolean
  | null
  | readonly (Uint8Array | string | number | boolean | null)[];

/** A row by column name: bytea is a Uint8Array of its own, int8 a number, NULL is null. */
export type PostgresRow = Readonly<Record<string, unknown>>;

/**
 * Statements on one connection, carried out in the order in which they are asked for. Those asked for without waiting for
 * each other (Promise.all) share one round trip. Each is prepared once per connection under a name made of its text.
 */
export interface PostgresStatements {
  /** All rows. */
  all(sql: string, ...values: readonly PostgresValue[]): Promise<readonly PostgresRow[]>;
  /** The first row, if there is one. */
  get(sql: string, ...values: readonly PostgresValue[]): Promise<PostgresRow | undefined>;
  /** How many rows were changed. */
  run(sql: string, ...values: readonly PostgresValue[]): Promise<number>;
}

/** deadlock_detected, serialization_failure: PostgreSQL ended a transaction for the sake of another one. */
const AGAIN = new Set(["40P01", "40001"]);
/**
 * With these the connection is of no more use: it is going down (08..., 57P..), PostgreSQL ended its session (25P03), it
 * leads to a server that takes no writes, another one having taken its place (25006), or a statement that it prepared is
 * not what it was since a newer node changed the tables (0A000).
 */
const ENDED = /^(?:08|57P|25P03|25006|0A000)/;

/** A connection out of a pool, for one transaction or one read. */
export class PostgresConnection implements PostgresStatements {
  private readonly client: pg.PoolClient;
  private lost = false;
  private refused: unknown;

  /** Rejects with UnavailableError `store/postgres-unreachable`. */
  static async take(pool: pg.Pool): Promise<PostgresConnection> {
    try {
      return new PostgresConnection(await pool.connect());
    } catch (error) {
      throw unavailable(error, "store/postgres-unreachable");
    }
  }

  private constructor(client: pg.PoolClient) {
    this.client = client;
    client.on("error", this.onError);
  }

  /** Whether it broke: what became of the statements that were sent, nobody knows. */
  get isBroken(): boolean {
    return this.lost;
  }

  /** What PostgreSQL refused since the last {@link goBack}, also where the caller took no notice. */
  get refusal(): unknown {
    return this.refused;
  }

  async all(sql: string, ...values: readonly PostgresValue[]): Promise<readonly PostgresRow[]> {
    return (await this.prepared(sql, values)).rows;
  }

  async get(sql: string, ...values: readonly PostgresValue[]): Promise<PostgresRow | undefined> {
    return (await this.prepared(sql, values)).rows[0];
  }

  async run(sql: string, ...values: readonly PostgresValue[]): Promise<number> {
    return (await this.prepared(sql, values)).rowCount ?? 0;
  }

  /** Sends control statements together with whatever comes next. If they fail, so does that. */
  send(sql: string): void {
    this.query({ text: sql }).catch(() => {});
  }

  /** Waits for control statements; the name of the last one that PostgreSQL carried out. */
  async control(sql: string): Promise<string> {
    const answer: unknown = await this.query({ text: sql });
    return [answer as pg.QueryResult].flat().at(-1)!.command;
  }

  /** Undoes what happened since a savepoint, a refused statement included. */
  async goBack(savepoint: string): Promise<void> {
    await this.control(`ROLLBACK TO ${savepoint}; RELEASE ${savepoint}`);
    this.refused = undefined;
  }

  /** Gives it back to its pool; a broken one is closed. */
  release(): void {
    this.client.removeListener("error", this.onError);
    this.client.release(this.lost);
  }

  private prepared(sql: string, values: readonly PostgresValue[]): Promise<pg.QueryResult<PostgresRow>> {
    return this.query({ name: nameOf(sql), text: sql, values: [...values], types: readText });
  }

  private async query(config: pg.QueryConfig): Promise<pg.QueryResult<PostgresRow>> {
    try {
      return await this.client.query<PostgresRow>(config);
    } catch (error) {
      this.lost ||= !isAnswer(error);
      this.refused ??= error;
      throw error;
    }
  }

  private readonly onError = (): void => {
    this.lost = true;
  };
}

/** Whether a transaction that failed with this did nothing and may be tried again. */
export function isAgain(error: unknown): boolean {
  return error instanceof pg.DatabaseError && AGAIN.has(error.code ?? "");
}

/** Whether PostgreSQL said this (or the reader of its values), the connection being whole. */
export function isAnswer(error: unknown): boolean {
  if (error instanceof MurmurationError) return true;
  return error instanceof pg.DatabaseError && !ENDED.test(error.code ?? "08");
}

/** An error of PostgreSQL quotes rows in its details: no more than its number goes any further. */
export function unavailable(error: unknown, code: string): MurmurationError {
  if (error instanceof MurmurationError) return error;
  return new UnavailableError(code, error instanceof pg.DatabaseError ? error.code : undefined);
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

/**
 * The product's storage: SQLite encrypted page by page (SQLCipher), in write-ahead mode with full durability.
 * The key is 32 raw bytes and is set before anything else is asked of the database.
 */
import {
  type Bytes,
  InvariantError,
  MurmurationError,
  RejectionError,
  toHex,
  UnavailableError,
  UsageError,
} from "@murmuration/base";
import Database, { type Statement } from "@signalapp/sqlcipher";
import type { Durability, Parameters, Row, Storage, Value } from "../ports/storage.ts";

export const DATABASE_KEY_BYTES = 32;

export interface SqlcipherOptions {
  /** Path of the database file; `:memory:` for one that vanishes. The write-ahead log lies beside it. */
  readonly path: string;
  /** 32 bytes, from the system's key store or from `keyFromPassphrase`. Copied. */
  readonly key: Bytes;
}

/**
 * After so many pages, 12 to 20 MiB, the log is transferred into the file: some such messages share one transfer. Clients
 * that share a machine and a conversation write alike, and must not all do it in the same moment.
 */
const pagesOfLog = (): number => 3_072 + Math.floor(2_048 * Math.random());

function keyLiteral(key: Bytes): string {
  if (key.length !== DATABASE_KEY_BYTES) throw new UsageError("storage/bad-key-length");
  return `"x'${toHex(key)}'"`;
}

/**
 * Opens or creates a database. RejectionError `storage/wrong-key` when it exists and does not open with this
 * key, or is no database; SQLCipher cannot tell one from the other.
 */
export function openSqlcipher(options: SqlcipherOptions): Storage {
  const literal = keyLiteral(options.key);
  const database = new Database(options.path, { cacheStatements: true });
  try {
    database.pragma(`key = ${literal}`);
    // Reading is what tries the key.
    database.prepare("SELECT count(*) AS n FROM sqlite_master", { persistent: false }).get();
    database.pragma("journal_mode = WAL");
    database.pragma("synchronous = FULL");
    database.pragma("secure_delete = ON");
    database.pragma("temp_store = MEMORY");
    database.pragma("foreign_keys = ON");
    // In KiB. A message to a group of the largest pairwise size reads and writes about 3 MB of pages; what does not
    // fit is decrypted and authenticated twice.
    database.pragma("cache_size = -8192");
    database.pragma(`wal_autocheckpoint = ${pagesOfLog()}`);
  } catch {
    database.close();
    throw new RejectionError("storage/wrong-key");
  }
  return new SqlcipherStorage(database);
}

/** The addon binds an array without a buffer behind it as NULL: an empty blob has to point somewhere. */
const EMPTY = new Uint8Array(1).subarray(0, 0);
const bindable = (value: Value): Value => (value instanceof Uint8Array && value.length === 0 ? EMPTY : value);

class SqlcipherStorage implements Storage {
  private readonly database: Database;
  private readonly statements = new Map<string, Statement>();
  private open = true;
  inTransaction = false;

  constructor(database: Database) {
    this.database = database;
  }

  private statement(sql: string): Statement {
    if (!this.open) throw new UsageError("storage/closed");
    let statement = this.statements.get(sql);
    if (statement === undefined) {
      statement = this.database.prepare(sql);
      this.statements.set(sql, statement);
    }
    return statement;
  }

  exec(sql: string): void {
    if (!this.open) throw new UsageError("storage/closed");
    this.database.exec(sql);
  }

  run(sql: string, parameters: Parameters = []): { changes: number; lastId: number } {
    const { changes, lastInsertRowid } = this.statement(sql).run(parameters.map(bindable));
    return { changes, lastId: lastInsertRowid };
  }

  get(sql: string, parameters: Parameters = []): Row | undefined {
    return this.statement(sql).get(parameters.map(bindable)) as Row | undefined;
  }

  all(sql: string, parameters: Parameters = []): readonly Row[] {
    return this.statement(sql).all(parameters.map(bindable)) as Row[];
  }

  transaction<T>(body: () => T, durability: Durability = "at-once"): T {
    if (this.inTransaction) throw new InvariantError("storage/nested-transaction");
    if (durability === "at-once") return this.transact(body);
    // In write-ahead mode NORMAL leaves a transaction in the log without waiting for the disk, and FULL waits for all of the
    // log, with what is in it from before (sqlite.org/pragma.html#pragma_synchronous).
    this.database.pragma("synchronous = NORMAL");
    try {
      return this.transact(body);
    } finally {
      this.database.pragma("synchronous = FULL");
    }
  }

  private transact<T>(body: () => T): T {
    this.run("BEGIN IMMEDIATE");
    this.inTransaction = true;
    let result: T;
    try {
      result = body();
      if (result instanceof Promise) throw new InvariantError("storage/asynchronous-transaction");
      this.run("COMMIT");
    } catch (error) {
      this.rollback();
      throw error;
    } finally {
      this.inTransaction = false;
    }
    return result;
  }

  private rollback(): void {
    try {
      this.run("ROLLBACK");
    } catch (error) {
      // SQLite has rolled back by itself on some errors; what caused it is thrown by the caller.
      if (error instanceof MurmurationError) throw error;
    }
  }

  eraseDeleted(): void {
    // secure_delete has overwritten the rows in their pages; older versions of those pages lie in the log.
    const [emptied] = this.database.pragma("wal_checkpoint(TRUNCATE)") as { readonly busy?: number }[];
    if (emptied?.busy !== 0) throw new UnavailableError("storage/in-use");
  }

  rekey(key: Bytes): void {
    if (this.inTransaction) throw new InvariantError("storage/nested-transaction");
    this.database.pragma(`rekey = ${keyLiteral(key)}`);
    this.eraseDeleted();
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.statements.clear();
    this.database.close();
  }
}

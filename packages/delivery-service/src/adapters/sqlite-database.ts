import { randomFillSync } from "node:crypto";
import { chmodSync, closeSync, existsSync, openSync } from "node:fs";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { type Bytes, UnavailableError, UsageError } from "@murmuration/base";
import type { StoreState } from "../ports/mailboxes.ts";
import { migrate } from "./sqlite-schema.ts";

/** What one transaction did, for metrics and for tests that count transactions. */
export interface TransactionReport {
  /** Writes that shared the transaction. */
  readonly writes: number;
  readonly durationMs: number;
}

/** Prepared statements by their text; each is compiled once per database. */
export interface Statements {
  prepare(sql: string): StatementSync;
}

interface PendingWrite {
  run(statements: Statements): void;
  done(): void;
  failed(error: unknown): void;
}

/**
 * One SQLite file with write-ahead log and synchronous=FULL: a transaction is on the disk when COMMIT returns.
 *
 * Writes that arrive within one turn of the event loop share a transaction, so that many senders pay for one
 * fsync; each is answered after that COMMIT and never before. A write that throws is rolled back alone.
 * Content that is deleted is overwritten (secure_delete).
 *
 * Each transaction is counted in its own, under the name of this run of the process. So the database knows each state that
 * it was ever in, and not those which it has lost where it was set back to an older copy.
 */
export class SqliteDatabase implements Statements {
  private readonly database: DatabaseSync;
  private readonly statements = new Map<string, StatementSync>();
  private readonly report: (transaction: TransactionReport) => void;
  private readonly run: Bytes = randomFillSync(new Uint8Array(8));
  private transactions = 0;
  private queue: PendingWrite[] = [];
  private scheduled = false;
  private closed = false;

  /** @param path a file, created when absent; ":memory:" is refused because it is not durable. */
  constructor(path: string, report: (transaction: TransactionReport) => void = () => {}) {
    if (path === ":memory:" || path === "") throw new UsageError("store/path-not-durable");
    this.report = report;
    restrictToOwner(path);
    this.database = new DatabaseSync(path);
    this.database.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      PRAGMA foreign_keys = ON;
      PRAGMA secure_delete = ON;
      PRAGMA busy_timeout = 5000;
      PRAGMA journal_size_limit = 8388608;
      PRAGMA trusted_schema = OFF;
    `);
    try {
      migrate(this.database);
    } catch (error) {
      this.database.close();
      throw error;
    }
  }

  prepare(sql: string): StatementSync {
    const known = this.statements.get(sql);
    if (known !== undefined) return known;
    const statement = this.database.prepare(sql);
    this.statements.set(sql, statement);
    return statement;
  }

  /** Reads committed state. Throws UnavailableError `store/closed` after {@link close}. */
  async read<T>(run: (statements: Statements) => T): Promise<T> {
    this.refuseWhenClosed();
    return run(this);
  }

  /**
   * Runs `run` inside the next shared transaction and resolves with its result once that is durable. `run` must
   * be synchronous. Rejects with what `run` threw (its changes undone), or with UnavailableError
   * `store/write-failed` when the transaction as a whole could not be made durable.
   */
  write<T>(run: (statements: Statements) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.closed) {
        reject(new UnavailableError("store/closed"));
        return;
      }
      let result: T;
      this.queue.push({
        run: (statements) => {
          result = run(statements);
        },
        done: () => resolve(result),
        failed: reject,
      });
      if (this.scheduled) return;
      this.scheduled = true;
      setImmediate(() => this.flush());
    });
  }

  /** The present state, which is durable. Undefined before the first write of this run. */
  state(): StoreState | undefined {
    const { run, transactions: count } = this;
    return count === 0 ? undefined : { run, count };
  }

  /** True when this database was in that state once. */
  async wasIn({ run, count }: StoreState): Promise<boolean> {
    return this.read((statements) => {
      const row = statements.prepare("SELECT count FROM runs WHERE run = ?").get(run);
      return row !== undefined && (row["count"] as number) >= count;
    });
  }

  /** Makes every queued write durable, moves the write-ahead log into the database and closes both. */
  close(): void {
    if (this.closed) return;
    this.flush();
    this.closed = true;
    this.statements.clear();
    this.database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    this.database.close();
  }

  /** Moves the write-ahead log into the database and empties it, so that deleted content leaves the log too. */
  async truncateLog(): Promise<void> {
    this.refuseWhenClosed();
    this.database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  }

  private refuseWhenClosed(): void {
    if (this.closed) throw new UnavailableError("store/closed");
  }

  private flush(): void {
    this.scheduled = false;
    const batch = this.queue;
    this.queue = [];
    if (batch.length === 0) return;
    const startedAt = performance.now();
    let durable: PendingWrite[];
    let counted = 0;
    try {
      this.database.exec("BEGIN IMMEDIATE");
      const changesBefore = this.totalChanges();
      durable = batch.filter((write) => this.runOne(write));
      if (this.countTransaction(changesBefore)) counted = 1;
      this.database.exec("COMMIT");
    } catch {
      this.undo();
      for (const write of batch) write.failed(new UnavailableError("store/write-failed"));
      return;
    }
    this.transactions += counted;
    for (const write of durable) write.done();
    this.report({ writes: batch.length, durationMs: performance.now() - startedAt });
  }

  /** True unless nothing was changed, in which case there is nothing to be lost. */
  private countTransaction(changesBefore: number): boolean {
    if (this.totalChanges() === changesBefore) return false;
    this.prepare("INSERT INTO runs VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1").run(this.run);
    return true;
  }

  private totalChanges(): number {
    return this.prepare("SELECT total_changes() AS n").get()!["n"] as number;
  }

  /** True when the write belongs to the transaction; one that threw is undone and answered at once. */
  private runOne(write: PendingWrite): boolean {
    this.database.exec("SAVEPOINT one_write");
    try {
      write.run(this);
      this.database.exec("RELEASE one_write");
      return true;
    } catch (error) {
      this.database.exec("ROLLBACK TO one_write; RELEASE one_write");
      write.failed(error);
      return false;
    }
  }

  private undo(): void {
    try {
      this.database.exec("ROLLBACK");
    } catch {
      // SQLite has already rolled back by itself, for instance on a full disk.
    }
  }
}

/**
 * The file holds the keys that certify senders, and its directory may be one that others can enter. SQLite gives
 * the log beside it the same mode.
 */
function restrictToOwner(path: string): void {
  // Never opened when it exists: closing it would drop the locks that this process holds on it.
  if (!existsSync(path)) closeSync(openSync(path, "ax", 0o600));
  chmodSync(path, 0o600);
}

/** A BLOB column as bytes. */
export function blob(value: unknown): Uint8Array<ArrayBuffer> {
  return value as Uint8Array<ArrayBuffer>;
}

/** A BLOB column that may be NULL. */
export function optionalBlob(value: unknown): Uint8Array<ArrayBuffer> | undefined {
  return value === null ? undefined : (value as Uint8Array<ArrayBuffer>);
}

/**
 * The storage of `demo --light`: the same SQL in a plain SQLite file, transactional, and written before anything is
 * acknowledged, so that it survives the end of its process; it does not wait for the disk as the product does, and it is
 * not encrypted. A thousand clients on one machine would otherwise measure that machine's one disk. Only the demo
 * uses it.
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { InvariantError, UsageError } from "@murmuration/base";
import type { Parameters, Row, Storage } from "@murmuration/client-core";

export function openLightStorage(path: string): Storage {
  const database = new DatabaseSync(path);
  // A new file's change to a log waits for the disk too, unless it was told before not to. Nobody else opens the file: the
  // locks of every transaction and every question outside of one would cost as much as those do.
  database.exec(`
    PRAGMA locking_mode = EXCLUSIVE;
    PRAGMA synchronous = OFF;
    PRAGMA journal_mode = WAL;
    PRAGMA temp_store = MEMORY;
    PRAGMA foreign_keys = ON;
    PRAGMA cache_size = -2048;
  `);
  return new LightStorage(database);
}

class LightStorage implements Storage {
  private readonly database: DatabaseSync;
  private readonly statements = new Map<string, StatementSync>();
  private open = true;
  inTransaction = false;

  constructor(database: DatabaseSync) {
    this.database = database;
  }

  private statement(sql: string): StatementSync {
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
    const { changes, lastInsertRowid } = this.statement(sql).run(...parameters);
    return { changes: Number(changes), lastId: Number(lastInsertRowid) };
  }

  get(sql: string, parameters: Parameters = []): Row | undefined {
    return this.statement(sql).get(...parameters) as Row | undefined;
  }

  all(sql: string, parameters: Parameters = []): readonly Row[] {
    return this.statement(sql).all(...parameters) as Row[];
  }

  transaction<T>(body: () => T): T {
    if (this.inTransaction) throw new InvariantError("storage/nested-transaction");
    this.run("BEGIN IMMEDIATE");
    this.inTransaction = true;
    try {
      const result = body();
      if (result instanceof Promise) throw new InvariantError("storage/asynchronous-transaction");
      this.run("COMMIT");
      return result;
    } catch (error) {
      // SQLite has rolled back by itself on some errors.
      if (this.database.isTransaction) this.run("ROLLBACK");
      throw error;
    } finally {
      this.inTransaction = false;
    }
  }

  /** Nothing here is secret: the log is left to grow into its usual size. */
  eraseDeleted(): void {}

  rekey(): void {
    throw new UsageError("storage/not-encrypted");
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    this.statements.clear();
    this.database.close();
  }
}

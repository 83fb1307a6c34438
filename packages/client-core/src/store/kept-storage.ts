import type { Bytes } from "@murmuration/base";
import type { Durability, Parameters, Row, Storage } from "../ports/storage.ts";

/** Rows kept of one kind; what is read most is read again soon after all were let go. */
const MAX_KEPT = 256;

/** Statements that change no row of any table. */
const READS = /^\s*(?:SELECT|SAVEPOINT|RELEASE|BEGIN|COMMIT)\b/i;
/** The tables that a statement writes to. Of a rollback none is known. */
const TARGETS = /\b(?:INTO|UPDATE(?:\s+OR\s+\w+)?|DELETE\s+FROM)\s+(\w+)/gi;

/**
 * A storage that tells its stores when what they keep of a table may not be true any more: at every statement that
 * writes to the table, whoever runs it, and at every rollback, of a transaction or to a savepoint. What is kept is
 * therefore what the database would answer, inside a transaction as well as after it.
 *
 * This holds where nobody else writes to the database meanwhile: one client works on it at a time, which keeps its groups
 * in memory anyway. Rows that go with others by a foreign key are not seen to go, and are not to be kept. Costs a look-up
 * by the statement's text, tens of nanoseconds beside microseconds.
 */
export class KeptStorage implements Storage {
  private readonly storage: Storage;
  private readonly watchers = new Map<string, (() => void)[]>();
  /** Whom a statement concerns, by its text. */
  private readonly concerned = new Map<string, readonly (() => void)[]>();

  constructor(storage: Storage) {
    this.storage = storage;
  }

  /** Calls back before a table is written to, and after a rollback. */
  watch(table: string, changed: () => void): void {
    this.watchers.set(table, [...(this.watchers.get(table) ?? []), changed]);
    this.concerned.clear();
  }

  private tell(sql: string): void {
    let concerned = this.concerned.get(sql);
    if (concerned === undefined) {
      concerned = this.whomConcerns(sql);
      this.concerned.set(sql, concerned);
    }
    for (const changed of concerned) changed();
  }

  private whomConcerns(sql: string): readonly (() => void)[] {
    if (READS.test(sql)) return [];
    const targets = [...sql.matchAll(TARGETS)].map(([, table]) => table!);
    const tables = targets.length > 0 ? new Set(targets) : this.watchers.keys();
    return [...tables].flatMap((table) => this.watchers.get(table) ?? []);
  }

  private tellAll(): void {
    for (const watchers of this.watchers.values()) for (const changed of watchers) changed();
  }

  exec(sql: string): void {
    this.tellAll();
    this.storage.exec(sql);
  }

  run(sql: string, parameters?: Parameters): { readonly changes: number; readonly lastId: number } {
    this.tell(sql);
    return this.storage.run(sql, parameters);
  }

  get(sql: string, parameters?: Parameters): Row | undefined {
    this.tell(sql);
    return this.storage.get(sql, parameters);
  }

  all(sql: string, parameters?: Parameters): readonly Row[] {
    this.tell(sql);
    return this.storage.all(sql, parameters);
  }

  transaction<T>(body: () => T, durability?: Durability): T {
    try {
      return this.storage.transaction(body, durability);
    } catch (error) {
      this.tellAll();
      throw error;
    }
  }

  get inTransaction(): boolean {
    return this.storage.inTransaction;
  }

  eraseDeleted(): void {
    this.storage.eraseDeleted();
  }

  rekey(key: Bytes): void {
    this.storage.rekey(key);
  }

  close(): void {
    this.tellAll();
    this.storage.close();
  }
}

/** What was read of one table, by a key of the reader's choice, until the table is written to. At most `most` entries. */
export class KeptRows<T> {
  private readonly most: number;
  private rows = new Map<string, T>();

  constructor(storage: KeptStorage, table: string, most = MAX_KEPT) {
    this.most = most;
    storage.watch(table, () => {
      if (this.rows.size > 0) this.rows = new Map();
    });
  }

  /** What is kept under the key, or what is read now. Undefined is not kept. */
  get(key: string, read: () => T | undefined): T | undefined {
    const kept = this.rows.get(key);
    if (kept !== undefined) return kept;
    const found = read();
    if (found !== undefined) this.put(key, found);
    return found;
  }

  /** The same of what is always there. */
  read(key: string, read: () => T): T {
    return this.get(key, read)!;
  }

  /** What is kept under the key, if anything is. */
  peek(key: string): T | undefined {
    return this.rows.get(key);
  }

  values(): Iterable<T> {
    return this.rows.values();
  }

  /** What was just read or written. */
  put(key: string, row: T): void {
    if (this.rows.size >= this.most) this.rows.clear();
    this.rows.set(key, row);
  }

  /**
   * Runs a statement that changes this row only, in a way that is known: all rows stay kept. Without `after` it changes
   * nothing of what is kept.
   */
  writeThrough(key: string, write: () => void, after: (row: T) => T = (row) => row): void {
    const { rows } = this;
    write();
    this.rows = rows;
    const row = rows.get(key);
    if (row !== undefined) rows.set(key, after(row));
  }
}

/** An id as a key of a Map: shorter to make than any printable form. */
export function keyOf(id: Uint8Array): string {
  return Buffer.from(id.buffer, id.byteOffset, id.length).toString("latin1");
}

import type { Bytes } from "@murmuration/base";

/** What a column holds. Integers stay below 2^53. */
export type Value = string | number | Bytes | null;
/** What a query found. Its blobs are its own. */
export type Row = Readonly<Record<string, Value>>;
export type Parameters = readonly Value[];

/**
 * A blob as plain bytes over the row's own memory, without a copy: for large values. Rows are made for whoever asked
 * and never used again by the storage.
 */
export function viewOf(value: Bytes): Bytes {
  return new Uint8Array(value.buffer, value.byteOffset, value.length);
}

/**
 * A synchronous, transactional, encrypted SQL database (SQLite's dialect). Everything the client knows lies in
 * one, so that one transaction can hold ratchet state, plaintext and cursor.
 */
export interface Storage {
  /** Runs statements without parameters; for the schema. */
  exec(sql: string): void;
  /** Runs one statement. Statements are compiled once and kept. */
  run(sql: string, parameters?: Parameters): { readonly changes: number; readonly lastId: number };
  get(sql: string, parameters?: Parameters): Row | undefined;
  all(sql: string, parameters?: Parameters): readonly Row[];
  /**
   * Runs `body` in one durable transaction: when it returned, everything is on disk; when it threw, nothing
   * happened. Not reentrant (InvariantError `storage/nested-transaction`); `body` must not return a promise.
   */
  transaction<T>(body: () => T): T;
  /** True while `transaction` runs. */
  readonly inTransaction: boolean;
  /** Overwrites what was deleted: deleted content is no longer in the database nor in its write-ahead log. */
  eraseDeleted(): void;
  /** Encrypts the whole database under another key of 32 bytes. */
  rekey(key: Bytes): void;
  close(): void;
}

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
 * When a transaction is on the disk. `at-once`: before it returns. `with-the-next`: with the next one that is at once, or
 * when the operating system comes to it. Until then it outlives its process, but a loss of power may take it back, with all
 * that came behind it. For what is done once more then without harm, and appends no event; waiting for the disk is most of what it would cost.
 */
export type Durability = "at-once" | "with-the-next";

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
   * Runs `body` in one transaction: when it returned, everything is as `durability` says; when it threw, nothing
   * happened. Not reentrant (InvariantError `storage/nested-transaction`); `body` must not return a promise.
   */
  transaction<T>(body: () => T, durability?: Durability): T;
  /** True while `transaction` runs. */
  readonly inTransaction: boolean;
  /**
   * Overwrites what was deleted: deleted content is no longer in the database nor in its write-ahead log. UnavailableError
   * `storage/in-use` where somebody else reads from the log.
   */
  eraseDeleted(): void;
  /** Encrypts the whole database under another key of 32 bytes. */
  rekey(key: Bytes): void;
  close(): void;
}

import type { Bytes } from "@murmuration/base";

/**
 * What an operation changed, to be written as one transaction together with the caller's own rows. Keys are
 * short ASCII strings inside one group's namespace; the values hold secrets, so the store is encrypted at rest
 * and overwrites what it deletes.
 */
export interface GroupWrites {
  readonly puts: ReadonlyMap<string, Bytes>;
  readonly deletes: readonly string[];
  /** Every key that begins with one of these goes as well; deletes are applied before puts. */
  readonly deletePrefixes: readonly string[];
}

/** Where the rows of one group live. Synchronous, as the transaction around it is the caller's. */
export interface GroupStore {
  get(key: string): Uint8Array | undefined;
  /** Keys with this prefix, in any order. */
  keys(prefix: string): Iterable<string>;
  apply(writes: GroupWrites): void;
}

/** Collects the changes of one operation. */
export class WriteSet implements GroupWrites {
  readonly puts = new Map<string, Bytes>();
  readonly deletes: string[] = [];
  readonly deletePrefixes: string[] = [];

  put(key: string, value: Bytes): this {
    this.puts.set(key, value);
    return this;
  }

  delete(key: string): this {
    this.puts.delete(key);
    this.deletes.push(key);
    return this;
  }

  deletePrefix(prefix: string): this {
    for (const key of this.puts.keys()) if (key.startsWith(prefix)) this.puts.delete(key);
    this.deletePrefixes.push(prefix);
    return this;
  }
}

/** Bytes that a write set hands to the store: keys, values and deleted keys. */
export function bytesWritten(writes: GroupWrites): number {
  let total = 0;
  for (const [key, value] of writes.puts) total += key.length + value.length;
  for (const key of writes.deletes) total += key.length;
  for (const prefix of writes.deletePrefixes) total += prefix.length;
  return total;
}

/** A store in memory, for tests, tools and short-lived clients. */
export class MemoryGroupStore implements GroupStore {
  readonly rows = new Map<string, Bytes>();

  get(key: string): Uint8Array | undefined {
    return this.rows.get(key);
  }

  *keys(prefix: string): Iterable<string> {
    for (const key of this.rows.keys()) if (key.startsWith(prefix)) yield key;
  }

  apply(writes: GroupWrites): void {
    for (const key of writes.deletes) this.remove(key);
    for (const prefix of writes.deletePrefixes) for (const key of this.keys(prefix)) this.remove(key);
    for (const [key, value] of writes.puts) this.rows.set(key, value.slice());
  }

  private remove(key: string): void {
    this.rows.get(key)?.fill(0);
    this.rows.delete(key);
  }
}

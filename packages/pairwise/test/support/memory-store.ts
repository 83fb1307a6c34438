import type { Bytes } from "@murmuration/base";
import type { PairwiseStore, PairwiseTable, Persist, WriteSet } from "../../src/index.ts";

/** A PairwiseStore in memory with what tests look at: copies of the whole, and how often it was written. */
export class MemoryStore implements PairwiseStore {
  private rows = new Map<string, Bytes>();
  private open = false;
  applied = 0;
  reads = 0;

  read(table: PairwiseTable, key: string): Bytes | undefined {
    this.reads++;
    return this.rows.get(`${table}/${key}`);
  }

  readEach(table: PairwiseTable, keys: readonly string[]): readonly (Bytes | undefined)[] {
    this.reads++;
    return keys.map((key) => this.rows.get(`${table}/${key}`));
  }

  keys(table: PairwiseTable): readonly string[] {
    const prefix = `${table}/`;
    return [...this.rows.keys()]
      .filter((name) => name.startsWith(prefix))
      .map((name) => name.slice(prefix.length));
  }

  transactionOpen(): boolean {
    return this.open;
  }

  applyWriteSet(writeSet: WriteSet): void {
    this.applied++;
    for (const { table, key, value } of writeSet.changes) {
      if (value === undefined) this.rows.delete(`${table}/${key}`);
      else this.rows.set(`${table}/${key}`, value.slice());
    }
  }

  /** One synchronous transaction, as a caller has it. */
  transaction<T>(body: () => T): T {
    this.open = true;
    try {
      return body();
    } finally {
      this.open = false;
    }
  }

  /** What a host would do: apply the write set, give back the output. */
  persist<T>(): Persist<T, T> {
    return (staged) =>
      this.transaction(() => {
        this.applyWriteSet(staged.writeSet);
        return staged.output;
      });
  }

  copy(): Map<string, Bytes> {
    return new Map(this.rows);
  }

  restore(copy: Map<string, Bytes>): void {
    this.rows = new Map(copy);
  }
}

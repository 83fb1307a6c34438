import type { Bytes } from "@murmuration/base";
import type { PairwiseStore, PairwiseTable, WriteSet } from "@murmuration/pairwise";
import { type Storage, viewOf } from "../ports/storage.ts";

/** The pairwise engine's port, on the one database of the client. */
export class PairwiseRows implements PairwiseStore {
  private readonly storage: Storage;

  constructor(storage: Storage) {
    this.storage = storage;
  }

  read(table: PairwiseTable, key: string): Bytes | undefined {
    const sql = "SELECT value FROM pairwise WHERE tbl = ? AND key = ?";
    const value = this.storage.get(sql, [table, key])?.["value"];
    return value === undefined ? undefined : viewOf(value as Bytes);
  }

  /** One query. Outside a transaction each query takes and leaves the database's locks, which costs more than a row. */
  readEach(table: PairwiseTable, keys: readonly string[]): readonly (Bytes | undefined)[] {
    const values = keys.map((): Bytes | undefined => undefined);
    // CROSS JOIN fixes the order: for each key one look-up, not the list of keys for each row of the table.
    const rows = this.storage.all(
      `SELECT wanted.key AS i, held.value AS value FROM json_each(?) AS wanted
         CROSS JOIN pairwise AS held ON held.tbl = ? AND held.key = wanted.value`,
      [JSON.stringify(keys), table],
    );
    for (const row of rows) values[row["i"] as number] = viewOf(row["value"] as Bytes);
    return values;
  }

  /** Positions of the keys that have no row. One query that reads no value. */
  missing(table: PairwiseTable, keys: readonly string[]): readonly number[] {
    return this.storage
      .all(
        `SELECT wanted.key AS i FROM json_each(?) AS wanted WHERE NOT EXISTS
           (SELECT 1 FROM pairwise AS held WHERE held.tbl = ? AND held.key = wanted.value)`,
        [JSON.stringify(keys), table],
      )
      .map((row) => row["i"] as number);
  }

  keys(table: PairwiseTable): readonly string[] {
    return this.storage
      .all("SELECT key FROM pairwise WHERE tbl = ?", [table])
      .map((row) => row["key"] as string);
  }

  transactionOpen(): boolean {
    return this.storage.inTransaction;
  }

  applyWriteSet(writeSet: WriteSet): void {
    for (const { table, key, value } of writeSet.changes) {
      if (value === undefined) {
        this.storage.run("DELETE FROM pairwise WHERE tbl = ? AND key = ?", [table, key]);
      } else {
        this.storage.run(
          "INSERT INTO pairwise (tbl, key, value) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
          [table, key, value],
        );
      }
    }
  }
}

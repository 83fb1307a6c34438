import type { Bytes } from "@murmuration/base";
import type { PairwiseStore, PairwiseTable, WriteSet } from "@murmuration/pairwise";
import type { Storage } from "../ports/storage.ts";

/** The pairwise engine's port, on the one database of the client. */
export class PairwiseRows implements PairwiseStore {
  private readonly storage: Storage;

  constructor(storage: Storage) {
    this.storage = storage;
  }

  read(table: PairwiseTable, key: string): Bytes | undefined {
    const value = this.storage.get("SELECT value FROM pairwise WHERE tbl = ? AND key = ?", [table, key])?.[
      "value"
    ];
    return value === undefined ? undefined : new Uint8Array(value as Bytes);
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

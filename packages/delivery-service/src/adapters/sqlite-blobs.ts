import { createHash } from "node:crypto";
import { type BlobId, type Bytes, concatBytes, equalBytes } from "@murmuration/base";
import type { BlobPart, BlobStore } from "../ports/blobs.ts";
import { blob, type SqliteDatabase } from "./sqlite-database.ts";

const CHUNK_BYTES = 65_536;

/** {@link BlobStore} on SQLite, in chunks so that a range reads only what it needs. */
export class SqliteBlobStore implements BlobStore {
  private readonly database: SqliteDatabase;

  constructor(database: SqliteDatabase) {
    this.database = database;
  }

  put(blobId: BlobId, bytes: Bytes, storedAtMs: number): Promise<"stored" | "repeated" | "exists"> {
    const digest = createHash("sha256").update(bytes).digest();
    return this.database.write((statements) => {
      const known = statements.prepare("SELECT digest FROM blobs WHERE blob_id = ?").get(blobId);
      if (known !== undefined) return equalBytes(blob(known["digest"]), digest) ? "repeated" : "exists";
      statements
        .prepare("INSERT INTO blobs VALUES (?, ?, ?, ?)")
        .run(blobId, digest, bytes.length, storedAtMs);
      const insert = statements.prepare("INSERT INTO blob_chunks VALUES (?, ?, ?)");
      for (let from = 0; from < bytes.length; from += CHUNK_BYTES) {
        insert.run(blobId, from / CHUNK_BYTES, bytes.subarray(from, from + CHUNK_BYTES));
      }
      return "stored";
    });
  }

  read(blobId: BlobId, from: number, to: number): Promise<BlobPart | undefined> {
    return this.database.read((statements) => {
      const row = statements.prepare("SELECT total_bytes FROM blobs WHERE blob_id = ?").get(blobId);
      if (row === undefined) return undefined;
      const totalBytes = row["total_bytes"] as number;
      const start = Math.min(Math.max(from, 0), totalBytes);
      const end = Math.min(Math.max(to, start), totalBytes);
      const first = Math.floor(start / CHUNK_BYTES);
      const chunks = statements
        .prepare("SELECT bytes FROM blob_chunks WHERE blob_id = ? AND chunk BETWEEN ? AND ? ORDER BY chunk")
        .all(blobId, first, Math.floor(Math.max(end - 1, start) / CHUNK_BYTES));
      const joined = concatBytes(...chunks.map((chunk) => blob(chunk["bytes"])));
      const skip = start - first * CHUNK_BYTES;
      return { totalBytes, bytes: joined.subarray(skip, skip + end - start) };
    });
  }

  expire(beforeMs: number, limit: number): Promise<number> {
    return this.database.write((statements) =>
      Number(
        statements
          .prepare(
            `DELETE FROM blobs WHERE blob_id IN
               (SELECT blob_id FROM blobs WHERE stored_at_ms < ? ORDER BY stored_at_ms LIMIT ?)`,
          )
          .run(beforeMs, limit).changes,
      ),
    );
  }
}

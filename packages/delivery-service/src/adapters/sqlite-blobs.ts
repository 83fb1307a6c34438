import { createHash } from "node:crypto";
import { type BlobId, type Bytes, concatBytes, equalBytes, UnavailableError } from "@murmuration/base";
import type { BlobPart, BlobStore } from "../ports/blobs.ts";
import { blob, type SqliteDatabase, type Statements } from "./sqlite-database.ts";

/** One chunk is one write: large enough to be quick, small enough not to hold up delivery. */
const CHUNK_BYTES = 262_144;

interface Digested {
  readonly digest: Bytes;
  readonly totalBytes: number;
}

/** {@link BlobStore} on SQLite, in chunks: an upload becomes a blob when its last chunk is durable. */
export class SqliteBlobStore implements BlobStore {
  private readonly database: SqliteDatabase;

  constructor(database: SqliteDatabase) {
    this.database = database;
  }

  async put(
    blobId: BlobId,
    content: AsyncIterable<Uint8Array>,
    storedAtMs: number,
  ): Promise<"stored" | "repeated" | "exists"> {
    const known = await this.database.read((statements) => digestOf(statements, blobId));
    if (known !== undefined) {
      const { digest } = await consume(content, async () => {});
      if (!equalBytes(known, digest)) return "exists";
      await this.database.write((statements) => renew(statements, blobId, storedAtMs));
      return "repeated";
    }
    const upload = await this.begin(storedAtMs);
    try {
      const digested = await consume(content, (chunk, index) =>
        this.database.write((statements) => {
          statements.prepare("INSERT INTO blob_chunks VALUES (?, ?, ?)").run(upload, index, chunk);
        }),
      );
      return await this.finish(blobId, upload, digested, storedAtMs);
    } catch (error) {
      await this.database.write((statements) => forget(statements, upload));
      throw error;
    }
  }

  read(blobId: BlobId, from: number, to: number): Promise<BlobPart | undefined> {
    return this.database.read((statements) => {
      const row = statements.prepare("SELECT upload, total_bytes FROM blobs WHERE blob_id = ?").get(blobId);
      if (row === undefined) return undefined;
      const totalBytes = row["total_bytes"] as number;
      const start = Math.min(Math.max(from, 0), totalBytes);
      const end = Math.min(Math.max(to, start), totalBytes);
      const first = Math.floor(start / CHUNK_BYTES);
      const chunks = statements
        .prepare("SELECT bytes FROM blob_chunks WHERE upload = ? AND chunk BETWEEN ? AND ? ORDER BY chunk")
        .all(row["upload"] as number, first, Math.floor(Math.max(end - 1, start) / CHUNK_BYTES));
      const joined = concatBytes(...chunks.map((chunk) => blob(chunk["bytes"])));
      const skip = start - first * CHUNK_BYTES;
      return { totalBytes, bytes: joined.subarray(skip, skip + end - start) };
    });
  }

  expire(beforeMs: number, limit: number): Promise<number> {
    return this.deleteUploads(
      "SELECT upload FROM blobs WHERE stored_at_ms < ? ORDER BY stored_at_ms LIMIT ?",
      beforeMs,
      limit,
    );
  }

  expireUploads(beforeMs: number, limit: number): Promise<number> {
    return this.deleteUploads(
      `SELECT upload FROM blob_uploads WHERE started_at_ms < ? AND upload NOT IN (SELECT upload FROM blobs)
       LIMIT ?`,
      beforeMs,
      limit,
    );
  }

  private begin(startedAtMs: number): Promise<number> {
    return this.database.write((statements) =>
      Number(
        statements.prepare("INSERT INTO blob_uploads (started_at_ms) VALUES (?)").run(startedAtMs)
          .lastInsertRowid,
      ),
    );
  }

  /** Another upload may have taken the id meanwhile: then this one goes. */
  private finish(
    blobId: BlobId,
    upload: number,
    digested: Digested,
    storedAtMs: number,
  ): Promise<"stored" | "repeated" | "exists"> {
    return this.database.write((statements) => {
      const rival = digestOf(statements, blobId);
      if (rival !== undefined) {
        forget(statements, upload);
        return equalBytes(rival, digested.digest) ? "repeated" : "exists";
      }
      statements
        .prepare("INSERT INTO blobs VALUES (?, ?, ?, ?, ?)")
        .run(blobId, upload, digested.digest, digested.totalBytes, storedAtMs);
      return "stored";
    });
  }

  /** The row of a blob and its chunks go with its upload. */
  private deleteUploads(selected: string, beforeMs: number, limit: number): Promise<number> {
    return this.database.write((statements) => {
      const rows = statements.prepare(selected).all(beforeMs, limit);
      for (const row of rows) forget(statements, row["upload"] as number);
      return rows.length;
    });
  }
}

function digestOf(statements: Statements, blobId: BlobId): Bytes | undefined {
  const row = statements.prepare("SELECT digest FROM blobs WHERE blob_id = ?").get(blobId);
  return row === undefined ? undefined : blob(row["digest"]);
}

function renew(statements: Statements, blobId: BlobId, storedAtMs: number): void {
  const { changes } = statements
    .prepare("UPDATE blobs SET stored_at_ms = max(stored_at_ms, ?) WHERE blob_id = ?")
    .run(storedAtMs, blobId);
  if (Number(changes) === 0) throw new UnavailableError("blob/expired");
}

function forget(statements: Statements, upload: number): void {
  statements.prepare("DELETE FROM blob_uploads WHERE upload = ?").run(upload);
}

/** Cuts a stream into chunks of CHUNK_BYTES, the last one shorter, and digests it on the way. */
async function consume(
  content: AsyncIterable<Uint8Array>,
  store: (chunk: Bytes, index: number) => Promise<void>,
): Promise<Digested> {
  const hash = createHash("sha256");
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  let totalBytes = 0;
  let index = 0;
  for await (const piece of content) {
    hash.update(piece);
    totalBytes += piece.length;
    waiting.push(piece);
    waitingBytes += piece.length;
    if (waitingBytes < CHUNK_BYTES) continue;
    const joined = concatBytes(...waiting);
    const whole = joined.length - (joined.length % CHUNK_BYTES);
    for (let at = 0; at < whole; at += CHUNK_BYTES) {
      await store(joined.subarray(at, at + CHUNK_BYTES), index++);
    }
    waiting = [joined.subarray(whole)];
    waitingBytes = joined.length - whole;
  }
  if (waitingBytes > 0) await store(concatBytes(...waiting), index);
  return { digest: new Uint8Array(hash.digest()), totalBytes };
}

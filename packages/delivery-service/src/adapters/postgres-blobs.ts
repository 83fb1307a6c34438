import { createHash } from "node:crypto";
import { type BlobId, type Bytes, concatBytes, equalBytes, UnavailableError } from "@murmuration/base";
import type { BlobPart, BlobStore } from "../ports/blobs.ts";
import type { PostgresDatabase, PostgresStatements } from "./postgres-database.ts";
import { bytea } from "./postgres-values.ts";

/** One chunk is one write: large enough to be quick, small enough not to hold up delivery. */
const CHUNK_BYTES = 262_144;
/** Uploads that one transaction deletes: a blob of 100 MiB is 400 chunks, and each lies in 131 rows of its own. */
const DELETED_AT_ONCE = 10;

/** Of a new upload, where $1 is NULL, with its first chunk; else the next chunk. Without bytes there is no chunk. */
const ADD = `
  begun AS (INSERT INTO blob_uploads (started_at_ms) SELECT $2 WHERE $1::bigint IS NULL RETURNING upload),
  present AS (SELECT coalesce($1::bigint, (SELECT upload FROM begun)) AS upload),
  added AS (INSERT INTO blob_chunks SELECT upload, $3, $4 FROM present WHERE $4::bytea IS NOT NULL)`;
const FINISH = `
  WITH ${ADD},
  stored AS (
    INSERT INTO blobs SELECT $5, upload, $6, $7, $2 FROM present ON CONFLICT DO NOTHING RETURNING upload
  )
  SELECT upload, EXISTS (SELECT FROM stored) AS stored FROM present`;
const RENEW = "UPDATE blobs SET stored_at_ms = greatest(stored_at_ms, $1) WHERE blob_id = $2";
const DIGEST = "SELECT digest FROM blobs WHERE blob_id = $1";

type Outcome = "stored" | "repeated" | "exists";

/** An upload under way; `number` is undefined before its first chunk is stored. */
interface Upload {
  number: number | undefined;
  chunks: number;
}

/**
 * {@link BlobStore} on PostgreSQL, in chunks: an upload becomes a blob when its last chunk is durable. Each chunk is one
 * write of one round trip; a blob of one chunk is one look and one write.
 */
export class PostgresBlobStore implements BlobStore {
  private readonly database: PostgresDatabase;

  constructor(database: PostgresDatabase) {
    this.database = database;
  }

  async put(blobId: BlobId, content: AsyncIterable<Uint8Array>, storedAtMs: number): Promise<Outcome> {
    const hash = createHash("sha256");
    const known = await this.database.read((statements) => digestOf(statements, blobId));
    if (known !== undefined) {
      for await (const piece of content) hash.update(piece);
      if (!equalBytes(known, new Uint8Array(hash.digest()))) return "exists";
      const renewed = await this.database.writeRowsOf(blobId, (statements) =>
        statements.run(RENEW, storedAtMs, blobId),
      );
      if (renewed === 0) throw new UnavailableError("blob/expired");
      return "repeated";
    }
    const upload: Upload = { number: undefined, chunks: 0 };
    let totalBytes = 0;
    let last: Bytes | undefined;
    try {
      for await (const chunk of inChunks(content)) {
        hash.update(chunk);
        totalBytes += chunk.length;
        if (last !== undefined) await this.add(blobId, upload, last, storedAtMs);
        last = chunk;
      }
      const digest = new Uint8Array(hash.digest());
      return await this.finish(blobId, upload, last, { digest, totalBytes }, storedAtMs);
    } catch (error) {
      // What cannot be deleted now is an upload that was never finished, which expires.
      await this.forget(blobId, upload).catch(() => {});
      throw error;
    }
  }

  read(blobId: BlobId, from: number, to: number): Promise<BlobPart | undefined> {
    const start = Math.max(from, 0);
    const end = Math.max(to, start);
    const first = Math.floor(start / CHUNK_BYTES);
    return this.database.read(async (statements) => {
      const rows = await statements.all(
        `SELECT total_bytes, bytes FROM blobs b LEFT JOIN blob_chunks c
           ON c.upload = b.upload AND c.chunk >= $2::bigint AND c.chunk < $3::bigint
         WHERE blob_id = $1 ORDER BY chunk`,
        blobId,
        first,
        start === end ? first : Math.ceil(end / CHUNK_BYTES),
      );
      if (rows.length === 0) return undefined;
      const chunks = rows.filter((row) => row["bytes"] !== null).map((row) => bytea(row["bytes"]));
      const skip = start - first * CHUNK_BYTES;
      return {
        totalBytes: rows[0]!["total_bytes"] as number,
        bytes: concatBytes(...chunks).subarray(skip, skip + end - start),
      };
    });
  }

  expire(beforeMs: number, limit: number): Promise<number> {
    return this.deleteUploads(limit, async (statements, atMost) => {
      const deleted = await statements.run(
        `WITH old AS (
           SELECT upload FROM blobs WHERE stored_at_ms < $1 ORDER BY stored_at_ms LIMIT $2 FOR UPDATE SKIP LOCKED
         ) DELETE FROM blob_uploads u USING old WHERE u.upload = old.upload`,
        beforeMs,
        atMost,
      );
      return deleted;
    });
  }

  expireUploads(beforeMs: number, limit: number): Promise<number> {
    return this.deleteUploads(limit, async (statements, atMost) => {
      const rows = await statements.all(
        `SELECT upload FROM blob_uploads u WHERE started_at_ms < $1
           AND NOT EXISTS (SELECT FROM blobs b WHERE b.upload = u.upload)
         ORDER BY started_at_ms LIMIT $2 FOR UPDATE SKIP LOCKED`,
        beforeMs,
        atMost,
      );
      return deleteUnfinished(
        statements,
        rows.map((row) => row["upload"] as number),
      );
    });
  }

  private async add(blobId: BlobId, upload: Upload, chunk: Bytes, startedAtMs: number): Promise<void> {
    const { chunks, number } = upload;
    const row = await this.database.writeRowsOf(blobId, (statements) =>
      statements.get(`WITH ${ADD} SELECT upload FROM present`, number ?? null, startedAtMs, chunks, chunk),
    );
    upload.number = row!["upload"] as number;
    upload.chunks++;
  }

  /** Another upload may have taken the id meanwhile: then this one goes. */
  private finish(
    blobId: BlobId,
    upload: Upload,
    chunk: Bytes | undefined,
    { digest, totalBytes }: { readonly digest: Bytes; readonly totalBytes: number },
    storedAtMs: number,
  ): Promise<Outcome> {
    const { chunks, number } = upload;
    return this.database.writeRowsOf(blobId, async (statements) => {
      const row = await statements.get(
        FINISH,
        number ?? null,
        storedAtMs,
        chunks,
        chunk ?? null,
        blobId,
        digest,
        totalBytes,
      );
      if (row!["stored"]) return "stored";
      const [rival] = await Promise.all([
        digestOf(statements, blobId),
        statements.run("DELETE FROM blob_uploads WHERE upload = $1", row!["upload"] as number),
      ]);
      // Whoever finds it expired since then finds an id in use, as a moment before.
      return rival !== undefined && equalBytes(rival, digest) ? "repeated" : "exists";
    });
  }

  /**
   * Deletes what was stored of an upload that failed, unless its last write happened after all: another upload of the same
   * bytes may have been told that they are stored.
   */
  private async forget(blobId: BlobId, upload: Upload): Promise<void> {
    const { number } = upload;
    if (number === undefined) return;
    await this.database.writeRowsOf(blobId, async (statements) => {
      const [, deleted] = await Promise.all([
        statements.get("SELECT FROM blob_uploads WHERE upload = $1 FOR UPDATE", number),
        deleteUnfinished(statements, [number]),
      ]);
      return deleted;
    });
  }

  /** In small transactions: rows of blobs and chunks go with their upload. */
  private async deleteUploads(
    limit: number,
    deleteSome: (statements: PostgresStatements, atMost: number) => Promise<number>,
  ): Promise<number> {
    let deleted = 0;
    while (deleted < limit) {
      const atMost = Math.min(DELETED_AT_ONCE, limit - deleted);
      const some = await this.database.write("expire blobs", (statements) => deleteSome(statements, atMost));
      deleted += some;
      if (some < atMost) break;
    }
    return deleted;
  }
}

/** Of uploads whose rows are held, so that none becomes a blob meanwhile. */
function deleteUnfinished(statements: PostgresStatements, uploads: readonly number[]): Promise<number> {
  return statements.run(
    `DELETE FROM blob_uploads u WHERE upload = ANY($1::bigint[])
       AND NOT EXISTS (SELECT FROM blobs b WHERE b.upload = u.upload)`,
    uploads,
  );
}

async function digestOf(statements: PostgresStatements, blobId: BlobId): Promise<Bytes | undefined> {
  const row = await statements.get(DIGEST, blobId);
  return row && bytea(row["digest"]);
}

/** Cuts a stream into chunks of CHUNK_BYTES, the last one shorter. */
async function* inChunks(content: AsyncIterable<Uint8Array>): AsyncIterable<Bytes> {
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  for await (const piece of content) {
    waiting.push(piece);
    waitingBytes += piece.length;
    if (waitingBytes < CHUNK_BYTES) continue;
    const joined = concatBytes(...waiting);
    const whole = joined.length - (joined.length % CHUNK_BYTES);
    for (let at = 0; at < whole; at += CHUNK_BYTES) yield joined.subarray(at, at + CHUNK_BYTES);
    waiting = [joined.subarray(whole)];
    waitingBytes = joined.length - whole;
  }
  if (waitingBytes > 0) yield concatBytes(...waiting);
}

import type { BlobId, Bytes } from "@murmuration/base";

/** A part of a blob. */
export interface BlobPart {
  /** Length of the whole blob. */
  readonly totalBytes: number;
  readonly bytes: Bytes;
}

/** Opaque attachments under unguessable ids. Who uploaded one is not known here. */
export interface BlobStore {
  /** Durable when resolved. `repeated` for the same bytes again, `exists` for other bytes under a taken id. */
  put(blobId: BlobId, bytes: Bytes, storedAtMs: number): Promise<"stored" | "repeated" | "exists">;
  /** Bytes `from` up to but not including `to`, both cut to the blob's length. Undefined for an unknown id. */
  read(blobId: BlobId, from: number, to: number): Promise<BlobPart | undefined>;
  /** Deletes at most `limit` blobs stored before `beforeMs`. Returns how many. */
  expire(beforeMs: number, limit: number): Promise<number>;
}

import type { BlobId, Bytes } from "@murmuration/base";

/** A part of a blob. */
export interface BlobPart {
  /** Length of the whole blob. */
  readonly totalBytes: number;
  readonly bytes: Bytes;
}

/** Opaque attachments under unguessable ids. Who uploaded one is not known here. */
export interface BlobStore {
  /**
   * Stores what `content` yields, piece by piece, so that no more than a chunk of it is in memory. The blob can
   * be read once all of it is durable; when `content` throws, nothing of it is kept and the error passes on.
   * `repeated` for the same bytes again, which are kept as long as if they had only come now; `exists` for other bytes
   * under a taken id. UnavailableError `blob/expired` where the same bytes were there, and expired meanwhile.
   */
  put(
    blobId: BlobId,
    content: AsyncIterable<Uint8Array>,
    storedAtMs: number,
  ): Promise<"stored" | "repeated" | "exists">;
  /** Bytes `from` up to but not including `to`, both cut to the blob's length. Undefined for an unknown id. */
  read(blobId: BlobId, from: number, to: number): Promise<BlobPart | undefined>;
  /** Deletes at most `limit` blobs stored before `beforeMs`. Returns how many. */
  expire(beforeMs: number, limit: number): Promise<number>;
  /** Deletes at most `limit` uploads that began before `beforeMs` and were never finished. Returns how many. */
  expireUploads(beforeMs: number, limit: number): Promise<number>;
}

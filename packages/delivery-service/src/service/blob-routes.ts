import { type BlobId, formatId, parseBlobId, RejectionError, UnavailableError } from "@murmuration/base";
import { BLOB_CONTENT_TYPE } from "@murmuration/wire";
import { type ByteRange, parseRange } from "../core/byte-range.ts";
import type { BlobStore } from "../ports/blobs.ts";
import type { HttpResponse } from "../ports/socket-server.ts";
import { deviceOf } from "./account-routes.ts";
import type { ServiceContext } from "./context.ts";
import type { Call } from "./http.ts";
import { charge, chargeFor } from "./refusals.ts";

const PIECE_BYTES = 262_144;

/**
 * Stores an opaque attachment, or keeps it for longer that was uploaded before. Who uploaded it is used for the rate limit
 * only.
 */
export async function putBlob(context: ServiceContext, call: Call): Promise<undefined> {
  const { address } = deviceOf(call);
  const rate = context.limits.rates.blobBytesPerAccount;
  const announced = Number(call.request.header("content-length"));
  const cost = Math.max(1, announced);
  await charge(context.rateLimits, [chargeFor("blob-bytes", formatId(address.accountId), rate, cost)]);
  const blobId = parseBlobId(call.parameters.blobId ?? "");
  const outcome = await context.stores.blobs.put(blobId, call.request.pieces(announced), context.clock.now());
  if (outcome === "exists") throw new RejectionError("blob/exists");
  return undefined;
}

/** Serves an attachment or one range of it to whoever knows its id. */
export async function getBlob(context: ServiceContext, call: Call): Promise<HttpResponse> {
  const blobId = parseBlobId(call.parameters.blobId ?? "");
  const { blobs } = context.stores;
  const size = await blobs.read(blobId, 0, 0);
  if (size === undefined) throw new RejectionError("blob/unknown");
  const range = parseRange(call.request.header("range"), size.totalBytes);
  const body = { length: range.to - range.from, pieces: piecesOf(blobs, blobId, range) };
  const headers = {
    "content-type": BLOB_CONTENT_TYPE,
    "accept-ranges": "bytes",
    "cache-control": "private, immutable, max-age=2592000",
  };
  if (!range.partial) return { status: 200, headers, body };
  const contentRange = `bytes ${range.from}-${range.to - 1}/${size.totalBytes}`;
  return { status: 206, headers: { ...headers, "content-range": contentRange }, body };
}

/** Reads ahead by one piece only, so that a slow download holds little memory. */
async function* piecesOf(blobs: BlobStore, blobId: BlobId, range: ByteRange): AsyncIterable<Uint8Array> {
  for (let from = range.from; from < range.to; from += PIECE_BYTES) {
    const part = await blobs.read(blobId, from, Math.min(from + PIECE_BYTES, range.to));
    // Expired in mid-download: the transfer ends short of its announced length.
    if (part === undefined) throw new UnavailableError("blob/expired");
    yield part.bytes;
  }
}

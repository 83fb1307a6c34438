import { formatId, parseBlobId, RejectionError } from "@murmuration/base";
import { BLOB_CONTENT_TYPE } from "@murmuration/wire";
import { parseRange } from "../core/byte-range.ts";
import type { HttpResponse } from "../ports/socket-server.ts";
import { deviceOf } from "./account-routes.ts";
import type { ServiceContext } from "./context.ts";
import type { Call } from "./http.ts";
import { charge, chargeFor } from "./refusals.ts";

/** Stores an opaque attachment. Who uploaded it is used for the rate limit only. */
export async function putBlob(context: ServiceContext, call: Call): Promise<undefined> {
  const { address } = deviceOf(call);
  const rate = context.limits.rates.blobBytesPerAccount;
  const cost = Math.max(1, call.raw.length);
  await charge(context.rateLimits, [chargeFor("blob-bytes", formatId(address.accountId), rate, cost)]);
  const blobId = parseBlobId(call.parameters.blobId ?? "");
  const outcome = await context.stores.blobs.put(blobId, call.raw, context.clock.now());
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
  const part = await blobs.read(blobId, range.from, range.to);
  if (part === undefined) throw new RejectionError("blob/unknown");
  const headers = {
    "content-type": BLOB_CONTENT_TYPE,
    "accept-ranges": "bytes",
    "cache-control": "private, immutable, max-age=2592000",
  };
  if (!range.partial) return { status: 200, headers, body: part.bytes };
  const contentRange = `bytes ${range.from}-${range.to - 1}/${part.totalBytes}`;
  return { status: 206, headers: { ...headers, "content-range": contentRange }, body: part.bytes };
}

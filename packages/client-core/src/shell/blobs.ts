/** Encrypted blobs at the service, as they lie there. */
import { type BlobId, type Bytes, formatId, RejectionError } from "@murmuration/base";
import { BLOB_CONTENT_TYPE, formatDeviceAuth, routePath } from "@murmuration/wire";
import { refusalOf } from "../core/refusal.ts";
import type { Context } from "./context.ts";

/** For the largest. */
const BLOB_TIMEOUT_MS = 10 * 60_000;
const MAX_REFUSAL_BYTES = 64 * 1024;

/** Stores a blob; one that is there already is kept as long as if it came now. ServiceRefusal, UnavailableError. */
export async function putBlob(
  { api, auth }: Context,
  id: BlobId,
  blob: Bytes,
  timeoutMs: number = BLOB_TIMEOUT_MS,
): Promise<void> {
  const reply = await api.transport.request({
    method: "PUT",
    path: routePath("putBlob", { blobId: formatId(id) }),
    headers: { authorization: formatDeviceAuth(auth), "content-type": BLOB_CONTENT_TYPE },
    body: blob,
    maxReplyBytes: MAX_REFUSAL_BYTES,
    timeoutMs,
  });
  if (reply.status >= 300) throw refusalOf(reply.status, reply.body);
}

/** A blob as it comes, of at most so many bytes. ServiceRefusal `blob/unknown`, UnavailableError. */
export async function streamBlob(
  { api }: Context,
  id: BlobId,
  maxBytes: number,
  timeoutMs: number = BLOB_TIMEOUT_MS,
): Promise<AsyncIterable<Bytes>> {
  const { status, body } = await api.transport.stream({
    method: "GET",
    path: routePath("getBlob", { blobId: formatId(id) }),
    maxReplyBytes: maxBytes,
    timeoutMs,
  });
  if (status < 300) return body;
  const refusal = await collect(body, MAX_REFUSAL_BYTES);
  throw refusalOf(status, refusal ?? new Uint8Array(0));
}

/** A whole blob of just so many bytes. RejectionError `attachment/tampered` for any other; as {@link streamBlob}. */
export async function getBlob(
  context: Context,
  id: BlobId,
  bytes: number,
  timeoutMs: number,
): Promise<Bytes> {
  const blob = await collect(await streamBlob(context, id, bytes, timeoutMs), bytes);
  if (blob?.length !== bytes) throw new RejectionError("attachment/tampered");
  return blob;
}

/** Undefined where it is longer than that. */
async function collect(body: AsyncIterable<Bytes>, max: number): Promise<Bytes | undefined> {
  const parts: Bytes[] = [];
  let length = 0;
  for await (const part of body) {
    length += part.length;
    if (length > max) return undefined;
    parts.push(part);
  }
  return new Uint8Array(Buffer.concat(parts));
}

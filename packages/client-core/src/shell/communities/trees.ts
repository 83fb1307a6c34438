/** Ratchet trees by their hash, as the service hands them out: compressed, immutable, proved by the hash alone. */

import { promisify } from "node:util";
import { inflateRaw } from "node:zlib";
import { type Bytes, RejectionError, toBase64Url, UnavailableError } from "@murmuration/base";
import { routePath } from "@murmuration/wire";
import { refusalOf } from "../../core/refusal.ts";
import type { Context } from "../context.ts";

const inflate = promisify(inflateRaw);
/** What a tree of 50,000 members may weigh, and some more. */
const MAX_TREE_BYTES = 128 * 1024 * 1024;

/** Downloads a tree. RejectionError `trees/malformed`, ServiceRefusal `trees/unknown`, UnavailableError. O(members). */
export async function fetchTree(context: Context, treeHash: Bytes): Promise<Bytes> {
  const reply = await context.api.transport.request({
    method: "GET",
    path: routePath("getTree", { treeHash: toBase64Url(treeHash) }),
    maxReplyBytes: MAX_TREE_BYTES,
    timeoutMs: context.settings.requestTimeoutMs,
  });
  if (reply.status >= 300) throw refusalOf(reply.status, reply.body);
  try {
    return new Uint8Array(await inflate(reply.body, { maxOutputLength: MAX_TREE_BYTES }));
  } catch (error) {
    if (error instanceof RangeError || (error as { code?: string }).code?.startsWith("Z_"))
      throw new RejectionError("trees/malformed");
    throw new UnavailableError("trees/unreadable");
  }
}

/** Ratchet trees by their hash, as the service hands them out: compressed, immutable, proved by the hash alone. */

import { promisify } from "node:util";
import { inflateRaw } from "node:zlib";
import {
  type Bytes,
  decodeWhole,
  equalBytes,
  RejectionError,
  toBase64Url,
  UnavailableError,
} from "@murmuration/base";
import { advanceTree } from "@murmuration/mls-groups";
import { routePath } from "@murmuration/wire";
import { refusalOf } from "../../core/refusal.ts";
import type { Context } from "../context.ts";
import { communityCrypto } from "./identity.ts";

const inflate = promisify(inflateRaw);
/** What a tree of 50,000 members may weigh, and some more. */
const MAX_TREE_BYTES = 128 * 1024 * 1024;
/** Commits between two trees, at the most, and bytes that their changes may weigh in any group. */
const MAX_CHANGES = 1_024;
const MAX_SMALL_BYTES = 1024 * 1024;

/** A tree that this device has had: what has changed since is less than the whole. */
export interface KnownTree {
  readonly treeHash: Bytes;
  readonly ratchetTree: Bytes;
}

/**
 * Downloads a tree, or what has changed since one that is known, where the service still has that. RejectionError
 * `trees/malformed`, ServiceRefusal `trees/unknown`, UnavailableError. O(members), and bytes for what has changed.
 */
export async function fetchTree(context: Context, treeHash: Bytes, known?: KnownTree): Promise<Bytes> {
  const advanced = known && (await fetchChanges(context, treeHash, known));
  return advanced ?? download(context, routePath("getTree", { treeHash: toBase64Url(treeHash) }));
}

/** Undefined where the service has no such changes, or they lead elsewhere. */
async function fetchChanges(
  context: Context,
  treeHash: Bytes,
  { ratchetTree, treeHash: base }: KnownTree,
): Promise<Bytes | undefined> {
  if (equalBytes(base, treeHash)) return ratchetTree;
  const names = { treeHash: toBase64Url(treeHash), baseHash: toBase64Url(base) };
  try {
    // More than some trees would weigh is no help.
    const maxBytes = Math.min(MAX_TREE_BYTES, 4 * ratchetTree.length + MAX_SMALL_BYTES);
    const listed = await download(context, routePath("getTreeChanges", names), maxBytes);
    let count = 0;
    const changes = decodeWhole(listed, (reader) =>
      reader.vector((inner) => {
        if (++count > MAX_CHANGES) throw new RejectionError("trees/malformed");
        return inner.bytes();
      }),
    );
    const advanced = advanceTree(communityCrypto, ratchetTree, changes);
    return equalBytes(advanced.treeHash, treeHash) ? advanced.ratchetTree : undefined;
  } catch (error) {
    // Whatever is wrong with them, there is still the tree itself.
    if (error instanceof RejectionError) return undefined;
    throw error;
  }
}

/** What lies compressed under a path. */
async function download(context: Context, path: string, maxBytes = MAX_TREE_BYTES): Promise<Bytes> {
  const reply = await context.api.transport.request({
    method: "GET",
    path,
    maxReplyBytes: maxBytes,
    timeoutMs: context.settings.requestTimeoutMs,
  });
  if (reply.status >= 300) throw refusalOf(reply.status, reply.body);
  try {
    return new Uint8Array(await inflate(reply.body, { maxOutputLength: maxBytes }));
  } catch (error) {
    if (error instanceof RangeError || (error as { code?: string }).code?.startsWith("Z_"))
      throw new RejectionError("trees/malformed");
    throw new UnavailableError("trees/unreadable");
  }
}

import { promisify } from "node:util";
import { deflateRaw } from "node:zlib";
import {
  type Bytes,
  encode,
  equalBytes,
  fromBase64Url,
  RejectionError,
  UnavailableError,
} from "@murmuration/base";
import { BLOB_CONTENT_TYPE, limits } from "@murmuration/wire";
import { parseRange } from "../core/byte-range.ts";
import { DelayedRejection } from "../core/delayed-rejection.ts";
import { addressKey } from "../core/token-bucket.ts";
import type { FollowerSource } from "../ports/commit-validator.ts";
import type { HttpResponse } from "../ports/socket-server.ts";
import type { ServiceContext } from "./context.ts";
import type { Call } from "./http.ts";
import { charge, chargeFor } from "./refusals.ts";
import { chargeTree, type Payer } from "./tree-charges.ts";

const CACHE_BYTES = 64 * 1024 * 1024;
/** Commits between two trees of which the changes are handed out; behind more the whole tree is not much larger. */
const MAX_COMMITS_BETWEEN = 1_024;
/** Nor do changes help that are larger than most trees, and nobody is asked who reads them. */
const MAX_CHANGED_BYTES = 2 * 1024 * 1024;

const IMMUTABLE = {
  "content-type": BLOB_CONTENT_TYPE,
  "cache-control": "public, immutable, max-age=31536000",
};

const deflate = promisify(deflateRaw);

/**
 * Serves ratchet trees by their hash, compressed with raw DEFLATE. A tree never changes, so everybody on the way may
 * keep it, and so does this cache: a thousand who join at a time cost one build.
 */
export class TreeRoutes {
  private readonly built = new Map<string, Bytes>();
  private readonly building = new Map<string, Promise<Bytes>>();
  private bytes = 0;

  readonly read = async (context: ServiceContext, call: Call): Promise<HttpResponse> => {
    const name = call.parameters.treeHash ?? "";
    await this.charge(context, call);
    const tree = await this.tree(context, call.request, name);
    const range = parseRange(call.request.header("range"), tree.length);
    const headers = { ...IMMUTABLE, "accept-ranges": "bytes" };
    const body = tree.subarray(range.from, range.to);
    if (!range.partial) return { status: 200, headers, body };
    const contentRange = `bytes ${range.from}-${range.to - 1}/${tree.length}`;
    return { status: 206, headers: { ...headers, "content-range": contentRange }, body };
  };

  /** The stored changes of each commit between two trees of one group. O(their bytes). */
  readonly readChanges = async (context: ServiceContext, call: Call): Promise<HttpResponse> => {
    const { treeHash = "", baseHash = "" } = call.parameters;
    await this.charge(context, call);
    const { mlsGroups } = context.stores;
    const [to, from] = [
      await mlsGroups.findTree(hashOf(treeHash)),
      await mlsGroups.findTree(hashOf(baseHash)),
    ];
    if (to === undefined || from === undefined || !equalBytes(to.groupId, from.groupId))
      throw new RejectionError("trees/unknown");
    const between = to.epoch - from.epoch;
    const deltas =
      between > MAX_COMMITS_BETWEEN
        ? undefined
        : await mlsGroups.treeDeltas(to.groupId, from.epoch, to.epoch, MAX_CHANGED_BYTES);
    if (deltas === undefined) throw new RejectionError("trees/unknown");
    context.metrics.count("group_tree_changes_read");
    const listed = encode(deltas, (writer, list) =>
      writer.vector(list, (inner, delta) => inner.bytes(delta)),
    );
    return { status: 200, headers: IMMUTABLE, body: new Uint8Array(await deflate(listed)) };
  };

  private charge(context: ServiceContext, call: Call): Promise<void> {
    const rate = context.limits.rates.groupEntriesPerAddress;
    const address = addressKey(call.request.remoteAddress);
    return charge(context.rateLimits, [chargeFor("trees", address, rate)]);
  }

  private async tree(context: ServiceContext, payer: Payer, name: string): Promise<Bytes> {
    for (;;) {
      const known = this.built.get(name);
      if (known !== undefined) return known;
      const pending = this.building.get(name);
      if (pending === undefined) return this.buildOnce(context, payer, name);
      try {
        return await pending;
      } catch (error) {
        // It was too much for the address that caused it, and nobody else is refused for that.
        if (!(error instanceof DelayedRejection)) throw error;
      }
    }
  }

  private buildOnce(context: ServiceContext, payer: Payer, name: string): Promise<Bytes> {
    const building = build(context, payer, hashOf(name))
      .then((tree) => {
        this.keep(name, tree);
        return tree;
      })
      .finally(() => this.building.delete(name));
    this.building.set(name, building);
    return building;
  }

  /** The tree that was built first goes first. */
  private keep(name: string, tree: Bytes): void {
    this.built.set(name, tree);
    this.bytes += tree.length;
    for (const [oldest, { length }] of this.built) {
      if (this.bytes <= CACHE_BYTES || oldest === name) break;
      this.built.delete(oldest);
      this.bytes -= length;
    }
  }
}

/** O(members), in the validator, for which the address pays. Throws RejectionError `trees/unknown`, `rate/limited`. */
async function build(context: ServiceContext, payer: Payer, treeHash: Bytes): Promise<Bytes> {
  const { metrics, stores, validator } = context;
  const found = await stores.mlsGroups.findTree(treeHash);
  if (found === undefined) throw new RejectionError("trees/unknown");
  const { groupId, epoch } = found;
  const load = async (): Promise<FollowerSource> => {
    const tree = await stores.mlsGroups.loadTree(groupId, epoch);
    // Taken back while it was looked for: who asks again learns that there is none.
    if (tree === undefined) throw new UnavailableError("trees/moved-on");
    return { groupInfo: new Uint8Array(0), banList: undefined, snapshot: tree.snapshot, deltas: tree.deltas };
  };
  // Also where the validator has the tree in memory: compressing it takes longer than loading it.
  await chargeTree(context, payer, groupId, epoch);
  metrics.count("group_trees_built");
  return validator.compressedTree({ groupId, epoch, commitSequence: undefined, load }, treeHash);
}

function hashOf(name: string): Bytes {
  try {
    const hash = fromBase64Url(name);
    if (hash.length === limits.treeHashBytes) return hash;
  } catch {
    // Not base64url: answered as any other hash that nobody has.
  }
  throw new RejectionError("trees/unknown");
}

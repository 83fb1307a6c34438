import { type Bytes, Reader, RejectionError, refuseUnless, varintSize } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { check } from "../rules.ts";
import { nodeTypes, treeNodeCodec } from "../structs/ratchet-tree.ts";
import { putOpaque, putUint32, putVarint, requireLeafNode, requireParentNode } from "./encoded-node.ts";
import { isLeafNode, MAX_LEAF_SLOTS, type NodeIndex, nodeCount, slotsFor } from "./math.ts";
import { TreeState } from "./tree-state.ts";

/** First byte of a stored snapshot and of a stored delta. */
const SNAPSHOT_VERSION = 1;
const DELTA_VERSION = 1;

/** The last node that is not blank. In a tree of the protocol that is always a leaf. O(trailing blanks). */
function lastNode(state: TreeState): NodeIndex {
  let node = nodeCount(state.leafSlots) - 1;
  while (node > 0 && state.nodes.isBlank(node)) node--;
  return node;
}

/** `optional<Node> ratchet_tree<V>` without trailing blanks (12.4.3.3), written into one array. */
export function encodeRatchetTree(state: TreeState): Bytes {
  const last = lastNode(state);
  let length = 0;
  for (let node = 0; node <= last; node++) {
    const size = state.nodes.length(node);
    length += size === 0 ? 1 : 2 + size;
  }
  const out = new Uint8Array(varintSize(length) + length);
  let at = putVarint(out, 0, length);
  for (let node = 0; node <= last; node++) {
    const view = state.nodes.view(node);
    if (view.length === 0) {
      out[at++] = 0;
      continue;
    }
    out[at] = 1;
    out[at + 1] = isLeafNode(node) ? nodeTypes.leaf : nodeTypes.parent;
    out.set(view, at + 2);
    at += 2 + view.length;
  }
  return out;
}

/**
 * Places of the nodes in an encoded ratchet_tree, by one scan that checks lengths and types. The result has
 * two entries for each node: start and length of its LeafNode or ParentNode, length 0 for blank.
 */
function scanNodes(reader: Reader): { places: Uint32Array; count: number; members: number } {
  let places = new Uint32Array(1024);
  let count = 0;
  let members = 0;
  while (reader.offset < reader.end) {
    check("ratchet-tree/size-limit", count < nodeCount(MAX_LEAF_SLOTS));
    if (count * 2 === places.length) {
      const larger = new Uint32Array(places.length * 2);
      larger.set(places);
      places = larger;
    }
    const start = reader.offset;
    treeNodeCodec.skip(reader);
    const blank = reader.offset === start + 1;
    if (!blank) {
      const type = isLeafNode(count) ? nodeTypes.leaf : nodeTypes.parent;
      check("ratchet-tree/node-type-by-position", reader.input[start + 1] === type);
      places[count * 2] = start + 2;
      places[count * 2 + 1] = reader.offset - start - 2;
      members += Number(isLeafNode(count));
    }
    count++;
  }
  return { places, count, members };
}

/** Throws RejectionError `mls/ratchet-tree/…`, `mls/leaf-node/…-unique`, `coder/…`, `mls/decode-…`. O(N). */
export function decodeRatchetTree(crypto: CryptoProvider, encoded: Uint8Array): TreeState {
  const outer = new Reader(encoded);
  const view = outer.bytes();
  outer.finish();
  const arena = new Uint8Array(view);
  const { places, count, members } = scanNodes(new Reader(arena));
  // A parent's subtrees are never empty on one side, so the last node that is not blank is a leaf.
  const last = count - 1;
  check("ratchet-tree/last-node-not-blank", count > 0 && isLeafNode(last) && places[last * 2 + 1] !== 0);
  const state = new TreeState(crypto, slotsFor((count + 1) >>> 1), arena, members);
  for (let node = 0; node < count; node++) {
    const length = places[node * 2 + 1]!;
    if (length === 0) continue;
    state.nodes.place(node, places[node * 2]!, length);
    const broken = state.index(node);
    if (broken !== undefined) check(broken, false);
  }
  state.recountAll();
  return state;
}

/**
 * A tree for storage: version, hash length, ratchet_tree<V>, then the tree hash of every parent in array order.
 * Its reader trusts it: storage is authenticated by its own layer.
 */
export function encodeSnapshot(state: TreeState): Bytes {
  state.hashes.update(state.rootNode);
  const tree = encodeRatchetTree(state);
  const hashLength = state.crypto.suite.hashLength;
  const out = new Uint8Array(2 + tree.length + (state.leafSlots - 1) * hashLength);
  out[0] = SNAPSHOT_VERSION;
  out[1] = hashLength;
  out.set(tree, 2);
  let at = 2 + tree.length;
  for (let node = 1; node < nodeCount(state.leafSlots); node += 2) {
    out.set(state.hashes.update(node), at);
    at += hashLength;
  }
  return out;
}

/** Throws RejectionError `mls/tree-snapshot-version` or what decoding a tree throws. O(N), no hash. */
export function decodeSnapshot(crypto: CryptoProvider, snapshot: Uint8Array): TreeState {
  const reader = new Reader(snapshot);
  refuseUnless(reader.uint8() === SNAPSHOT_VERSION, "mls/tree-snapshot-version");
  const hashLength = reader.uint8();
  refuseUnless(hashLength === crypto.suite.hashLength, "mls/tree-snapshot-suite");
  const start = reader.offset;
  reader.bytes();
  const state = decodeRatchetTree(crypto, snapshot.subarray(start, reader.offset));
  for (let node = 1; node < nodeCount(state.leafSlots); node += 2) {
    state.hashes.put(node, reader.fixed(hashLength));
  }
  reader.finish();
  return state;
}

/** A stored delta: the tree's new width and the new bytes of each changed node, empty for blank. */
export interface TreeDelta {
  readonly leafSlots: number;
  readonly nodes: readonly { readonly node: NodeIndex; readonly value: Uint8Array }[];
}

/** Version, leaf slots, then node index and `opaque value<V>` for each changed node in ascending order. */
export function encodeDelta(state: TreeState, changed: Iterable<NodeIndex>): Bytes {
  const nodes = Uint32Array.from(new Set(changed)).sort();
  let length = 5;
  for (const node of nodes) length += 4 + varintSize(state.nodes.length(node)) + state.nodes.length(node);
  const out = new Uint8Array(length);
  out[0] = DELTA_VERSION;
  let at = putUint32(out, 1, state.leafSlots);
  for (const node of nodes) at = putOpaque(out, putUint32(out, at, node), state.nodes.view(node));
  return out;
}

/** Throws RejectionError `mls/tree-delta-…` or `coder/…`. */
export function decodeDelta(delta: Uint8Array): TreeDelta {
  const reader = new Reader(delta);
  refuseUnless(reader.uint8() === DELTA_VERSION, "mls/tree-delta-version");
  const leafSlots = reader.uint32();
  refuseUnless(leafSlots > 0 && leafSlots <= MAX_LEAF_SLOTS, "mls/tree-delta-malformed");
  const nodes: { node: NodeIndex; value: Uint8Array }[] = [];
  while (reader.offset < reader.end) {
    const node = reader.uint32();
    if (node >= nodeCount(MAX_LEAF_SLOTS)) throw new RejectionError("mls/tree-delta-malformed");
    const value = reader.bytes();
    if (value.length > 0) (isLeafNode(node) ? requireLeafNode : requireParentNode)(value);
    nodes.push({ node, value });
  }
  return { leafSlots, nodes };
}

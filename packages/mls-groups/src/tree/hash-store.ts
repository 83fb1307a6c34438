import type { Bytes } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { opaqueSize, putOpaque, putUint32 } from "./encoded-node.ts";
import type { Journal } from "./journal.ts";
import {
  isLeafNode,
  type LeafIndex,
  left,
  type NodeIndex,
  nodeToLeaf,
  parent,
  parentPlace,
  right,
} from "./math.ts";
import { enlarged, type NodeStore } from "./node-store.ts";

/** NodeType of TreeHashInput (RFC 9420 section 7.8). */
const LEAF = 1;
const PARENT = 2;

/** Hashes TreeHashInputs (section 7.8) through one buffer that is used again and again. */
export class TreeHasher {
  private readonly crypto: CryptoProvider;
  private scratch = new Uint8Array(1024);

  constructor(crypto: CryptoProvider) {
    this.crypto = crypto;
  }

  private room(length: number): Bytes {
    if (this.scratch.length < length) this.scratch = new Uint8Array(length * 2);
    return this.scratch;
  }

  /** `node` is an encoded LeafNode, empty when blank. */
  leaf(leafIndex: number, node: Uint8Array): Bytes {
    const out = this.room(6 + node.length);
    out[0] = LEAF;
    const at = putUint32(out, 1, leafIndex);
    out[at] = node.length === 0 ? 0 : 1;
    out.set(node, at + 1);
    return this.crypto.hash(out.subarray(0, at + 1 + node.length));
  }

  /** `node` is an encoded ParentNode, empty when blank. */
  parent(node: Uint8Array, leftHash: Uint8Array, rightHash: Uint8Array): Bytes {
    const out = this.room(2 + node.length + 2 * opaqueSize(leftHash.length));
    out[0] = PARENT;
    out[1] = node.length === 0 ? 0 : 1;
    out.set(node, 2);
    const at = putOpaque(out, putOpaque(out, 2 + node.length, leftHash), rightHash);
    return this.crypto.hash(out.subarray(0, at));
  }
}

const DIRTY: Bytes = new Uint8Array(0);

/**
 * The tree hash of every parent node in one byte array, and which of them are up to date. A dirty node has
 * only dirty ancestors, so that a change marks one path and a rehash visits nothing that is up to date.
 * Hashes of leaves are half of all and cost one hash when they are needed: they are not stored, but for the
 * time in which a joiner looks at a whole tree (see {@link HashStore.keepLeafHashes}).
 */
export class HashStore {
  /** Where every change between dirty and up to date is noted, so that an epoch finds its hashes again. */
  journal: Journal | undefined;
  /** Hashes of leaves and which of them are known; both empty while they are not kept. */
  private leafHashes: Bytes = DIRTY;
  private leafKnown: Bytes = DIRTY;
  private hashes: Bytes;
  private valid: Bytes; // 1 for a hash that is up to date
  private readonly nodes: NodeStore;
  private readonly length: number;
  private readonly hasher: TreeHasher;

  constructor(crypto: CryptoProvider, nodes: NodeStore, leafSlots: number) {
    this.length = crypto.suite.hashLength;
    this.nodes = nodes;
    this.hasher = new TreeHasher(crypto);
    this.hashes = new Uint8Array(leafSlots * this.length);
    this.valid = new Uint8Array(leafSlots);
  }

  ensureSlots(leafSlots: number): void {
    if (leafSlots <= this.valid.length) return;
    this.hashes = enlarged(this.hashes, leafSlots * this.length);
    this.valid = enlarged(this.valid, leafSlots);
  }

  /** Bytes of memory. */
  get memory(): number {
    return this.hashes.length + this.valid.length;
  }

  /** The stored hash of a parent, as a view that changes with the tree. */
  private view(node: NodeIndex): Bytes {
    const place = parentPlace(node);
    return this.hashes.subarray(place * this.length, (place + 1) * this.length);
  }

  private isValid(node: NodeIndex): boolean {
    return this.valid[parentPlace(node)] === 1;
  }

  /** Puts the hash of a parent that is known to be right, or marks it dirty if it is empty. */
  put(node: NodeIndex, hash: Uint8Array): void {
    const wasValid = this.isValid(node);
    if (hash.length === 0 && !wasValid) return;
    this.journal?.noteHash(node, wasValid ? this.view(node) : DIRTY);
    const place = parentPlace(node);
    if (hash.length > 0) this.hashes.set(hash, place * this.length);
    this.valid[place] = Number(hash.length > 0);
  }

  /** Marks everything above a changed node, the node itself and up to `top`, dirty. O(log N). */
  spoil(node: NodeIndex, top: NodeIndex): void {
    if (isLeafNode(top)) return;
    for (let n = isLeafNode(node) ? parent(node) : node; this.isValid(n); n = parent(n)) {
      this.put(n, DIRTY);
      if (n === top) break;
    }
  }

  /**
   * From here to {@link HashStore.dropLeafHashes} a leaf is hashed once: the tree hash and the parent hashes that
   * a joiner verifies (RFC 9420 sections 7.8, 7.9.2) both need the hash of every leaf. One array of N hashes.
   */
  keepLeafHashes(): void {
    this.leafHashes = new Uint8Array(this.valid.length * this.length);
    this.leafKnown = new Uint8Array(this.valid.length);
  }

  /** Lets the hashes of leaves go: the joiner is done, or a node is about to change. O(1). */
  dropLeafHashes(): void {
    this.leafHashes = DIRTY;
    this.leafKnown = DIRTY;
  }

  private leafHash(leaf: LeafIndex, node: NodeIndex): Bytes {
    if (leaf >= this.leafKnown.length) return this.hasher.leaf(leaf, this.nodes.view(node));
    const place = this.leafHashes.subarray(leaf * this.length, (leaf + 1) * this.length);
    if (this.leafKnown[leaf] === 0) {
      place.set(this.hasher.leaf(leaf, this.nodes.view(node)));
      this.leafKnown[leaf] = 1;
    }
    return place;
  }

  /**
   * Brings a node up to date and returns its hash, for a parent as a view. One hash for each dirty parent
   * below it, and one for each leaf below those.
   */
  update(node: NodeIndex): Bytes {
    if (isLeafNode(node)) return this.leafHash(nodeToLeaf(node), node);
    if (!this.isValid(node)) {
      const leftHash = this.update(left(node));
      this.put(node, this.hasher.parent(this.nodes.view(node), leftHash, this.update(right(node))));
    }
    return this.view(node);
  }
}

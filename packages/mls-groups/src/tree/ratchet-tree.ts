import type { Bytes } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import type { LeafNode } from "../structs/leaf-node.ts";
import type { LeafIndex, NodeIndex } from "./math.ts";

/** One step of a filtered direct path (RFC 9420 section 4.1.2). */
export interface PathStep {
  /** The node that gets a new key. */
  readonly node: NodeIndex;
  /** Its child on the copath; its resolution is not empty. */
  readonly copathNode: NodeIndex;
}

const soon = (): never => {
  throw new Error("being written");
};

/**
 * The ratchet tree of one epoch (RFC 9420 sections 4 and 7).
 *
 * A tree that has been forked is read-only for ever; mutations go to the fork. Neither ever shows in the
 * other. Bytes that a method returns are copies that the caller owns.
 */
export class RatchetTree {
  /** A tree with one member at leaf 0. `leafNode` is an encoded LeafNode. */
  static create(_crypto: CryptoProvider, _leafNode: Uint8Array): RatchetTree {
    return soon();
  }
  /**
   * Decodes the content of a ratchet_tree extension (12.4.3.3): structure, node types, key uniqueness. Nothing
   * is verified cryptographically: compare `treeHash()` with the GroupContext, then call `validateTree`.
   * O(N), no hash. Throws RejectionError `mls/ratchet-tree/...`, `mls/leaf-node/...-unique`, `coder/...`.
   */
  static decode(_crypto: CryptoProvider, _ratchetTree: Uint8Array): RatchetTree {
    return soon();
  }
  /** Restores what `encodeSnapshot` wrote. O(N) without a single hash. */
  static decodeSnapshot(_crypto: CryptoProvider, _snapshot: Uint8Array): RatchetTree {
    return soon();
  }

  readonly crypto!: CryptoProvider;

  /** The content of a ratchet_tree extension (12.4.3.3). O(N). */
  encode(): Bytes {
    return soon();
  }
  /** For storage: the tree and its hashes. O(N). */
  encodeSnapshot(): Bytes {
    return soon();
  }
  /** For storage: the nodes that changed since this tree was forked (or since it was made). O(changes). */
  encodeDelta(): Bytes {
    return soon();
  }
  /** Applies a stored delta to this tree (call it on a fork of the tree the delta starts from). O(changes log N). */
  applyDelta(_delta: Uint8Array): void {
    return soon();
  }

  /** Width of the tree in leaves, a power of two. */
  get leafSlots(): number {
    return soon();
  }
  get memberCount(): number {
    return soon();
  }
  hasMember(_leaf: LeafIndex): boolean {
    return soon();
  }
  isBlank(_node: NodeIndex): boolean {
    return soon();
  }
  /** Decodes the leaf; undefined when blank. O(size of the leaf). */
  leaf(_leaf: LeafIndex): LeafNode | undefined {
    return soon();
  }
  leafBytes(_leaf: LeafIndex): Bytes | undefined {
    return soon();
  }
  /** signature_key of a leaf without decoding it; undefined when blank. O(1). */
  signatureKey(_leaf: LeafIndex): Bytes | undefined {
    return soon();
  }
  /** encryption_key of any node, undefined when blank. O(1). */
  encryptionKey(_node: NodeIndex): Bytes | undefined {
    return soon();
  }
  /** Leaf indexes of all members in ascending order. */
  members(): IterableIterator<LeafIndex> {
    return soon();
  }

  /** A tree of the next epoch that starts out equal. O(1) plus the hashes of what changed since the last `treeHash()`. */
  fork(): RatchetTree {
    return soon();
  }
  /** Add (12.1.1): leftmost blank leaf, or the tree is extended. O(log N). Throws RejectionError on a duplicate key. */
  addLeaf(_leafNode: Uint8Array): LeafIndex {
    return soon();
  }
  /** Many Adds in their order; O(k + log N) where k single calls would rewrite unmerged_leaves k times. */
  addLeaves(_leafNodes: readonly Uint8Array[]): LeafIndex[] {
    return soon();
  }
  /** Update (12.1.2): replaces the leaf and blanks its direct path. O(log N). */
  updateLeaf(_leaf: LeafIndex, _leafNode: Uint8Array): void {
    return soon();
  }
  /** Remove (12.1.3): blanks the leaf and its direct path, truncates. O(log N). Rejects a blank leaf. */
  removeLeaf(_leaf: LeafIndex): void {
    return soon();
  }
  /** Where an external joiner goes (12.4.3.2): leftmost blank leaf, extending the tree if there is none. O(log N). */
  reserveLeaf(): LeafIndex {
    return soon();
  }

  /** Tree hash of the root (7.8). O(dirty nodes), 0 hashes when nothing changed. */
  treeHash(): Bytes {
    return soon();
  }
  /** Tree hash of any node. */
  nodeHash(_node: NodeIndex): Bytes {
    return soon();
  }
  /** Resolution of a node (4.1.1), as node indexes. O(its length + log N). */
  resolution(_node: NodeIndex): NodeIndex[] {
    return soon();
  }
  /** O(1). */
  resolutionSize(_node: NodeIndex): number {
    return soon();
  }
  /** From the leaf's parent upwards. O(log N). */
  filteredDirectPath(_leaf: LeafIndex): PathStep[] {
    return soon();
  }
  /** Ciphertexts of a path commit by this leaf. O(log N). */
  pathCost(_leaf: LeafIndex): number {
    return soon();
  }

  nodeByEncryptionKey(_key: Uint8Array): NodeIndex | undefined {
    return soon();
  }
  leafByEncryptionKey(_key: Uint8Array): LeafIndex | undefined {
    return soon();
  }
  leafBySignatureKey(_key: Uint8Array): LeafIndex | undefined {
    return soon();
  }
  /** Members whose encoded Credential equals these bytes, in no particular order. O(result). */
  leavesByCredential(_credential: Uint8Array): LeafIndex[] {
    return soon();
  }

  /** How many members do not support the type; 0 for default types. O(1). */
  lackingExtension(_type: number): number {
    return soon();
  }
  lackingProposal(_type: number): number {
    return soon();
  }
  lackingCredential(_type: number): number {
    return soon();
  }
  /** Credential types that members use, with how many use each. */
  credentialsInUse(): ReadonlyMap<number, number> {
    return soon();
  }
}

import { type Bytes, invariant, UsageError } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { check, type RuleId } from "../rules.ts";
import { credentialTypes } from "../structs/code-points.ts";
import { CapabilityCounters } from "./capability-counters.ts";
import {
  contentEnd,
  contentStart,
  locateLeafFields,
  newLeafFields,
  uint16At,
  unmergedCount,
} from "./encoded-node.ts";
import { HashStore } from "./hash-store.ts";
import { Journal } from "./journal.ts";
import { type KeyRange, KeyTable, type TableSeed } from "./key-table.ts";
import { LeafChains } from "./leaf-chains.ts";
import {
  isLeafNode,
  type LeafIndex,
  leafToNode,
  left,
  level,
  MAX_LEAF_SLOTS,
  type NodeIndex,
  nodeCount,
  nodeToLeaf,
  parent,
  parentPlace,
  right,
  root,
} from "./math.ts";
import { enlarged, NodeStore } from "./node-store.ts";

export const BLANK: Bytes = new Uint8Array(0);

/**
 * The arrays of one line of trees: node bytes, hashes, indexes and counters, always in step with each other.
 * They hold the tree of one epoch at a time; a {@link Journal} turns them into the tree of another. Who may
 * write, and which epoch they show, is `RatchetTree`'s to know.
 *
 * Every write is O(log N) beside the bytes of the node.
 */
export class TreeState {
  readonly crypto: CryptoProvider;
  leafSlots: number;
  readonly nodes: NodeStore;
  readonly hashes: HashStore;
  readonly capabilities = new CapabilityCounters();
  readonly encryptionKeys: KeyTable;
  readonly signatureKeys: KeyTable;
  readonly credentials: LeafChains;
  /** Indexes over a part of each basic credential's identity, made when first asked for. */
  private readonly identityParts: IdentityPart[] = [];
  private readonly seed: TableSeed;
  /** Where notes for the way back go while there is an earlier tree that wants them. */
  private journal: Journal | undefined;
  /** Length of the resolution (RFC 9420 section 4.1.1) of each parent node, by {@link parentPlace}. */
  private resolutionSizes: Uint32Array<ArrayBuffer>;
  /** Members below each parent node, by {@link parentPlace}. */
  private members: Uint32Array<ArrayBuffer>;
  private readonly fields = newLeafFields();

  constructor(crypto: CryptoProvider, leafSlots: number, arena: Bytes, expectedMembers: number) {
    check("ratchet-tree/size-limit", leafSlots <= MAX_LEAF_SLOTS);
    const count = nodeCount(leafSlots);
    this.crypto = crypto;
    this.leafSlots = leafSlots;
    this.nodes = new NodeStore(count, arena);
    this.hashes = new HashStore(crypto, this.nodes, leafSlots);
    this.resolutionSizes = new Uint32Array(leafSlots);
    this.members = new Uint32Array(leafSlots);
    const seed = randomSeed(crypto);
    this.seed = seed;
    const locate = {
      encryptionKey: (node: NodeIndex, range: KeyRange) => this.locateEncryptionKey(node, range),
      signatureKey: (leaf: LeafIndex, range: KeyRange) => this.locateSignatureKey(leaf, range),
      credential: (leaf: LeafIndex, range: KeyRange) => this.locateCredential(leaf, range),
    };
    this.encryptionKeys = new KeyTable(seed, locate.encryptionKey, expectedMembers * 2);
    this.signatureKeys = new KeyTable(seed, locate.signatureKey, expectedMembers);
    this.credentials = new LeafChains(new KeyTable(seed, locate.credential, expectedMembers), leafSlots);
  }

  private locateEncryptionKey(node: NodeIndex, range: KeyRange): void {
    const at = this.nodes.start(node);
    range.bytes = this.nodes.bytes;
    range.start = contentStart(range.bytes, at);
    range.end = contentEnd(range.bytes, at);
  }

  private locateSignatureKey(leaf: LeafIndex, range: KeyRange): void {
    range.bytes = this.nodes.bytes;
    const at = contentEnd(range.bytes, this.nodes.start(leafToNode(leaf)));
    range.start = contentStart(range.bytes, at);
    range.end = contentEnd(range.bytes, at);
  }

  private locateCredential(leaf: LeafIndex, range: KeyRange): void {
    const bytes = this.nodes.bytes;
    range.bytes = bytes;
    range.start = contentEnd(bytes, contentEnd(bytes, this.nodes.start(leafToNode(leaf))));
    range.end = contentEnd(bytes, range.start + 2);
  }

  /** The part of a basic credential's identity; an empty range where the credential has no such part. */
  private locateIdentityPart(leaf: LeafIndex, range: KeyRange, from: number, length: number): void {
    this.locateCredential(leaf, range);
    const { bytes } = range;
    const identity = contentStart(bytes, range.start + 2);
    const has = uint16At(bytes, range.start) === credentialTypes.basic;
    range.start = identity + from;
    if (has && range.start + length <= range.end) range.end = range.start + length;
    else range.end = range.start;
  }

  /**
   * Members whose basic credential's identity has these bytes, at least one, from this place on. The index for a place
   * and a length is made at the first question, O(N), and kept in step from then on: O(result).
   */
  leavesByIdentityPart(from: number, part: Uint8Array): LeafIndex[] {
    if (part.length === 0) throw new UsageError("mls/empty-identity-part");
    let index = this.identityParts.find((known) => known.from === from && known.length === part.length);
    if (index === undefined) {
      const locate = (leaf: LeafIndex, range: KeyRange) =>
        this.locateIdentityPart(leaf, range, from, part.length);
      const heads = new KeyTable(this.seed, locate, this.memberCount);
      index = { from, length: part.length, leaves: new LeafChains(heads, this.leafSlots) };
      for (let leaf = 0; leaf < this.leafSlots; leaf++) {
        if (!this.nodes.isBlank(leafToNode(leaf))) index.leaves.insert(leaf);
      }
      this.identityParts.push(index);
    }
    return index.leaves.find(part);
  }

  /** Bytes of memory that the arrays take. */
  get memory(): number {
    const counters = this.resolutionSizes.byteLength + this.members.byteLength;
    const tables = [this.encryptionKeys, this.signatureKeys, this.credentials];
    const parts = this.identityParts.map(({ leaves }) => leaves);
    return [this.nodes, this.hashes, ...tables, ...parts].reduce((sum, { memory }) => sum + memory, counters);
  }

  get rootNode(): NodeIndex {
    return root(this.leafSlots);
  }

  get memberCount(): number {
    return this.membersBelow(this.rootNode);
  }

  resolutionSize(node: NodeIndex): number {
    return isLeafNode(node) ? this.ownMembers(node) : this.resolutionSizes[parentPlace(node)]!;
  }

  membersBelow(node: NodeIndex): number {
    return isLeafNode(node) ? this.ownMembers(node) : this.members[parentPlace(node)]!;
  }

  private ownMembers(leafNode: NodeIndex): number {
    return this.nodes.isBlank(leafNode) ? 0 : 1;
  }

  /**
   * Replaces a node; empty bytes blank it. `value` has passed `requireLeafNode` or `requireParentNode` and is
   * no view into the store. That keys are unique is checked before; an index keeps the first of two.
   */
  write(node: NodeIndex, value: Uint8Array): void {
    if (this.replace(node, value)) this.hashes.spoil(node, this.rootNode);
  }

  /** A write but for the hashes. False if there was nothing to do. */
  private replace(node: NodeIndex, value: Uint8Array): boolean {
    invariant(node < nodeCount(this.leafSlots), "mls/node-outside-tree");
    const wasBlank = this.nodes.isBlank(node);
    if (wasBlank && value.length === 0) return false;
    this.hashes.dropLeafHashes();
    this.journal?.noteNode(node, this.nodes.view(node));
    if (!wasBlank) this.forget(node);
    this.nodes.set(node, value);
    if (value.length !== 0) this.index(node);
    this.recount(node, isLeafNode(node) && wasBlank !== (value.length === 0));
    return true;
  }

  /**
   * Takes a node that stands in the store into the indexes and capability counters. Returns the rule that a
   * key of it breaks because another node has the same.
   */
  index(node: NodeIndex): RuleId | undefined {
    const other = this.encryptionKeys.insert(node);
    if (!isLeafNode(node)) return other === undefined ? undefined : "ratchet-tree/encryption-key-unique";
    const leaf = nodeToLeaf(node);
    const otherLeaf = this.signatureKeys.insert(leaf);
    this.credentials.insert(leaf);
    for (const { leaves } of this.identityParts) leaves.insert(leaf);
    this.countCapabilities(node, 1);
    if (otherLeaf !== undefined) return "leaf-node/signature-key-unique";
    if (other === undefined) return undefined;
    return isLeafNode(other) ? "leaf-node/encryption-key-unique" : "ratchet-tree/encryption-key-unique";
  }

  private forget(node: NodeIndex): void {
    this.encryptionKeys.delete(node);
    if (!isLeafNode(node)) return;
    const leaf = nodeToLeaf(node);
    this.signatureKeys.delete(leaf);
    this.credentials.delete(leaf);
    for (const { leaves } of this.identityParts) leaves.delete(leaf);
    this.countCapabilities(node, -1);
  }

  private countCapabilities(node: NodeIndex, difference: 1 | -1): void {
    locateLeafFields(this.nodes.bytes, this.nodes.start(node), this.fields);
    this.capabilities.count(this.nodes.bytes, this.fields, difference);
  }

  /** Counts a parent anew from its bytes and its children. True if its resolution size changed. */
  private recountParent(node: NodeIndex): boolean {
    const place = parentPlace(node);
    const size = this.nodes.isBlank(node)
      ? this.resolutionSize(left(node)) + this.resolutionSize(right(node))
      : 1 + unmergedCount(this.nodes.bytes, this.nodes.start(node));
    const changed = size !== this.resolutionSizes[place];
    this.resolutionSizes[place] = size;
    this.members[place] = this.membersBelow(left(node)) + this.membersBelow(right(node));
    return changed;
  }

  /** After a write: counts everything above that depends on the node. */
  private recount(node: NodeIndex, membersChanged: boolean): void {
    const top = this.rootNode;
    let n = isLeafNode(node) ? parent(node) : node;
    if (node === top && isLeafNode(node)) return;
    while ((this.recountParent(n) || membersChanged) && n !== top) n = parent(n);
  }

  /** Counts all nodes anew: after a bulk load. O(N). */
  recountAll(): void {
    const count = nodeCount(this.leafSlots);
    for (let step = 2; step <= this.leafSlots; step *= 2) {
      for (let node = step - 1; node < count; node += step * 2) this.recountParent(node);
    }
  }

  /** Doubles the width (section 7.7). The new half is blank; hashes that it had at an earlier time still stand. */
  extend(): void {
    check("ratchet-tree/size-limit", this.leafSlots * 2 <= MAX_LEAF_SLOTS);
    this.widen();
    this.hashes.spoil(this.rootNode, this.rootNode);
  }

  /** Doubles the width but for the hashes. */
  private widen(): void {
    this.leafSlots *= 2;
    this.nodes.ensureNodes(nodeCount(this.leafSlots));
    this.hashes.ensureSlots(this.leafSlots);
    this.credentials.ensureLeaves(this.leafSlots);
    for (const { leaves } of this.identityParts) leaves.ensureLeaves(this.leafSlots);
    if (this.leafSlots > this.members.length) {
      this.resolutionSizes = enlarged(this.resolutionSizes, this.leafSlots);
      this.members = enlarged(this.members, this.leafSlots);
    }
    this.recountParent(this.rootNode);
  }

  /** Halves the width (section 7.7) while the right half has no member. */
  truncate(): void {
    while (this.leafSlots > 1 && this.membersBelow(right(this.rootNode)) === 0) {
      this.write(this.rootNode, BLANK);
      this.leafSlots /= 2;
    }
  }

  /** Leftmost blank leaf, extending the tree when all are taken. O(log N). */
  leftmostBlankLeaf(): LeafIndex {
    if (this.memberCount === this.leafSlots) this.extend();
    let node = this.rootNode;
    while (!isLeafNode(node)) {
      const child = left(node);
      node = this.membersBelow(child) < 1 << level(child) ? child : right(node);
    }
    return nodeToLeaf(node);
  }

  /**
   * Turns the tree into the one that `journal` leads to, of the given width, and begins the journal that leads
   * back. Hashes follow their own notes alone: a write here says nothing about them. O(notes log N).
   */
  reroot(journal: Journal, leafSlots: number): Journal {
    const back = new Journal();
    this.journal = back;
    this.hashes.journal = back;
    while (this.leafSlots < leafSlots) this.widen();
    journal.undo(
      (node, value) => {
        // The tree may have been wider in between than at either end.
        while (node >= nodeCount(this.leafSlots)) this.widen();
        this.replace(node, value);
      },
      (node, hash) => this.hashes.put(node, hash),
    );
    this.leafSlots = leafSlots;
    return back;
  }
}

interface IdentityPart {
  readonly from: number;
  readonly length: number;
  readonly leaves: LeafChains;
}

function randomSeed(crypto: CryptoProvider): TableSeed {
  const bytes = crypto.random(8);
  const view = new DataView(bytes.buffer, bytes.byteOffset, 8);
  return [view.getInt32(0), view.getInt32(4)];
}

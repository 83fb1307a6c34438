import { type Bytes, decodeWhole, refuseUnless, UsageError } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { check } from "../rules.ts";
import { type LeafNode, readLeafNode } from "../structs/leaf-node.ts";
import {
  contentEnd,
  contentStart,
  encodeParentNode,
  locateLeafFields,
  newLeafFields,
  requireLeafNode,
  uint16At,
  unmergedLeavesOf,
  withUnmergedLeaves,
} from "./encoded-node.ts";
import { Journal } from "./journal.ts";
import {
  ancestorAt,
  firstLeaf,
  isLeafNode,
  type LeafIndex,
  leafToNode,
  left,
  type NodeIndex,
  nodeCount,
  nodeToLeaf,
  right,
  sibling,
} from "./math.ts";
import {
  decodeDelta,
  decodeRatchetTree,
  decodeSnapshot,
  encodeDelta,
  encodeRatchetTree,
  encodeSnapshot,
} from "./tree-codec.ts";
import { BLANK, TreeState } from "./tree-state.ts";

const fields = newLeafFields();

/** One step of a filtered direct path (RFC 9420 section 4.1.2). */
export interface PathStep {
  /** The node that gets a new key. */
  readonly node: NodeIndex;
  /** Its child on the copath; its resolution is not empty. */
  readonly copathNode: NodeIndex;
}

/** Contents of a parent node that an UpdatePath sets (section 7.5): nothing is unmerged below it. */
export interface PathNode {
  readonly node: NodeIndex;
  readonly encryptionKey: Uint8Array;
  readonly parentHash: Uint8Array;
}

/** How a tree that does not hold the arrays gets its contents: what `next` shows, with `journal` undone. */
interface Link {
  readonly next: RatchetTree;
  readonly journal: Journal;
  readonly leafSlots: number;
  readonly memberCount: number;
}

/**
 * The ratchet tree of one epoch (RFC 9420 sections 4 and 7).
 *
 * All trees of one group share one set of arrays, which shows the tree that was used last; the others keep
 * the differences to it (Baker's rerooting of persistent arrays). So a retained epoch costs a few entries,
 * the current tree is read at the speed of plain arrays, and nothing ever has to be folded together.
 *
 * A tree that has been forked is read-only for ever; changes go to a fork, and another attempt gets another
 * fork. Neither ever shows in the other. Bytes that a method returns are copies that the caller owns.
 */
export class RatchetTree {
  private readonly state: TreeState;
  private link: Link | undefined;
  private readOnly = false;
  /** Nodes written since the fork, with repetitions. */
  private readonly changed: NodeIndex[] = [];

  private constructor(state: TreeState, link?: Link) {
    this.state = state;
    this.link = link;
  }

  /** A tree with one member at leaf 0. `leafNode` is an encoded LeafNode. */
  static create(crypto: CryptoProvider, leafNode: Uint8Array): RatchetTree {
    requireLeafNode(leafNode);
    const tree = new RatchetTree(new TreeState(crypto, 1, BLANK, 1));
    tree.write(0, leafNode);
    return tree;
  }

  /**
   * Decodes the content of a ratchet_tree extension (12.4.3.3): structure, node types, unique keys. Nothing
   * is verified cryptographically: compare `treeHash()` with the GroupContext, then call `validateTree`.
   * O(N), no hash. Throws RejectionError `mls/ratchet-tree/...`, `mls/leaf-node/...-unique`, `coder/...`.
   */
  static decode(crypto: CryptoProvider, ratchetTree: Uint8Array): RatchetTree {
    const state = decodeRatchetTree(crypto, ratchetTree);
    // For the tree hash and the parent hashes that follow; gone after them, or with the first change.
    state.hashes.keepLeafHashes();
    return new RatchetTree(state);
  }

  /** Restores what `encodeSnapshot` wrote. O(N) without a single hash. */
  static decodeSnapshot(crypto: CryptoProvider, snapshot: Uint8Array): RatchetTree {
    return new RatchetTree(decodeSnapshot(crypto, snapshot));
  }

  get crypto(): CryptoProvider {
    return this.state.crypto;
  }

  /** The content of a ratchet_tree extension (12.4.3.3). O(N). */
  encode(): Bytes {
    return encodeRatchetTree(this.shown());
  }

  /** For storage: the tree and its hashes. O(N). */
  encodeSnapshot(): Bytes {
    return encodeSnapshot(this.shown());
  }

  /** For storage: the nodes that changed since this tree was forked (or since it was made). O(changes). */
  encodeDelta(): Bytes {
    return encodeDelta(this.shown(), this.changed);
  }

  /** Applies a stored delta to this tree, a fork of the tree that the delta starts from. O(changes log N). */
  applyDelta(delta: Uint8Array): void {
    const state = this.writable();
    const { leafSlots, nodes } = decodeDelta(delta);
    for (const { node } of nodes) while (node >= nodeCount(state.leafSlots)) state.extend();
    // A key may have moved from one node to another: make room first.
    for (const { node } of nodes) this.write(node, BLANK);
    for (const { node, value } of nodes) this.write(node, value);
    state.truncate();
    refuseUnless(state.leafSlots === leafSlots, "mls/tree-delta-malformed");
  }

  /** Width of the tree in leaves, a power of two. */
  get leafSlots(): number {
    return this.link?.leafSlots ?? this.state.leafSlots;
  }

  get memberCount(): number {
    return this.link?.memberCount ?? this.state.memberCount;
  }

  hasMember(leaf: LeafIndex): boolean {
    return !this.isBlank(leafToNode(leaf));
  }

  /** True for a node outside the tree as well. */
  isBlank(node: NodeIndex): boolean {
    return this.peek(node).length === 0;
  }

  /** Decodes the leaf; undefined when blank. O(size of the leaf). */
  leaf(leaf: LeafIndex): LeafNode | undefined {
    const bytes = this.leafBytes(leaf);
    return bytes === undefined ? undefined : decodeWhole(bytes, readLeafNode);
  }

  leafBytes(leaf: LeafIndex): Bytes | undefined {
    return this.nodeBytes(leafToNode(leaf));
  }

  /** The encoded LeafNode or ParentNode; undefined when blank. */
  nodeBytes(node: NodeIndex): Bytes | undefined {
    const view = this.peek(node);
    return view.length === 0 ? undefined : view.slice();
  }

  /** signature_key of a leaf without decoding it; undefined when blank. O(1). */
  signatureKey(leaf: LeafIndex): Bytes | undefined {
    const view = this.peek(leafToNode(leaf));
    return view.length === 0 ? undefined : opaqueAt(view, contentEnd(view, 0));
  }

  /** encryption_key of any node, undefined when blank. O(1). */
  encryptionKey(node: NodeIndex): Bytes | undefined {
    const view = this.peek(node);
    return view.length === 0 ? undefined : opaqueAt(view, 0);
  }

  /** parent_hash of a parent node, undefined when blank. O(1). */
  parentHash(node: NodeIndex): Bytes | undefined {
    const view = this.peek(node);
    if (isLeafNode(node)) throw new UsageError("mls/not-a-parent-node");
    return view.length === 0 ? undefined : opaqueAt(view, contentEnd(view, 0));
  }

  /** unmerged_leaves of a parent node, empty when blank. O(their number). */
  unmergedLeaves(node: NodeIndex): ArrayLike<LeafIndex> {
    const view = this.peek(node);
    if (isLeafNode(node)) throw new UsageError("mls/not-a-parent-node");
    return view.length === 0 ? [] : unmergedLeavesOf(view);
  }

  /** Leaf indexes of all members in ascending order. */
  *members(): Generator<LeafIndex, void, undefined> {
    for (let leaf = 0; leaf < this.leafSlots; leaf++) if (this.hasMember(leaf)) yield leaf;
  }

  /** A tree of the next epoch that starts out equal. O(1) beside the hashes that `treeHash()` would compute now. */
  fork(): RatchetTree {
    // From here on no hash of this tree changes: the journals that lead to and from it stay right.
    const state = this.shown();
    state.hashes.update(state.rootNode);
    this.readOnly = true;
    const { leafSlots, memberCount } = this;
    return new RatchetTree(this.state, { next: this, journal: new Journal(), leafSlots, memberCount });
  }

  /** Add (12.1.1): leftmost blank leaf, or the tree is extended. O(log N). Throws RejectionError on a duplicate key. */
  addLeaf(leafNode: Uint8Array): LeafIndex {
    const leaf = this.placeLeaf(leafNode);
    this.addUnmerged(this.state.rootNode, [leaf]);
    return leaf;
  }

  /** Many Adds in their order. O(k log N); an `unmerged_leaves` that k Adds touch is written once. */
  addLeaves(leafNodes: readonly Uint8Array[]): LeafIndex[] {
    const leaves = leafNodes.map((leafNode) => this.placeLeaf(leafNode));
    if (leaves.length > 0) this.addUnmerged(this.state.rootNode, leaves);
    return leaves;
  }

  /** Update (12.1.2): replaces the leaf and blanks its direct path. O(log N). */
  updateLeaf(leaf: LeafIndex, leafNode: Uint8Array): void {
    this.requireMember(leaf);
    requireLeafNode(leafNode);
    this.requireUniqueKeys(leafNode, leaf);
    this.writable();
    this.write(leafToNode(leaf), leafNode);
    this.blankDirectPath(leaf);
  }

  /** Remove (12.1.3): blanks the leaf and its direct path, truncates. O(log N). Rejects a blank leaf. */
  removeLeaf(leaf: LeafIndex): void {
    this.requireMember(leaf);
    const state = this.writable();
    this.write(leafToNode(leaf), BLANK);
    this.blankDirectPath(leaf);
    state.truncate();
  }

  /** Where an external joiner goes (12.4.3.2): leftmost blank leaf, extending the tree if there is none. O(log N). */
  reserveLeaf(): LeafIndex {
    return this.writable().leftmostBlankLeaf();
  }

  /**
   * Merges an UpdatePath (7.5): the sender's leaf, the given nodes, and blanks on the rest of its direct path.
   * Validation is tree-kem's. O(log N).
   */
  mergePath(sender: LeafIndex, leafNode: Uint8Array, pathNodes: readonly PathNode[]): void {
    requireLeafNode(leafNode);
    this.writable();
    this.setPathNodes(sender, pathNodes);
    this.write(leafToNode(sender), leafNode);
  }

  private setPathNodes(sender: LeafIndex, pathNodes: readonly PathNode[]): void {
    let next = 0;
    for (let height = 1; 1 << height <= this.leafSlots; height++) {
      const node = ancestorAt(sender, height);
      const set = pathNodes[next]?.node === node ? pathNodes[next++] : undefined;
      this.write(node, set === undefined ? BLANK : encodeParentNode(set.encryptionKey, set.parentHash, []));
    }
    if (next !== pathNodes.length) throw new UsageError("mls/path-node-not-on-direct-path");
  }

  /** Tree hash of the root (7.8). O(dirty nodes), 0 hashes when nothing changed. */
  treeHash(): Bytes {
    return this.nodeHash(this.shown().rootNode);
  }

  /** Tree hash of any node. */
  nodeHash(node: NodeIndex): Bytes {
    const state = this.shown();
    this.requireNode(node);
    return state.hashes.update(node).slice();
  }

  /** Resolution of a node (4.1.1), as node indexes. O(its length + blank nodes passed). */
  resolution(node: NodeIndex): NodeIndex[] {
    this.shown();
    this.requireNode(node);
    const found: NodeIndex[] = [];
    this.collectResolution(node, found);
    return found;
  }

  private collectResolution(node: NodeIndex, found: NodeIndex[]): void {
    if (this.state.resolutionSize(node) === 0) return;
    const view = this.state.nodes.view(node);
    if (view.length === 0) {
      this.collectResolution(left(node), found);
      this.collectResolution(right(node), found);
      return;
    }
    found.push(node);
    if (!isLeafNode(node)) for (const leaf of unmergedLeavesOf(view)) found.push(leafToNode(leaf));
  }

  /** O(1). */
  resolutionSize(node: NodeIndex): number {
    const state = this.shown();
    this.requireNode(node);
    return state.resolutionSize(node);
  }

  /** Members at or below a node. O(1). */
  membersBelow(node: NodeIndex): number {
    const state = this.shown();
    this.requireNode(node);
    return state.membersBelow(node);
  }

  /** From the leaf's parent upwards. O(log N). */
  filteredDirectPath(leaf: LeafIndex): PathStep[] {
    const state = this.shown();
    this.requireNode(leafToNode(leaf));
    const steps: PathStep[] = [];
    for (let height = 1; 1 << height <= state.leafSlots; height++) {
      const copathNode = sibling(ancestorAt(leaf, height - 1));
      if (state.resolutionSize(copathNode) > 0) steps.push({ node: ancestorAt(leaf, height), copathNode });
    }
    return steps;
  }

  /** Ciphertexts of a path commit by this leaf. O(log N). */
  pathCost(leaf: LeafIndex): number {
    const state = this.shown();
    this.requireNode(leafToNode(leaf));
    let ciphertexts = 0;
    for (let height = 0; 1 << height < state.leafSlots; height++) {
      ciphertexts += state.resolutionSize(sibling(ancestorAt(leaf, height)));
    }
    return ciphertexts;
  }

  nodeByEncryptionKey(key: Uint8Array): NodeIndex | undefined {
    return this.shown().encryptionKeys.find(key);
  }

  leafByEncryptionKey(key: Uint8Array): LeafIndex | undefined {
    const node = this.nodeByEncryptionKey(key);
    return node !== undefined && isLeafNode(node) ? nodeToLeaf(node) : undefined;
  }

  leafBySignatureKey(key: Uint8Array): LeafIndex | undefined {
    return this.shown().signatureKeys.find(key);
  }

  /** Members whose encoded Credential equals these bytes, in no particular order. O(result). */
  leavesByCredential(credential: Uint8Array): LeafIndex[] {
    return this.shown().credentials.find(credential);
  }

  /**
   * Members whose basic credential's identity has these bytes from place `from` on, in no particular order. O(N) when
   * a place and length are asked about for the first time in this line of trees, O(result) afterwards.
   */
  leavesByIdentityPart(from: number, part: Uint8Array): LeafIndex[] {
    return this.shown().leavesByIdentityPart(from, part);
  }

  /** The data of a leaf's extension, without decoding the leaf; undefined without one. A copy. O(its extensions). */
  leafExtension(leaf: LeafIndex, type: number): Bytes | undefined {
    const view = this.peek(leafToNode(leaf));
    if (view.length === 0) return undefined;
    locateLeafFields(view, 0, fields);
    const end = contentEnd(view, fields.extensionsAt);
    for (let at = contentStart(view, fields.extensionsAt); at < end; at = contentEnd(view, at + 2)) {
      if (uint16At(view, at) === type) return opaqueAt(view, at + 2);
    }
    return undefined;
  }

  /** Bytes of memory that this line of trees takes, but for the notes of its past ones. O(1). */
  get estimatedBytes(): number {
    return this.state.memory;
  }

  /** How many members do not support the type; 0 for default types. O(1). */
  lackingExtension(type: number): number {
    const state = this.shown();
    return state.memberCount - (state.capabilities.supportingExtension(type) ?? state.memberCount);
  }

  lackingProposal(type: number): number {
    const state = this.shown();
    return state.memberCount - (state.capabilities.supportingProposal(type) ?? state.memberCount);
  }

  lackingCredential(type: number): number {
    const state = this.shown();
    return state.memberCount - state.capabilities.supportingCredential(type);
  }

  /** Credential types that members use, with how many use each. */
  credentialsInUse(): ReadonlyMap<number, number> {
    return new Map(this.shown().capabilities.credentialsInUse);
  }

  /**
   * The encoding of a node without a copy, empty when blank: valid until any tree of this group changes or is
   * read. For code of this folder.
   */
  peek(node: NodeIndex): Uint8Array {
    let tree: RatchetTree = this;
    if (node >= nodeCount(this.leafSlots)) return BLANK;
    while (tree.link !== undefined) {
      const before = tree.link.journal.before(node);
      if (before !== undefined) return before;
      tree = tree.link.next;
    }
    return this.state.nodes.view(node);
  }

  /** Notes that this tree keeps apart from the shared arrays: what a retained epoch costs. */
  get notes(): number {
    return this.link?.journal.length ?? 0;
  }

  /** The arrays, showing this tree. */
  shown(): TreeState {
    this.reroot();
    return this.state;
  }

  /**
   * Makes the arrays show this tree: from the tree that they show, each neighbour on the way here turns its
   * link round. O(differences log N).
   */
  private reroot(): void {
    if (this.link === undefined) return;
    const way: RatchetTree[] = [];
    let shown: RatchetTree = this;
    while (shown.link !== undefined) {
      way.push(shown);
      shown = shown.link.next;
    }
    for (let target = way.pop(); target !== undefined; target = way.pop()) {
      const { journal, leafSlots } = target.link!;
      const { leafSlots: ownSlots, memberCount } = shown;
      const back = this.state.reroot(journal, leafSlots);
      shown.link = { next: target, journal: back, leafSlots: ownSlots, memberCount };
      target.link = undefined;
      shown = target;
    }
  }

  private writable(): TreeState {
    if (this.readOnly) throw new UsageError("mls/tree-is-read-only", "it has been forked: change a fork");
    return this.shown();
  }

  private write(node: NodeIndex, value: Uint8Array): void {
    this.state.write(node, value);
    this.changed.push(node);
  }

  private placeLeaf(leafNode: Uint8Array): LeafIndex {
    requireLeafNode(leafNode);
    this.requireUniqueKeys(leafNode, undefined);
    const leaf = this.writable().leftmostBlankLeaf();
    this.write(leafToNode(leaf), leafNode);
    return leaf;
  }

  /** The keys of an encoded LeafNode stand nowhere else in the tree; `except` is the leaf that it replaces. */
  private requireUniqueKeys(leafNode: Uint8Array, except: LeafIndex | undefined): void {
    const node = this.nodeByEncryptionKey(opaqueAt(leafNode, 0));
    const own = except === undefined ? undefined : leafToNode(except);
    check("leaf-node/encryption-key-unique", node === undefined || node === own);
    const leaf = this.leafBySignatureKey(opaqueAt(leafNode, contentEnd(leafNode, 0)));
    check("leaf-node/signature-key-unique", leaf === undefined || leaf === except);
  }

  private requireMember(leaf: LeafIndex): void {
    check("ratchet-tree/leaf-not-blank", this.hasMember(leaf));
  }

  private requireNode(node: NodeIndex): void {
    if (!(node >= 0 && node < nodeCount(this.leafSlots))) throw new UsageError("mls/no-such-node");
  }

  private blankDirectPath(leaf: LeafIndex): void {
    for (let height = 1; 1 << height <= this.leafSlots; height++) this.write(ancestorAt(leaf, height), BLANK);
  }

  /** Adds new leaves, ascending, to unmerged_leaves of every non-blank parent above them, from `node` down. */
  private addUnmerged(node: NodeIndex, leaves: readonly LeafIndex[]): void {
    if (leaves.length === 0 || isLeafNode(node)) return;
    const view = this.state.nodes.view(node);
    if (view.length > 0) this.write(node, withUnmergedLeaves(view, merged(unmergedLeavesOf(view), leaves)));
    const middle = firstLeaf(right(node));
    let split = leaves.length;
    while (split > 0 && leaves[split - 1]! >= middle) split--;
    this.addUnmerged(left(node), leaves.slice(0, split));
    this.addUnmerged(right(node), leaves.slice(split));
  }
}

function opaqueAt(bytes: Uint8Array, at: number): Bytes {
  return bytes.slice(contentStart(bytes, at), contentEnd(bytes, at)) as Bytes;
}

/** Two ascending lists as one. */
function merged(a: ArrayLike<number>, b: ArrayLike<number>): Uint32Array {
  const out = new Uint32Array(a.length + b.length);
  let i = 0;
  let j = 0;
  for (let at = 0; at < out.length; at++) {
    out[at] = j >= b.length || (i < a.length && a[i]! < b[j]!) ? a[i++]! : b[j++]!;
  }
  return out;
}

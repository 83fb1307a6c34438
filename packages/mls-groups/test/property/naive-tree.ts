import { createHash } from "node:crypto";
import { concatBytes, decodeWhole, encode, equalBytes, type Writer } from "@murmuration/base";
import { credentialType, writeCredential } from "../../src/structs/credential.ts";
import { type LeafNode, readLeafNode } from "../../src/structs/leaf-node.ts";
import { type ParentNode, writeParentNode } from "../../src/structs/parent-node.ts";

/*
 * A ratchet tree straight from the text of RFC 9420: linked objects, recursion, no index, no cache. Slow and
 * easy to compare with the sections it names; the reference for the engine's tree.
 */

export interface NaiveLeaf {
  readonly kind: "leaf";
  readonly index: number;
  node: Uint8Array | null;
}
export interface NaiveParent {
  readonly kind: "parent";
  readonly left: NaiveSubtree;
  readonly right: NaiveSubtree;
  node: ParentNode | null;
}
export type NaiveSubtree = NaiveLeaf | NaiveParent;

const hash = (bytes: Uint8Array): Uint8Array => new Uint8Array(createHash("sha256").update(bytes).digest());

function blank(firstLeaf: number, leaves: number): NaiveSubtree {
  if (leaves === 1) return { kind: "leaf", index: firstLeaf, node: null };
  const half = leaves / 2;
  return {
    kind: "parent",
    left: blank(firstLeaf, half),
    right: blank(firstLeaf + half, half),
    node: null,
  };
}

/** Of bytes that nobody changes: a leaf is asked for again by everything that is compared. */
const decoded = new WeakMap<Uint8Array, LeafNode>();

export function decodeLeaf(bytes: Uint8Array): LeafNode {
  const known = decoded.get(bytes) ?? decodeWhole(bytes, readLeafNode);
  decoded.set(bytes, known);
  return known;
}

/** Nodes are replaced, and never changed: the copy has the same ones. */
function copyOf(tree: NaiveSubtree): NaiveSubtree {
  return tree.kind === "leaf" ? { ...tree } : { ...tree, left: copyOf(tree.left), right: copyOf(tree.right) };
}

/** All leaves below a subtree, left to right. */
function leavesOf(tree: NaiveSubtree): NaiveLeaf[] {
  return tree.kind === "leaf" ? [tree] : [...leavesOf(tree.left), ...leavesOf(tree.right)];
}

/** In-order traversal: position in this list is the node index of appendix C. */
export function inOrder(tree: NaiveSubtree): NaiveSubtree[] {
  return tree.kind === "leaf" ? [tree] : [...inOrder(tree.left), tree, ...inOrder(tree.right)];
}

const covers = (tree: NaiveSubtree, leaf: number): boolean =>
  leavesOf(tree).some(({ index }) => index === leaf);

/** Section 4.1.1. */
export function resolution(tree: NaiveSubtree): NaiveSubtree[] {
  if (tree.kind === "leaf") return tree.node === null ? [] : [tree];
  if (tree.node === null) return [...resolution(tree.left), ...resolution(tree.right)];
  const { unmergedLeaves } = tree.node;
  return [tree, ...leavesOf(tree).filter(({ index }) => unmergedLeaves.includes(index))];
}

/** Section 7.8. */
export function treeHash(tree: NaiveSubtree): Uint8Array {
  return hash(
    encode(tree, (w) => {
      if (tree.kind === "leaf") {
        w.uint8(1).uint32(tree.index);
        w.optional(tree.node ?? undefined, (inner, bytes) => inner.fixed(bytes));
      } else {
        w.uint8(2).optional(tree.node ?? undefined, writeParentNode);
        w.bytes(treeHash(tree.left)).bytes(treeHash(tree.right));
      }
    }),
  );
}

/** Section 7.9: the subtree as it was before these leaves came. */
function without(tree: NaiveSubtree, leaves: readonly number[]): NaiveSubtree {
  if (tree.kind === "leaf") return { ...tree, node: leaves.includes(tree.index) ? null : tree.node };
  const unmergedLeaves = tree.node?.unmergedLeaves.filter((leaf) => !leaves.includes(leaf)) ?? [];
  return {
    kind: "parent",
    left: without(tree.left, leaves),
    right: without(tree.right, leaves),
    node: tree.node && { ...tree.node, unmergedLeaves },
  };
}

/** Section 7.9: the parent hash of P with copath child S. */
function parentHash(p: ParentNode, s: NaiveSubtree): Uint8Array {
  const original = treeHash(without(s, p.unmergedLeaves));
  return hash(encode(p, (w) => w.bytes(p.encryptionKey).bytes(p.parentHash).bytes(original)));
}

function parentHashField(tree: NaiveSubtree): Uint8Array | undefined {
  if (tree.node === null) return undefined;
  if (tree.kind === "parent") return tree.node.parentHash;
  const { source } = decodeLeaf(tree.node);
  return source.kind === "commit" ? source.parentHash : undefined;
}

/** Section 7.9.2: descendants D of P for which D's parent hash is valid with respect to P. */
function validDescendants(p: NaiveParent): NaiveSubtree[] {
  const node = p.node!;
  const sides = [
    [p.left, p.right],
    [p.right, p.left],
  ] as const;
  return sides.flatMap(([c, s]) => {
    const below = node.unmergedLeaves.filter((leaf) => covers(c, leaf));
    const nodes = resolution(c);
    return nodes.filter((d) => {
      const field = parentHashField(d);
      const rest = nodes.filter((other) => other !== d);
      const same =
        rest.length === below.length && rest.every((r) => r.kind === "leaf" && below.includes(r.index));
      return field !== undefined && same && equalBytes(field, parentHash(node, s));
    });
  });
}

const encodedCredential = (leaf: Uint8Array): Uint8Array =>
  encode(decodeLeaf(leaf).credential, writeCredential);

export class NaiveTree {
  root: NaiveSubtree = blank(0, 1);

  static copyOf(other: NaiveTree): NaiveTree {
    const copy = new NaiveTree();
    copy.root = copyOf(other.root);
    return copy;
  }

  get leaves(): NaiveLeaf[] {
    return leavesOf(this.root);
  }

  get members(): number[] {
    return this.leaves.filter(({ node }) => node !== null).map(({ index }) => index);
  }

  /** Direct path of a leaf (section 4.1.2) from the bottom, with the child on the way and the copath child. */
  directPath(leaf: number): { parent: NaiveParent; copath: NaiveSubtree }[] {
    const path: { parent: NaiveParent; copath: NaiveSubtree }[] = [];
    for (let tree = this.root; tree.kind === "parent"; ) {
      const [next, copath] = covers(tree.left, leaf) ? [tree.left, tree.right] : [tree.right, tree.left];
      path.unshift({ parent: tree, copath });
      tree = next;
    }
    return path;
  }

  filteredDirectPath(leaf: number): { parent: NaiveParent; copath: NaiveSubtree }[] {
    return this.directPath(leaf).filter(({ copath }) => resolution(copath).length > 0);
  }

  /** Section 12.1.1. */
  add(leafNode: Uint8Array): number {
    if (this.members.length === this.leaves.length) {
      const { length } = this.leaves;
      this.root = { kind: "parent", left: this.root, right: blank(length, length), node: null };
    }
    const leaf = this.leaves.find(({ node }) => node === null)!;
    for (const { parent } of this.directPath(leaf.index)) {
      if (parent.node === null) continue;
      const unmergedLeaves = [...parent.node.unmergedLeaves, leaf.index].sort((a, b) => a - b);
      parent.node = { ...parent.node, unmergedLeaves };
    }
    leaf.node = leafNode;
    return leaf.index;
  }

  private set(leaf: number, node: Uint8Array | null): void {
    this.leaves[leaf]!.node = node;
    for (const { parent } of this.directPath(leaf)) parent.node = null;
  }

  /** Section 12.1.2. */
  update(leaf: number, leafNode: Uint8Array): void {
    this.set(leaf, leafNode);
  }

  /** Section 12.1.3. */
  remove(leaf: number): void {
    this.set(leaf, null);
    while (this.root.kind === "parent" && leavesOf(this.root.right).every(({ node }) => node === null)) {
      this.root = this.root.left;
    }
  }

  /** Sections 7.5 and 7.9: sets the path; `makeLeaf` gets the leaf's parent hash. Returns the parent hashes. */
  mergePath(
    leaf: number,
    keys: readonly Uint8Array[],
    makeLeaf: (hash: Uint8Array) => Uint8Array,
  ): Uint8Array[] {
    const path = this.filteredDirectPath(leaf);
    for (const { parent } of this.directPath(leaf)) parent.node = null;
    let above: Uint8Array = new Uint8Array(0);
    const hashes: Uint8Array[] = [];
    for (const [i, { parent, copath }] of [...path.entries()].reverse()) {
      hashes.unshift(above);
      parent.node = { encryptionKey: keys[i]!, parentHash: above, unmergedLeaves: [] };
      above = parentHash(parent.node, copath);
    }
    this.leaves[leaf]!.node = makeLeaf(above);
    return hashes;
  }

  /** Section 7.9.2: every non-blank parent has exactly one descendant that is chained to it. */
  parentHashesAreValid(): boolean {
    return inOrder(this.root).every(
      (tree) => tree.kind === "leaf" || tree.node === null || validDescendants(tree).length === 1,
    );
  }

  /** Section 12.4.3.3. */
  encode(): Uint8Array {
    const nodes = inOrder(this.root);
    const last = nodes.findLastIndex(({ node }) => node !== null);
    return encode(nodes.slice(0, last + 1), (w, list) => w.vector(list, writeOptionalNode), 4096);
  }

  lacking(list: "extensions" | "proposals" | "credentials", type: number): number {
    const leaves = this.leaves.flatMap(({ node }) => (node === null ? [] : [decodeLeaf(node)]));
    return leaves.filter(({ capabilities }) => !capabilities[list].includes(type)).length;
  }

  credentialsInUse(): Map<number, number> {
    const counts = new Map<number, number>();
    for (const { node } of this.leaves) {
      if (node === null) continue;
      const type = credentialType(decodeLeaf(node).credential);
      counts.set(type, (counts.get(type) ?? 0) + 1);
    }
    return counts;
  }

  leavesByCredential(credential: Uint8Array): number[] {
    return this.leaves
      .filter(({ node }) => node !== null && equalBytes(encodedCredential(node), credential))
      .map(({ index }) => index);
  }
}

function writeOptionalNode(writer: Writer, tree: NaiveSubtree): void {
  if (tree.node === null) writer.uint8(0);
  else if (tree.kind === "leaf") writer.fixed(concatBytes(Uint8Array.of(1, 1), tree.node));
  else {
    writer.uint8(1).uint8(2);
    writeParentNode(writer, tree.node);
  }
}

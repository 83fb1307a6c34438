/** The ratchet tree of RFC 9420 section 4 in its plainest form: an array of nodes, everything by recursion. */
import { uint, vector } from "./reference.ts";
import { concat, type ReferenceSuite } from "./suites.ts";

export interface LeafEntry {
  readonly kind: "leaf";
  readonly key: Uint8Array;
  readonly encoded: Uint8Array;
}

export interface ParentEntry {
  readonly kind: "parent";
  readonly key: Uint8Array;
  readonly parentHash: Uint8Array;
  readonly unmerged: readonly number[];
}

/** By node index (appendix C), over the full width. */
export type NaiveTree = (LeafEntry | ParentEntry | undefined)[];

/** A subtree: leaves [low, low + width). */
export interface Range {
  readonly low: number;
  readonly width: number;
}

export const whole = (tree: NaiveTree): Range => ({ low: 0, width: (tree.length + 1) / 2 });
export const nodeOf = ({ low, width }: Range): number => 2 * low + width - 1;
export const halves = ({ low, width }: Range): [Range, Range] => [
  { low, width: width / 2 },
  { low: low + width / 2, width: width / 2 },
];

function encodeParent({ key, parentHash, unmerged }: ParentEntry): Uint8Array {
  return concat(vector(key), vector(parentHash), vector(concat(...unmerged.map((leaf) => uint(leaf, 4)))));
}

const present = (content: Uint8Array | undefined): Uint8Array =>
  content === undefined ? uint(0, 1) : concat(uint(1, 1), content);

/** Section 7.8. */
export function treeHash(suite: ReferenceSuite, tree: NaiveTree, range: Range = whole(tree)): Uint8Array {
  const entry = tree[nodeOf(range)];
  if (range.width === 1) {
    const leaf = entry?.kind === "leaf" ? entry.encoded : undefined;
    return suite.hash(concat(uint(1, 1), uint(range.low, 4), present(leaf)));
  }
  const parent = entry?.kind === "parent" ? encodeParent(entry) : undefined;
  const [left, right] = halves(range).map((half) => vector(treeHash(suite, tree, half)));
  return suite.hash(concat(uint(2, 1), present(parent), left!, right!));
}

/** Section 4.1.1. */
export function resolution(tree: NaiveTree, range: Range): number[] {
  const entry = tree[nodeOf(range)];
  if (entry?.kind === "parent") return [nodeOf(range), ...entry.unmerged.map((leaf) => 2 * leaf)];
  if (entry !== undefined) return [nodeOf(range)];
  return range.width === 1 ? [] : halves(range).flatMap((half) => resolution(tree, half));
}

/** Every subtree, by the index of its topmost node. */
export function ranges(tree: NaiveTree): Range[] {
  const found: Range[] = [];
  const visit = (range: Range): void => {
    found[nodeOf(range)] = range;
    if (range.width > 1) for (const half of halves(range)) visit(half);
  };
  visit(whole(tree));
  return found;
}

/** The content of a ratchet_tree extension (section 12.4.3.3), without the blank nodes at its end. */
export function encodeTree(tree: NaiveTree): Uint8Array {
  const last = tree.findLastIndex((entry) => entry !== undefined);
  const nodes = Array.from({ length: last + 1 }, (_, node) => {
    const entry = tree[node];
    if (entry === undefined) return uint(0, 1);
    return entry.kind === "leaf"
      ? concat(uint(1, 1), uint(1, 1), entry.encoded)
      : concat(uint(1, 1), uint(2, 1), encodeParent(entry));
  });
  return vector(concat(...nodes));
}

/** Just enough of a decoder to find where nodes end. Leaves have basic credentials. */
class Cursor {
  readonly bytes: Uint8Array;
  at = 0;
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
  skip(length: number): Uint8Array {
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }
  number(length: number): number {
    return this.skip(length).reduce((value, byte) => value * 256 + byte, 0);
  }
  opaque(): Uint8Array {
    const first = this.number(1);
    const more = [0, 1, 3][first >> 6]!;
    return this.skip((first & 0x3f) * 256 ** more + this.number(more));
  }
}

function readLeaf(cursor: Cursor): LeafEntry {
  const start = cursor.at;
  const key = cursor.opaque();
  cursor.opaque();
  cursor.skip(2);
  for (let field = 0; field < 6; field++) cursor.opaque();
  const source = cursor.number(1);
  if (source === 1) cursor.skip(16);
  else if (source === 3) cursor.opaque();
  cursor.opaque();
  cursor.opaque();
  return { kind: "leaf", key, encoded: cursor.bytes.subarray(start, cursor.at) };
}

function readParent(cursor: Cursor): ParentEntry {
  const [key, parentHash] = [cursor.opaque(), cursor.opaque()];
  const leaves = new Cursor(cursor.opaque());
  const unmerged: number[] = [];
  while (leaves.at < leaves.bytes.length) unmerged.push(leaves.number(4));
  return { kind: "parent", key, parentHash, unmerged };
}

/** The inverse of {@link encodeTree}. */
export function decodeTree(encoded: Uint8Array): NaiveTree {
  const cursor = new Cursor(new Cursor(encoded).opaque());
  const nodes: NaiveTree = [];
  while (cursor.at < cursor.bytes.length) {
    if (cursor.number(1) === 0) nodes.push(undefined);
    else nodes.push(cursor.number(1) === 1 ? readLeaf(cursor) : readParent(cursor));
  }
  let width = 1;
  while (2 * width - 1 < nodes.length) width *= 2;
  return Array.from({ length: 2 * width - 1 }, (_, node) => nodes[node]);
}

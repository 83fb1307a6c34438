import { type Bytes, Reader, varintSize } from "@murmuration/base";
import { skipLeafNode } from "../structs/leaf-node.ts";
import { skipParentNode } from "../structs/parent-node.ts";

/**
 * Places of fields inside encoded LeafNodes and ParentNodes (RFC 9420 sections 7.1 and 7.2), so that the
 * tree reads a key out of the middle of its bytes without decoding. All functions but the two `require…`
 * expect bytes that those have accepted.
 */

/** First content byte of the opaque<V> at `at`. */
export function contentStart(bytes: Uint8Array, at: number): number {
  return at + 1 + Number(bytes[at]! >= 0x40) + 2 * Number(bytes[at]! >= 0x80);
}

/** The byte behind the opaque<V> at `at`. */
export function contentEnd(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!;
  if (first < 0x40) return at + 1 + first;
  if (first < 0x80) return at + 2 + (((first & 0x3f) << 8) | bytes[at + 1]!);
  const length = ((first & 0x3f) << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
  return at + 4 + length;
}

/** Throws RejectionError `coder/…` or `mls/…` unless the bytes are exactly one LeafNode. */
export function requireLeafNode(bytes: Uint8Array): void {
  const reader = new Reader(bytes);
  skipLeafNode(reader);
  reader.finish();
}

/** Throws RejectionError `coder/…` unless the bytes are exactly one ParentNode. */
export function requireParentNode(bytes: Uint8Array): void {
  const reader = new Reader(bytes);
  skipParentNode(reader);
  reader.finish();
}

/** Where the interesting fields of a LeafNode stand; every `…At` is the place of a vector's header. */
export interface LeafFields {
  signatureKeyAt: number;
  credentialAt: number;
  credentialEnd: number;
  /** Headers of versions, cipher_suites, extensions, proposals, credentials. */
  readonly capabilitiesAt: [number, number, number, number, number];
  /** leaf_node_source: 1 key_package, 2 update, 3 commit. */
  source: number;
  /** Header of parent_hash, for source commit only. */
  parentHashAt: number;
  extensionsAt: number;
  /** Header of the signature: the bytes before it are the first part of LeafNodeTBS. */
  signatureAt: number;
}

export function newLeafFields(): LeafFields {
  return {
    signatureKeyAt: 0,
    credentialAt: 0,
    credentialEnd: 0,
    capabilitiesAt: [0, 0, 0, 0, 0],
    source: 0,
    parentHashAt: 0,
    extensionsAt: 0,
    signatureAt: 0,
  };
}

export const SOURCE_KEY_PACKAGE = 1;
export const SOURCE_COMMIT = 3;

/** Fills `fields` for the LeafNode that starts at `start`. */
export function locateLeafFields(bytes: Uint8Array, start: number, fields: LeafFields): void {
  fields.signatureKeyAt = contentEnd(bytes, start);
  fields.credentialAt = contentEnd(bytes, fields.signatureKeyAt);
  let at = contentEnd(bytes, fields.credentialAt + 2);
  fields.credentialEnd = at;
  for (let list = 0; list < 5; list++) {
    fields.capabilitiesAt[list] = at;
    at = contentEnd(bytes, at);
  }
  fields.source = bytes[at++]!;
  fields.parentHashAt = at;
  if (fields.source === SOURCE_KEY_PACKAGE) at += 16;
  else if (fields.source === SOURCE_COMMIT) at = contentEnd(bytes, at);
  fields.extensionsAt = at;
  fields.signatureAt = contentEnd(bytes, at);
}

/** Header of parent_hash in the ParentNode that starts at `start`. */
export function parentHashAt(bytes: Uint8Array, start: number): number {
  return contentEnd(bytes, start);
}

/** Header of unmerged_leaves in the ParentNode that starts at `start`. */
export function unmergedLeavesAt(bytes: Uint8Array, start: number): number {
  return contentEnd(bytes, contentEnd(bytes, start));
}

/** Number of unmerged leaves of the ParentNode that starts at `start`. */
export function unmergedCount(bytes: Uint8Array, start: number): number {
  const at = unmergedLeavesAt(bytes, start);
  return (contentEnd(bytes, at) - contentStart(bytes, at)) >>> 2;
}

export function uint16At(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

export function uint32At(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

export function putUint32(bytes: Uint8Array, at: number, value: number): number {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
  return at + 4;
}

/** Writes a vector header (section 2.1.2) and returns the place behind it. */
export function putVarint(bytes: Uint8Array, at: number, value: number): number {
  const size = varintSize(value);
  if (size === 1) {
    bytes[at] = value;
  } else if (size === 2) {
    bytes[at] = 0x40 | (value >>> 8);
    bytes[at + 1] = value;
  } else {
    putUint32(bytes, at, (0x8000_0000 | value) >>> 0);
  }
  return at + size;
}

/** Writes opaque<V> and returns the place behind it. */
export function putOpaque(bytes: Uint8Array, at: number, content: Uint8Array): number {
  const start = putVarint(bytes, at, content.length);
  bytes.set(content, start);
  return start + content.length;
}

/** Bytes that opaque<V> of this content length takes. */
export function opaqueSize(length: number): number {
  return varintSize(length) + length;
}

/** Unmerged leaves of an encoded ParentNode. O(their number). */
export function unmergedLeavesOf(node: Uint8Array): Uint32Array<ArrayBuffer> {
  const at = unmergedLeavesAt(node, 0);
  const start = contentStart(node, at);
  const leaves = new Uint32Array((contentEnd(node, at) - start) >>> 2);
  for (let i = 0; i < leaves.length; i++) leaves[i] = uint32At(node, start + i * 4);
  return leaves;
}

/** Encodes a ParentNode. */
export function encodeParentNode(
  encryptionKey: Uint8Array,
  parentHash: Uint8Array,
  unmergedLeaves: ArrayLike<number>,
): Bytes {
  const listBytes = unmergedLeaves.length * 4;
  const out = new Uint8Array(
    opaqueSize(encryptionKey.length) + opaqueSize(parentHash.length) + opaqueSize(listBytes),
  );
  let at = putOpaque(out, 0, encryptionKey);
  at = putOpaque(out, at, parentHash);
  at = putVarint(out, at, listBytes);
  for (let i = 0; i < unmergedLeaves.length; i++) at = putUint32(out, at, unmergedLeaves[i]!);
  return out;
}

/** The ParentNode with other unmerged leaves. */
export function withUnmergedLeaves(node: Uint8Array, unmergedLeaves: ArrayLike<number>): Bytes {
  const head = unmergedLeavesAt(node, 0);
  const listBytes = unmergedLeaves.length * 4;
  const out = new Uint8Array(head + opaqueSize(listBytes));
  out.set(node.subarray(0, head));
  let at = putVarint(out, head, listBytes);
  for (let i = 0; i < unmergedLeaves.length; i++) at = putUint32(out, at, unmergedLeaves[i]!);
  return out;
}

import type { Reader, Writer } from "@murmuration/base";

/**
 * RFC 9420 section 7.1. That unmerged_leaves ascend is a rule of the tree and checked there.
 *
 *   struct {
 *     HPKEPublicKey encryption_key;
 *     opaque parent_hash<V>;
 *     uint32 unmerged_leaves<V>;
 *   } ParentNode;
 */
export interface ParentNode {
  readonly encryptionKey: Uint8Array;
  readonly parentHash: Uint8Array;
  readonly unmergedLeaves: readonly number[];
}

export function readParentNode(reader: Reader): ParentNode {
  return {
    encryptionKey: reader.bytes(),
    parentHash: reader.bytes(),
    unmergedLeaves: reader.vector((inner) => inner.uint32()),
  };
}

export function skipParentNode(reader: Reader): void {
  reader.skipBytes();
  reader.skipBytes();
  const leaves = reader.nested();
  while (leaves.offset < leaves.end) leaves.uint32();
}

export function writeParentNode(writer: Writer, node: ParentNode): void {
  writer.bytes(node.encryptionKey).bytes(node.parentHash);
  writer.vector(node.unmergedLeaves, (w, leaf) => w.uint32(leaf));
}

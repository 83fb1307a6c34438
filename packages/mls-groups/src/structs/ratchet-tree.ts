import { type Reader, RejectionError, type Writer } from "@murmuration/base";
import { type ElementCodec, LazyVector } from "./lazy-vector.ts";
import { type LeafNode, readLeafNode, skipLeafNode, writeLeafNode } from "./leaf-node.ts";
import { type DecodeLimits, defaultLimits } from "./limits.ts";
import { type ParentNode, readParentNode, skipParentNode, writeParentNode } from "./parent-node.ts";

/**
 * RFC 9420 section 12.4.3.3 (NodeType in 7.8).
 *
 *   enum { reserved(0), leaf(1), parent(2), (255) } NodeType;
 *   struct {
 *     NodeType node_type;
 *     select (node_type) {
 *       case leaf:   LeafNode leaf_node;
 *       case parent: ParentNode parent_node;
 *     };
 *   } Node;
 */
export type TreeNode =
  | { readonly kind: "leaf"; readonly leafNode: LeafNode }
  | { readonly kind: "parent"; readonly parentNode: ParentNode };

export const nodeTypes = { leaf: 1, parent: 2 } as const;

function readNode(reader: Reader): TreeNode {
  const type = reader.uint8();
  if (type === nodeTypes.leaf) return { kind: "leaf", leafNode: readLeafNode(reader) };
  if (type === nodeTypes.parent) return { kind: "parent", parentNode: readParentNode(reader) };
  throw new RejectionError("mls/decode-unknown-node-type");
}

function skipNode(reader: Reader): void {
  const type = reader.uint8();
  if (type === nodeTypes.leaf) skipLeafNode(reader);
  else if (type === nodeTypes.parent) skipParentNode(reader);
  else throw new RejectionError("mls/decode-unknown-node-type");
}

function writeNode(writer: Writer, node: TreeNode): void {
  writer.uint8(nodeTypes[node.kind]);
  if (node.kind === "leaf") writeLeafNode(writer, node.leafNode);
  else writeParentNode(writer, node.parentNode);
}

/** optional<Node>; undefined is a blank node. */
export const treeNodeCodec: ElementCodec<TreeNode | undefined> = {
  skip: (reader) => {
    const presence = reader.uint8();
    if (presence > 1) throw new RejectionError("coder/bad-optional");
    if (presence === 1) skipNode(reader);
  },
  read: (reader) => reader.optional(readNode),
  write: (writer, node) => writer.optional(node, writeNode),
};

/** `optional<Node> ratchet_tree<V>`, nodes in array order (appendix C), decoded one by one when asked for. */
export type RatchetTreeNodes = LazyVector<TreeNode | undefined>;

/** One scan that checks every length and enum; the rules of the tree are the tree's own. O(size). */
export function readRatchetTree(reader: Reader, limits: DecodeLimits = defaultLimits): RatchetTreeNodes {
  return LazyVector.read(reader, treeNodeCodec, limits.elements);
}

export function writeRatchetTree(writer: Writer, nodes: RatchetTreeNodes): void {
  nodes.write(writer);
}

import type { Extension } from "../structs/extension.ts";
import type { LeafNode } from "../structs/leaf-node.ts";
import type { LeafIndex } from "./math.ts";
import type { RatchetTree } from "./ratchet-tree.ts";

const soon = (): never => {
  throw new Error("being written");
};

export interface TreeContext {
  readonly groupId: Uint8Array;
  /** Extensions of the GroupContext. */
  readonly extensions: readonly Extension[];
}

/**
 * Everything a joiner verifies about a tree (12.4.3.1): unmerged leaves, parent hashes, each LeafNode (7.3)
 * with its signature. O(N): 2N hashes and N signature verifications. Compare the tree hash first.
 */
export function validateTree(_tree: RatchetTree, _context: TreeContext): void {
  return soon();
}

/** The same with the signatures verified in batches off the main thread where the provider can. */
export function validateTreeInBatches(_tree: RatchetTree, _context: TreeContext): Promise<void> {
  return soon();
}

export interface LeafNodeContext extends TreeContext {
  /** Where the LeafNode stands (7.3). `leaf` is the sender's leaf for update and commit. */
  readonly source: "key_package" | "update" | "commit";
  /** Leaf that it will occupy; its present occupant does not count as another member. Undefined for an Add. */
  readonly leaf?: LeafIndex | undefined;
}

/**
 * Validates a LeafNode that is about to enter `tree` (7.3) except for its lifetime: source, signature, own
 * consistency, support for the group's extensions and required capabilities, credential support across all
 * members, unique keys. O(size of the leaf). Throws RejectionError `mls/leaf-node/...`.
 */
export function validateLeafNode(_tree: RatchetTree, _leafNode: LeafNode, _context: LeafNodeContext): void {
  return soon();
}

/** The lifetime rule (7.3), for a LeafNode being sent and for the DS: seconds since 1970. */
export function validateLifetime(_leafNode: LeafNode, _nowSeconds: bigint, _maximumSeconds?: bigint): void {
  return soon();
}

/**
 * Whether all members can live under these GroupContext extensions (12.1.7, 13.4): each supports every
 * extension type and every required capability. O(1) for each type.
 */
export function validateGroupExtensions(_tree: RatchetTree, _extensions: readonly Extension[]): void {
  return soon();
}

import type { Bytes } from "@murmuration/base";
import { disableRule } from "../../../src/rules.ts";
import { covers, type LeafIndex, leafToNode, type NodeIndex, nodeToLeaf } from "../../../src/tree/math.ts";
import { RatchetTree } from "../../../src/tree/ratchet-tree.ts";

/*
 * Faults that an implementation of RFC 9420 may have, and some had, planted into the engine of a whole test group:
 * everybody in it commits and accepts commits with the fault. Each function returns the one that takes it out again.
 * The third fault, a Remove without a path, is planted by the test file itself, since it is a single exported function.
 */

/** A Remove or Update that leaves the parent nodes above the leaf as they are (against sections 12.1.2 and 12.1.3). */
export function leavePathUnblanked(): () => void {
  const prototype = RatchetTree.prototype as unknown as { blankDirectPath(leaf: LeafIndex): void };
  const original = prototype.blankDirectPath;
  prototype.blankDirectPath = () => {};
  return () => {
    prototype.blankDirectPath = original;
  };
}

/**
 * Path secrets are sealed to the resolutions of the tree before the proposals: to the removed leaf as well (against
 * section 7.5). Receivers do not count ciphertexts, or they would refuse the commit.
 */
export function sealToRemovedLeaves(): () => void {
  const enableRule = disableRule("update-path/ciphertext-count");
  const removed = new WeakMap<RatchetTree, Map<NodeIndex, Bytes>>();
  const { removeLeaf, resolution, encryptionKey } = RatchetTree.prototype;
  Object.assign(RatchetTree.prototype, {
    removeLeaf(this: RatchetTree, leaf: LeafIndex): void {
      const keys = removed.get(this) ?? new Map<NodeIndex, Bytes>();
      keys.set(leafToNode(leaf), encryptionKey.call(this, leafToNode(leaf))!);
      removed.set(this, keys);
      removeLeaf.call(this, leaf);
    },
    resolution(this: RatchetTree, node: NodeIndex): NodeIndex[] {
      const old = [...(removed.get(this)?.keys() ?? [])].filter((leaf) => covers(node, nodeToLeaf(leaf)));
      return [...resolution.call(this, node), ...old];
    },
    encryptionKey(this: RatchetTree, node: NodeIndex): Bytes | undefined {
      return encryptionKey.call(this, node) ?? removed.get(this)?.get(node);
    },
  });
  return () => {
    Object.assign(RatchetTree.prototype, { removeLeaf, resolution, encryptionKey });
    enableRule();
  };
}

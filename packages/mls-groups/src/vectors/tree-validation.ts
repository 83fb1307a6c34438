import { fromHex } from "@murmuration/base";
import { RatchetTree } from "../tree/ratchet-tree.ts";
import { validateTree } from "../tree/tree-validation.ts";
import { expectBytes, expectEqual, type MakeProvider, providerOf } from "./expect.ts";

/** A case of tree-validation.json. Binary values are hexadecimal. */
export interface TreeValidationVector {
  readonly cipher_suite: number;
  readonly tree: string;
  readonly group_id: string;
  /** By node index. */
  readonly resolutions: readonly (readonly number[])[];
  /** By node index. */
  readonly tree_hashes: readonly string[];
}

/** Verifies one case of tree-validation (RFC 9420 sections 4.1.1, 7.3, 7.8, 7.9.2). Throws VectorMismatch or RejectionError. */
export function runTreeValidation(vector: TreeValidationVector, makeProvider: MakeProvider): void {
  const tree = RatchetTree.decode(providerOf(vector, makeProvider), fromHex(vector.tree));
  expectBytes("tree", tree.encode(), vector.tree);
  expectEqual("number of nodes", tree.leafSlots * 2 - 1, vector.tree_hashes.length);
  for (const [node, hash] of vector.tree_hashes.entries()) {
    expectBytes("tree hash", tree.nodeHash(node), hash);
    expectEqual("resolution", tree.resolution(node).join(), vector.resolutions[node]?.join());
    expectEqual("resolution size", tree.resolutionSize(node), vector.resolutions[node]?.length);
  }
  validateTree(tree, { groupId: fromHex(vector.group_id), extensions: [] });
}

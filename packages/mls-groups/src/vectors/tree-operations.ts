import { decodeWhole, fromHex } from "@murmuration/base";
import { leafNodeBytes } from "../structs/leaf-node.ts";
import { readProposal } from "../structs/proposal.ts";
import { RatchetTree } from "../tree/ratchet-tree.ts";
import { expectBytes, expectTrue, type MakeProvider, providerOf } from "./expect.ts";

/** A case of tree-operations.json. Binary values are hexadecimal. */
export interface TreeOperationsVector {
  readonly cipher_suite: number;
  readonly tree_before: string;
  readonly proposal: string;
  readonly proposal_sender: number;
  readonly tree_hash_before: string;
  readonly tree_after: string;
  readonly tree_hash_after: string;
}

/** Verifies one case of tree-operations (RFC 9420 sections 12.1.1 to 12.1.3, 7.8). Throws VectorMismatch. */
export function runTreeOperations(vector: TreeOperationsVector, makeProvider: MakeProvider): void {
  const before = RatchetTree.decode(providerOf(vector, makeProvider), fromHex(vector.tree_before));
  expectBytes("tree_hash_before", before.treeHash(), vector.tree_hash_before);
  const after = before.fork();
  applyProposal(after, vector);
  expectBytes("tree_after", after.encode(), vector.tree_after);
  expectBytes("tree_hash_after", after.treeHash(), vector.tree_hash_after);
  expectBytes("tree_before, again", before.encode(), vector.tree_before);
  expectBytes("tree_hash_before, again", before.treeHash(), vector.tree_hash_before);
}

function applyProposal(tree: RatchetTree, vector: TreeOperationsVector): void {
  const proposal = decodeWhole(fromHex(vector.proposal), readProposal);
  if (proposal.kind === "add") tree.addLeaf(leafNodeBytes(proposal.keyPackage.leafNode));
  else if (proposal.kind === "update")
    tree.updateLeaf(vector.proposal_sender, leafNodeBytes(proposal.leafNode));
  else if (proposal.kind === "remove") tree.removeLeaf(proposal.removed);
  else expectTrue("proposal is an Add, Update or Remove", false);
}

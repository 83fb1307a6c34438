import { isLeafNode, left, nodeCount, parent, right, root, sibling, slotsFor } from "../tree/math.ts";
import { expectEqual } from "./expect.ts";

/** A case of tree-math.json; `null` where a node has no such relation. */
export interface TreeMathVector {
  readonly n_leaves: number;
  readonly n_nodes: number;
  readonly root: number;
  readonly left: readonly (number | null)[];
  readonly right: readonly (number | null)[];
  readonly parent: readonly (number | null)[];
  readonly sibling: readonly (number | null)[];
}

/** Verifies one case of tree-math (RFC 9420 appendix C). Throws VectorMismatch. */
export function runTreeMath(vector: TreeMathVector): void {
  const slots = slotsFor(vector.n_leaves);
  const top = root(slots);
  expectEqual("n_nodes", nodeCount(slots), vector.n_nodes);
  expectEqual("root", top, vector.root);
  for (let node = 0; node < vector.n_nodes; node++) {
    expectEqual("left", isLeafNode(node) ? null : left(node), vector.left[node]);
    expectEqual("right", isLeafNode(node) ? null : right(node), vector.right[node]);
    expectEqual("parent", node === top ? null : parent(node), vector.parent[node]);
    expectEqual("sibling", node === top ? null : sibling(node), vector.sibling[node]);
  }
}

import { encode, utf8 } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { capabilitiesFor, joinGroupExternally, nativeCrypto } from "../../src/index.ts";
import type { RuleId } from "../../src/rules.ts";
import { type LeafNodeContent, writeLeafNode } from "../../src/structs/leaf-node.ts";
import { encodeParentNode, unmergedLeavesOf, withUnmergedLeaves } from "../../src/tree/encoded-node.ts";
import { MAX_LEAF_SLOTS, nodeCount } from "../../src/tree/math.ts";
import { addAll, Client } from "../clients.ts";
import { outcome } from "./careless.ts";
import { mustRefuse, ruleTest } from "./rule-test.ts";
import {
  damaged,
  encodeNodes,
  groupInfoFor,
  groupInfoMessage,
  groupInfoOf,
  nodesOf,
  signedLeaf,
  type TreeNodes,
} from "./wrong-messages.ts";

const crypto = nativeCrypto(1);
const NEWCOMER = 5;
const names = ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi"];

/**
 * Eight members of whom each committed once; then Erin (leaf 4) removed 5 and 7 and added one again, without a path.
 *
 *              7 [5]
 *        3              11 [5]
 *     1     5      blank      blank
 *    0 1   2 3      4 5      6    blank
 */
function village(): Client {
  const clients = names.map((name) => new Client(name, crypto));
  const [alice, ...others] = clients as [Client, ...Client[]];
  alice.create("village");
  addAll(alice, others);
  const tell = (message: Uint8Array, from: Client) => {
    for (const client of clients)
      if (client !== from && client.group.status === "active") client.receive(message);
  };
  for (const client of clients) tell(client.commit().message, client);
  const erin = clients[4]!;
  const removes = [5, 7].map((removed) => ({ kind: "remove", removed }) as const);
  tell(erin.commit({ proposals: removes }).message, erin);
  const { keyPackage } = new Client("ivan", crypto).keyPackage();
  erin.commit({ proposals: [{ kind: "add", keyPackage }], path: "required" });
  return erin;
}

const erin = village();

/** Somebody tries to join by external commit with this tree, which Erin's signed GroupInfo stands for. */
function join(ratchetTree: Uint8Array<ArrayBuffer>, off: readonly RuleId[] = []): () => unknown {
  const groupInfo = groupInfoFor(erin, ratchetTree, off);
  const { identity } = new Client("mallory", crypto);
  return () => joinGroupExternally(crypto, { groupInfo, ratchetTree, identity });
}

/** The tree with some nodes changed must be refused by the rule. */
function mustRefuseTree(
  rule: RuleId,
  change: (nodes: TreeNodes) => void,
  off: readonly RuleId[] = [rule],
): void {
  const nodes = nodesOf(erin.group.tree);
  change(nodes);
  mustRefuse(rule, join(encodeNodes(nodes), off));
}

function setParent(
  nodes: TreeNodes,
  node: number,
  change: Partial<Record<"key" | "parentHash", Uint8Array>>,
) {
  const { tree } = erin.group;
  const bytes = encodeParentNode(
    change.key ?? tree.encryptionKey(node)!,
    change.parentHash ?? tree.parentHash(node)!,
    tree.unmergedLeaves(node),
  );
  nodes[node] = { type: 2, bytes };
}

function setUnmerged(nodes: TreeNodes, node: number, leaves: readonly number[]): void {
  nodes[node] = { type: 2, bytes: withUnmergedLeaves(erin.group.tree.nodeBytes(node)!, leaves) };
}

/** Replaces the newcomer's leaf: unmerged everywhere, so no parent hash depends on it. */
function setNewcomer(nodes: TreeNodes, change: Partial<LeafNodeContent>): void {
  const current = erin.group.tree.leaf(NEWCOMER)!;
  const keys = crypto.generateSignatureKeyPair();
  const leafNode = signedLeaf(crypto, keys, { ...current, signatureKey: keys.publicKey, ...change });
  nodes[NEWCOMER * 2] = { type: 1, bytes: encode(leafNode, writeLeafNode) };
}

describe("a tree that breaks a rule is refused by whoever joins", () => {
  test("the tree is as drawn above, and nothing is wrong with it", () => {
    const { tree } = erin.group;
    const blanks = Array.from({ length: 15 }, (_, node) => node).filter((node) => tree.isBlank(node));
    expect(blanks).toEqual([9, 13, 14]);
    expect([7, 11].map((node) => [...unmergedLeavesOf(tree.nodeBytes(node)!)])).toEqual([[5], [5]]);
    expect(outcome(join(tree.encode()))).toBe("accepted");
    const nodes = nodesOf(tree);
    setNewcomer(nodes, {});
    expect(outcome(join(encodeNodes(nodes)))).toBe("accepted");
  });

  ruleTest("ratchet-tree/last-node-not-blank", "a blank node at the end", (rule) =>
    mustRefuseTree(rule, (nodes) => nodes.push(undefined, undefined)),
  );

  ruleTest("ratchet-tree/node-type-by-position", "a leaf where a parent belongs", (rule) =>
    mustRefuseTree(rule, (nodes) => {
      const leaf = erin.group.tree.leaf(NEWCOMER)!;
      const encryptionKey = crypto.generateHpkeKeyPair().publicKey;
      nodes[9] = { type: 1, bytes: encode({ ...leaf, encryptionKey }, writeLeafNode) };
    }),
  );

  ruleTest("ratchet-tree/size-limit", "more nodes than a group of the supported size can have", (rule) => {
    const blanks = new Uint8Array(nodeCount(MAX_LEAF_SLOTS) + 1);
    const ratchetTree = encode(blanks, (writer, content) => writer.bytes(content));
    const groupInfo = groupInfoMessage(groupInfoOf(erin));
    const { identity } = new Client("mallory", crypto);
    mustRefuse(rule, () => joinGroupExternally(crypto, { groupInfo, ratchetTree, identity }));
  });

  ruleTest("ratchet-tree/encryption-key-valid", "a parent whose key is one byte short", (rule) =>
    mustRefuseTree(rule, (nodes) =>
      setParent(nodes, 3, { key: erin.group.tree.encryptionKey(3)!.subarray(1) }),
    ),
  );

  ruleTest("ratchet-tree/encryption-key-unique", "two parents with one key", (rule) =>
    mustRefuseTree(rule, (nodes) => setParent(nodes, 3, { key: erin.group.tree.encryptionKey(5)! })),
  );

  ruleTest("ratchet-tree/encryption-key-unique", "a parent with the key of a leaf", (rule) =>
    mustRefuseTree(rule, (nodes) => setParent(nodes, 1, { key: erin.group.tree.encryptionKey(8)! })),
  );

  ruleTest("ratchet-tree/unmerged-leaves-sorted", "one unmerged leaf twice", (rule) =>
    mustRefuseTree(rule, (nodes) => setUnmerged(nodes, 11, [5, 5])),
  );

  ruleTest("ratchet-tree/unmerged-leaf-is-descendant", "an unmerged leaf of another subtree", (rule) =>
    mustRefuseTree(rule, (nodes) => setUnmerged(nodes, 11, [0, 5])),
  );

  ruleTest("ratchet-tree/unmerged-leaf-not-blank", "an unmerged leaf that is blank", (rule) =>
    mustRefuseTree(rule, (nodes) => setUnmerged(nodes, 11, [5, 7])),
  );

  ruleTest(
    "ratchet-tree/unmerged-leaf-in-intermediate-nodes",
    "a leaf that is unmerged above and not below",
    (rule) => mustRefuseTree(rule, (nodes) => setUnmerged(nodes, 11, [])),
  );

  ruleTest("ratchet-tree/parent-hash", "a parent with another parent hash", (rule) =>
    mustRefuseTree(rule, (nodes) =>
      setParent(nodes, 3, { parentHash: damaged(erin.group.tree.parentHash(3)!) }),
    ),
  );

  ruleTest(
    "ratchet-tree/parent-hash",
    "an unmerged leaf swapped for one that knows the parent's key",
    (rule) =>
      mustRefuseTree(rule, (nodes) => {
        setUnmerged(nodes, 7, [6]);
        setUnmerged(nodes, 11, [6]);
      }),
  );

  ruleTest("ratchet-tree/parent-hash", "a leaf replaced below a parent whose key it never had", (rule) =>
    mustRefuseTree(rule, (nodes) => {
      const current = erin.group.tree.leaf(0)!;
      const keys = crypto.generateSignatureKeyPair();
      const position = { groupId: erin.group.groupId, leafIndex: 1 };
      const { publicKey: encryptionKey } = crypto.generateHpkeKeyPair();
      const content = { ...current, encryptionKey, signatureKey: keys.publicKey };
      nodes[2] = { type: 1, bytes: encode(signedLeaf(crypto, keys, content, position), writeLeafNode) };
    }),
  );
});

describe("a leaf that breaks a rule is refused by whoever joins, not only by who sees it added", () => {
  const x509 = { kind: "x509", certificates: [utf8("certificate")] } as const;

  ruleTest("leaf-node/signature", "a leaf that was signed with another key", (rule) =>
    mustRefuseTree(rule, (nodes) =>
      setNewcomer(nodes, { signatureKey: crypto.generateSignatureKeyPair().publicKey }),
    ),
  );

  ruleTest("leaf-node/credential-supported-by-members", "a credential type that others lack", (rule) =>
    mustRefuseTree(rule, (nodes) =>
      setNewcomer(nodes, { credential: x509, capabilities: capabilitiesFor(1, x509) }),
    ),
  );

  ruleTest("leaf-node/signature-key-unique", "two leaves with one signature key", (rule) =>
    mustRefuseTree(rule, (nodes) => setNewcomer(nodes, { signatureKey: erin.group.tree.signatureKey(0)! })),
  );

  ruleTest("leaf-node/encryption-key-unique", "two leaves with one encryption key", (rule) =>
    mustRefuseTree(rule, (nodes) => setNewcomer(nodes, { encryptionKey: erin.group.tree.encryptionKey(0)! })),
  );

  ruleTest("leaf-node/encryption-key-valid", "an encryption key that is one byte short", (rule) =>
    mustRefuseTree(rule, (nodes) => setNewcomer(nodes, { encryptionKey: new Uint8Array(31).fill(9) })),
  );
});

import { type Bytes, encode, RejectionError, Writer } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { encryptWithLabel } from "../../src/crypto/labeled.ts";
import { nativeCrypto } from "../../src/crypto/native.ts";
import type { RuleId } from "../../src/rules.ts";
import { requiredCapabilitiesExtension } from "../../src/structs/extension.ts";
import { hpkeCiphertextVector } from "../../src/structs/hpke-ciphertext.ts";
import type { LeafNode, LeafNodeContent } from "../../src/structs/leaf-node.ts";
import type { UpdatePath, UpdatePathNode } from "../../src/structs/update-path.ts";
import { encodeParentNode } from "../../src/tree/encoded-node.ts";
import { RatchetTree } from "../../src/tree/ratchet-tree.ts";
import { decryptUpdatePath, joinPrivateKeys, mergeUpdatePath } from "../../src/tree/tree-kem.ts";
import {
  type LeafNodeContext,
  validateGroupExtensions,
  validateLeafNode,
  validateLifetime,
  validateTree,
  validateTreeInBatches,
} from "../../src/tree/tree-validation.ts";
import { groupId, LargeTree } from "../large-tree.ts";
import { encodeLeaf, leafContent, plainCapabilities, signLeaf } from "../tree-kit.ts";

const crypto = nativeCrypto(1);
const context = { groupId, extensions: [] } as const;
const LOW_ORDER = new Uint8Array(32);

/** The refusal's code, or "accepted". */
function outcome(action: () => unknown): string {
  try {
    action();
    return "accepted";
  } catch (error) {
    if (error instanceof RejectionError) return error.code;
    throw error;
  }
}

const expectRefusal = (rule: RuleId, action: () => unknown): void =>
  expect(outcome(action)).toBe(`mls/${rule}`);

/** Eight members, all parents with keys. */
const group = new LargeTree(crypto, 8).warm();
const snapshot = group.tree.encodeSnapshot();
const freshTree = (): RatchetTree => RatchetTree.decodeSnapshot(crypto, snapshot).fork();

/** A signed LeafNode for an Add, changed before it is signed. */
function newLeaf(fields: Partial<LeafNodeContent> = {}): LeafNode {
  const signatureKey = crypto.generateSignatureKeyPair();
  const encryptionKey = crypto.generateHpkeKeyPair().publicKey;
  return signLeaf(crypto, signatureKey, leafContent(encryptionKey, signatureKey.publicKey, fields));
}

const forAdd: LeafNodeContext = { ...context, source: "key_package" };
const withCapabilities = (fields: Partial<LeafNodeContent["capabilities"]>) => ({
  capabilities: { ...plainCapabilities, ...fields },
});

describe("a LeafNode is refused (RFC 9420 section 7.3)", () => {
  test("nothing is refused in a LeafNode without fault", () => {
    expect(outcome(() => validateLeafNode(freshTree(), newLeaf(), forAdd))).toBe("accepted");
  });

  test("leaf-node/signature: a signature over other content", () => {
    const leafNode = { ...newLeaf(), encryptionKey: crypto.generateHpkeKeyPair().publicKey };
    expectRefusal("leaf-node/signature", () => validateLeafNode(freshTree(), leafNode, forAdd));
  });

  test("leaf-node/signature: an Update signed for another leaf", () => {
    const { signature } = group.members[2]!;
    const content = leafContent(crypto.generateHpkeKeyPair().publicKey, signature.publicKey, {
      source: { kind: "update" },
    });
    const leafNode = signLeaf(crypto, signature, content, { groupId, leafIndex: 3 });
    const elsewhere = { ...context, source: "update", leaf: 2 } as const;
    expectRefusal("leaf-node/signature", () => validateLeafNode(freshTree(), leafNode, elsewhere));
  });

  test("leaf-node/source: a LeafNode of a KeyPackage in an UpdatePath", () => {
    const asCommit = { ...context, source: "commit", leaf: 2 } as const;
    expectRefusal("leaf-node/source", () => validateLeafNode(freshTree(), newLeaf(), asCommit));
  });

  test("leaf-node/lifetime: expired, not yet valid, or longer than allowed", () => {
    const leafNode = newLeaf({
      source: { kind: "key_package", lifetime: { notBefore: 100n, notAfter: 200n } },
    });
    expect(outcome(() => validateLifetime(leafNode, 150n, 100n))).toBe("accepted");
    expectRefusal("leaf-node/lifetime", () => validateLifetime(leafNode, 201n));
    expectRefusal("leaf-node/lifetime", () => validateLifetime(leafNode, 99n));
    expectRefusal("leaf-node/lifetime", () => validateLifetime(leafNode, 150n, 99n));
  });

  test("leaf-node/protocol-version-supported: no mls10 among its versions", () => {
    const leafNode = newLeaf(withCapabilities({ versions: [2] }));
    expectRefusal("leaf-node/protocol-version-supported", () =>
      validateLeafNode(freshTree(), leafNode, forAdd),
    );
  });

  test("leaf-node/required-capabilities: a required extension, proposal or credential is not supported", () => {
    for (const required of [
      { extensionTypes: [0xf100], proposalTypes: [], credentialTypes: [] },
      { extensionTypes: [], proposalTypes: [0xf100], credentialTypes: [] },
      { extensionTypes: [], proposalTypes: [], credentialTypes: [2] },
    ]) {
      const extensions = [requiredCapabilitiesExtension(required)];
      const strict = { ...forAdd, extensions };
      expectRefusal("leaf-node/required-capabilities", () =>
        validateLeafNode(freshTree(), newLeaf(), strict),
      );
      expectRefusal("leaf-node/required-capabilities", () =>
        validateGroupExtensions(freshTree(), extensions),
      );
    }
  });

  test("leaf-node/group-extensions-supported: an extension of the GroupContext is not supported", () => {
    const extensions = [{ type: 0xf100, data: new Uint8Array(0) }];
    const rule = "leaf-node/group-extensions-supported";
    expectRefusal(rule, () => validateLeafNode(freshTree(), newLeaf(), { ...forAdd, extensions }));
    expectRefusal(rule, () => validateGroupExtensions(freshTree(), extensions));
  });

  test("leaf-node/own-credential-type-listed: its credential type is not among its capabilities", () => {
    const leafNode = newLeaf(withCapabilities({ credentials: [2] }));
    expectRefusal("leaf-node/own-credential-type-listed", () =>
      validateLeafNode(freshTree(), leafNode, forAdd),
    );
  });

  test("leaf-node/credential-supported-by-members: a credential type that a member does not support", () => {
    const credential = { kind: "unknown", type: 0xf001, content: new Uint8Array(0) } as const;
    const leafNode = newLeaf({ credential, ...withCapabilities({ credentials: [1, 0xf001] }) });
    const rule = "leaf-node/credential-supported-by-members";
    expectRefusal(rule, () => validateLeafNode(freshTree(), leafNode, forAdd));
    const joined = freshTree();
    joined.addLeaf(encodeLeaf(leafNode));
    expectRefusal(rule, () => validateTree(joined, context));
  });

  test("leaf-node/credentials-in-use-supported: it does not support a credential type that a member uses", () => {
    const both = withCapabilities({ credentials: [1, 0xf001] });
    const tree = RatchetTree.create(crypto, encodeLeaf(newLeaf(both)));
    const credential = { kind: "unknown", type: 0xf001, content: new Uint8Array(0) } as const;
    tree.addLeaf(encodeLeaf(newLeaf({ ...both, credential })));
    expect(outcome(() => validateLeafNode(tree, newLeaf(both), forAdd))).toBe("accepted");
    const rule = "leaf-node/credentials-in-use-supported";
    expectRefusal(rule, () => validateLeafNode(tree, newLeaf(), forAdd));
    // The one user of the type may replace its own leaf by one without it.
    const other = crypto.generateSignatureKeyPair();
    const content = leafContent(crypto.generateHpkeKeyPair().publicKey, other.publicKey, {
      source: { kind: "update" },
    });
    const leafNode = signLeaf(crypto, other, content, { groupId, leafIndex: 1 });
    const asUpdate = { ...context, source: "update", leaf: 1 } as const;
    expect(outcome(() => validateLeafNode(tree, leafNode, asUpdate))).toBe("accepted");
  });

  test("leaf-node/own-extensions-listed: it carries an extension that it does not support", () => {
    const leafNode = newLeaf({ extensions: [{ type: 0xf100, data: new Uint8Array(0) }] });
    expectRefusal("leaf-node/own-extensions-listed", () => validateLeafNode(freshTree(), leafNode, forAdd));
    const fine = newLeaf({ extensions: [{ type: 1, data: Uint8Array.of(0) }] });
    expect(outcome(() => validateLeafNode(freshTree(), fine, forAdd))).toBe("accepted");
  });

  test("leaf-node/extensions-distinct: two extensions of one type", () => {
    const twice = { type: 1, data: Uint8Array.of(0) };
    const leafNode = newLeaf({ extensions: [twice, twice] });
    expectRefusal("leaf-node/extensions-distinct", () => validateLeafNode(freshTree(), leafNode, forAdd));
  });

  test("leaf-node/encryption-key-valid: a point of small order", () => {
    const leafNode = newLeaf({ encryptionKey: LOW_ORDER });
    expectRefusal("leaf-node/encryption-key-valid", () => validateLeafNode(freshTree(), leafNode, forAdd));
  });

  test("leaf-node/encryption-key-unique: the key of another leaf or of a parent", () => {
    const rule = "leaf-node/encryption-key-unique";
    for (const node of [4, 3, 7]) {
      const leafNode = newLeaf({ encryptionKey: group.tree.encryptionKey(node)! });
      expectRefusal(rule, () => validateLeafNode(freshTree(), leafNode, forAdd));
      expectRefusal(rule, () => freshTree().addLeaf(encodeLeaf(leafNode)));
      expectRefusal(rule, () => freshTree().addLeaves([encodeLeaf(newLeaf()), encodeLeaf(leafNode)]));
      expectRefusal(rule, () => freshTree().updateLeaf(6, encodeLeaf(leafNode)));
    }
    const twin = { encryptionKey: crypto.generateHpkeKeyPair().publicKey };
    expectRefusal(rule, () => freshTree().addLeaves([encodeLeaf(newLeaf(twin)), encodeLeaf(newLeaf(twin))]));
  });

  test("leaf-node/encryption-key-unique: two leaves of a ratchet_tree with one key", () => {
    const twin = { encryptionKey: crypto.generateHpkeKeyPair().publicKey };
    const nodes = [encodeLeaf(newLeaf(twin)), null, encodeLeaf(newLeaf(twin))];
    expectRefusal("leaf-node/encryption-key-unique", () => RatchetTree.decode(crypto, ratchetTree(nodes)));
  });

  test("leaf-node/encryption-key-changed: an Update with the key it replaces", () => {
    const { signature } = group.members[2]!;
    const content = leafContent(group.tree.encryptionKey(4)!, signature.publicKey, {
      source: { kind: "update" },
    });
    const leafNode = signLeaf(crypto, signature, content, { groupId, leafIndex: 2 });
    const asUpdate = { ...context, source: "update", leaf: 2 } as const;
    expectRefusal("leaf-node/encryption-key-changed", () =>
      validateLeafNode(freshTree(), leafNode, asUpdate),
    );
  });

  test("leaf-node/signature-key-unique: the signature key of another member", () => {
    const rule = "leaf-node/signature-key-unique";
    const { signature } = group.members[5]!;
    const content = leafContent(crypto.generateHpkeKeyPair().publicKey, signature.publicKey);
    const leafNode = signLeaf(crypto, signature, content);
    expectRefusal(rule, () => validateLeafNode(freshTree(), leafNode, forAdd));
    expectRefusal(rule, () => freshTree().addLeaf(encodeLeaf(leafNode)));
    expectRefusal(rule, () => freshTree().updateLeaf(4, encodeLeaf(leafNode)));
    const nodes = [encodeLeaf(leafNode), null, encodeLeaf({ ...leafNode, encryptionKey: LOW_ORDER })];
    expectRefusal(rule, () => RatchetTree.decode(crypto, ratchetTree(nodes)));
  });
});

/** Encodes a ratchet_tree from the content of its nodes in array order; null for blank. */
function ratchetTree(nodes: readonly (Uint8Array | null)[]): Bytes {
  return encode(nodes, (writer, list) => {
    writer.nested((w) => {
      for (const [index, node] of list.entries()) {
        if (node === null) w.uint8(0);
        else
          w.uint8(1)
            .uint8(index % 2 === 0 ? 1 : 2)
            .fixed(node);
      }
    });
  });
}

const warmNodes = (): (Uint8Array | null)[] =>
  Array.from({ length: 15 }, (_, node) => group.tree.nodeBytes(node) ?? null);

/** A group of eight whose leaf 1 was added after the others had committed: it is unmerged above. */
function groupWithUnmerged(): { nodes: (Uint8Array | null)[]; tree: RatchetTree } {
  const other = new LargeTree(crypto, 8);
  other.tree.removeLeaf(1);
  for (const leaf of [2, 4, 6, 0]) other.adopt(other.createPath(leaf));
  const tree = other.tree.fork();
  expect(tree.addLeaf(encodeLeaf(newLeaf()))).toBe(1);
  return { tree, nodes: Array.from({ length: 15 }, (_, node) => tree.nodeBytes(node) ?? null) };
}

/** A parent with another list of unmerged leaves. */
function withUnmerged(tree: RatchetTree, node: number, leaves: readonly number[]): Bytes {
  return encodeParentNode(tree.encryptionKey(node)!, tree.parentHash(node)!, leaves);
}

const join = (nodes: readonly (Uint8Array | null)[]) =>
  validateTree(RatchetTree.decode(crypto, ratchetTree(nodes)), context);

describe("a ratchet tree is refused (RFC 9420 sections 12.4.3.1 and 12.4.3.3)", () => {
  test("nothing is refused in a warm tree, nor in one with unmerged leaves", async () => {
    expect(outcome(() => join(warmNodes()))).toBe("accepted");
    expect(outcome(() => join(groupWithUnmerged().nodes))).toBe("accepted");
    await validateTreeInBatches(freshTree(), context);
  });

  test("ratchet-tree/last-node-not-blank: blank nodes at the end, or no node at all", () => {
    const rule = "ratchet-tree/last-node-not-blank";
    expectRefusal(rule, () => RatchetTree.decode(crypto, ratchetTree([...warmNodes(), null])));
    expectRefusal(rule, () => RatchetTree.decode(crypto, ratchetTree([...warmNodes(), null, null])));
    expectRefusal(rule, () => RatchetTree.decode(crypto, ratchetTree([])));
    expectRefusal(rule, () => RatchetTree.decode(crypto, ratchetTree([null])));
  });

  test("ratchet-tree/node-type-by-position: a leaf in the place of a parent, a parent in the place of a leaf", () => {
    const rule = "ratchet-tree/node-type-by-position";
    const [leaf, other] = [newLeaf(), newLeaf()].map(encodeLeaf);
    const odd = new Writer().nested((w) => {
      for (const node of [leaf!, other!]) w.uint8(1).uint8(1).fixed(node);
    });
    expectRefusal(rule, () => RatchetTree.decode(crypto, odd.finish()));
    const parent = encodeParentNode(crypto.generateHpkeKeyPair().publicKey, new Uint8Array(0), []);
    const even = new Writer().nested((w) => w.uint8(1).uint8(2).fixed(parent));
    expectRefusal(rule, () => RatchetTree.decode(crypto, even.finish()));
  });

  test("ratchet-tree/size-limit: more leaf slots than the engine holds, of a few bytes", () => {
    const blanks = Array.from({ length: 1 << 19 }, () => null);
    const nodes = [...blanks, encodeLeaf(newLeaf())];
    expectRefusal("ratchet-tree/size-limit", () => RatchetTree.decode(crypto, ratchetTree(nodes)));
  });

  test("ratchet-tree/encryption-key-valid: a parent with a point of small order", () => {
    const nodes = warmNodes();
    nodes[3] = encodeParentNode(LOW_ORDER, group.tree.parentHash(3)!, []);
    expectRefusal("ratchet-tree/encryption-key-valid", () => join(nodes));
  });

  test("ratchet-tree/encryption-key-unique: the key of a parent is that of a leaf or of another parent", () => {
    for (const twin of [4, 1]) {
      const nodes = warmNodes();
      nodes[3] = encodeParentNode(group.tree.encryptionKey(twin)!, group.tree.parentHash(3)!, []);
      expectRefusal("ratchet-tree/encryption-key-unique", () =>
        RatchetTree.decode(crypto, ratchetTree(nodes)),
      );
    }
  });

  test("ratchet-tree/unmerged-leaves-sorted: out of order, or twice", () => {
    const { tree, nodes } = groupWithUnmerged();
    for (const leaves of [
      [2, 1],
      [1, 1],
    ]) {
      const changed = [...nodes];
      changed[3] = withUnmerged(tree, 3, leaves);
      changed[5] = withUnmerged(tree, 5, [2]);
      expectRefusal("ratchet-tree/unmerged-leaves-sorted", () => join(changed));
    }
  });

  test("ratchet-tree/unmerged-leaf-is-descendant: a leaf beside the subtree, or beside the tree", () => {
    const { tree, nodes } = groupWithUnmerged();
    for (const leaf of [4, 8, 0xffff_ffff]) {
      const changed = [...nodes];
      changed[3] = withUnmerged(tree, 3, [1, leaf]);
      expectRefusal("ratchet-tree/unmerged-leaf-is-descendant", () => join(changed));
    }
  });

  test("ratchet-tree/unmerged-leaf-not-blank: a blank leaf", () => {
    const { nodes } = groupWithUnmerged();
    const changed = [...nodes];
    changed[2] = null;
    expectRefusal("ratchet-tree/unmerged-leaf-not-blank", () => join(changed));
  });

  test("ratchet-tree/unmerged-leaf-in-intermediate-nodes: unmerged at the root and merged below", () => {
    const { tree, nodes } = groupWithUnmerged();
    expect(Array.from(tree.unmergedLeaves(7))).toEqual([1]);
    expect(Array.from(tree.unmergedLeaves(3))).toEqual([1]);
    const changed = [...nodes];
    changed[3] = withUnmerged(tree, 3, []);
    expectRefusal("ratchet-tree/unmerged-leaf-in-intermediate-nodes", () => join(changed));
  });

  test("ratchet-tree/parent-hash: a parent whose key no member has set", () => {
    for (const node of [1, 3, 7, 13]) {
      const nodes = warmNodes();
      const { publicKey } = crypto.generateHpkeKeyPair();
      nodes[node] = encodeParentNode(publicKey, group.tree.parentHash(node)!, []);
      expectRefusal("ratchet-tree/parent-hash", () => join(nodes));
    }
  });

  test("ratchet-tree/parent-hash: an unmerged leaf swapped for another", () => {
    const { tree, nodes } = groupWithUnmerged();
    for (const leaf of [0, 2]) {
      const changed = [...nodes];
      changed[3] = withUnmerged(tree, 3, [leaf]);
      changed[7] = withUnmerged(tree, 7, [leaf]);
      expect(outcome(() => join(changed))).toMatch(/^mls\/ratchet-tree\/(parent-hash|unmerged-leaf-in)/);
    }
    const dropped = [...nodes];
    dropped[3] = withUnmerged(tree, 3, []);
    dropped[7] = withUnmerged(tree, 7, []);
    expectRefusal("ratchet-tree/parent-hash", () => join(dropped));
  });

  test("leaf-node/signature: one forged leaf among others, alone and in batches", async () => {
    const nodes = warmNodes();
    const forged = Uint8Array.from(nodes[6]!);
    forged[forged.length - 1]! ^= 1;
    nodes[6] = forged;
    // The parent hashes cover leaves through tree hashes: an outsider's leaf 3 is never on their way.
    const tree = RatchetTree.create(crypto, encodeLeaf(newLeaf()));
    const bad = encodeLeaf({ ...newLeaf(), signature: new Uint8Array(64) });
    tree.addLeaf(bad);
    expectRefusal("leaf-node/signature", () => validateTree(tree, context));
    await expect(validateTreeInBatches(tree, context)).rejects.toMatchObject({
      code: "mls/leaf-node/signature",
    });
    expect(outcome(() => join(nodes))).not.toBe("accepted");
  });

  test("ratchet-tree/leaf-not-blank: an Update or a Remove of a blank leaf", () => {
    const rule = "ratchet-tree/leaf-not-blank";
    const tree = freshTree();
    tree.removeLeaf(3);
    expectRefusal(rule, () => tree.removeLeaf(3));
    expectRefusal(rule, () => tree.updateLeaf(3, encodeLeaf(newLeaf())));
    expectRefusal(rule, () => tree.removeLeaf(800));
  });
});

const SENDER = 3;
const created = group.createPath(SENDER);

/** Validates and merges a changed path into a fresh fork. */
function receive(change: (path: UpdatePath) => UpdatePath): RatchetTree {
  const tree = freshTree();
  mergeUpdatePath(tree, { sender: SENDER, updatePath: change(created.updatePath), addedLeaves: [] });
  return tree;
}

function changeNode(index: number, change: (node: UpdatePathNode) => Partial<UpdatePathNode>) {
  return (path: UpdatePath): UpdatePath => ({
    ...path,
    nodes: path.nodes.map((node, i) => (i === index ? { ...node, ...change(node) } : node)),
  });
}

/** The path with another leaf, signed by the sender. */
function resigned(path: UpdatePath, fields: Partial<LeafNodeContent>): UpdatePath {
  const { signature } = group.members[SENDER]!;
  const { signature: _, ...content } = { ...path.leafNode, ...fields };
  return { ...path, leafNode: signLeaf(crypto, signature, content, { groupId, leafIndex: SENDER }) };
}

describe("an UpdatePath is refused (RFC 9420 sections 7.5, 7.6, 12.4.2)", () => {
  test("nothing is refused in an UpdatePath without fault", () => {
    expect(outcome(() => receive((path) => path))).toBe("accepted");
  });

  test("update-path/length: one node more or less than the filtered direct path", () => {
    expectRefusal("update-path/length", () => receive((path) => ({ ...path, nodes: path.nodes.slice(1) })));
    expectRefusal("update-path/length", () =>
      receive((path) => ({ ...path, nodes: [...path.nodes, path.nodes[0]!] })),
    );
  });

  test("update-path/ciphertext-count: one ciphertext more or less than the resolution", () => {
    for (const count of [0, 2]) {
      const change = changeNode(1, ({ encryptedPathSecret }) => ({
        encryptedPathSecret: hpkeCiphertextVector(
          Array.from({ length: count }, () => encryptedPathSecret.at(0)),
        ),
      }));
      expectRefusal("update-path/ciphertext-count", () => receive(change));
    }
  });

  test("update-path/encryption-key-valid: a node with a point of small order", () => {
    const change = changeNode(1, () => ({ encryptionKey: LOW_ORDER }));
    expectRefusal("update-path/encryption-key-valid", () => receive(change));
  });

  test("update-path/encryption-keys-new: the key of a leaf, of a parent, of the node it replaces", () => {
    for (const node of [0, 13, 3]) {
      const change = changeNode(1, () => ({ encryptionKey: group.tree.encryptionKey(node)! }));
      expectRefusal("update-path/encryption-keys-new", () => receive(change));
    }
    const encryptionKey = group.tree.encryptionKey(1)!;
    expectRefusal("update-path/encryption-keys-new", () =>
      receive((path) => resigned(path, { encryptionKey })),
    );
  });

  test("update-path/encryption-keys-distinct: one key at two nodes, or at a node and the leaf", () => {
    const rule = "update-path/encryption-keys-distinct";
    const first = created.updatePath.nodes[0]!.encryptionKey;
    expectRefusal(rule, () => receive(changeNode(1, () => ({ encryptionKey: first }))));
    expectRefusal(rule, () => receive((path) => resigned(path, { encryptionKey: first })));
  });

  test("update-path/leaf-encryption-key-changed: the key of the committer's old leaf", () => {
    const encryptionKey = group.tree.encryptionKey(SENDER * 2)!;
    expectRefusal("update-path/leaf-encryption-key-changed", () =>
      receive((path) => resigned(path, { encryptionKey })),
    );
  });

  test("update-path/parent-hash: a leaf with another parent hash, or a node with another key", () => {
    const parentHash = new Uint8Array(32);
    const source = { kind: "commit", parentHash } as const;
    expectRefusal("update-path/parent-hash", () => receive((path) => resigned(path, { source })));
    const { publicKey } = crypto.generateHpkeKeyPair();
    expectRefusal("update-path/parent-hash", () =>
      receive(changeNode(2, () => ({ encryptionKey: publicKey }))),
    );
  });

  test("update-path/key-matches-path-secret: a ciphertext that holds another path secret", () => {
    const receiver = 0;
    const tree = receive((path) => path);
    const groupContext = group.groupContext(tree.treeHash());
    const secret = crypto.random(32);
    const recipient = tree.encryptionKey(1)!;
    const other = encryptWithLabel(crypto, recipient, "UpdatePathNode", groupContext, secret);
    const updatePath = changeNode(1, () => ({ encryptedPathSecret: hpkeCiphertextVector([other]) }))(
      created.updatePath,
    );
    expectRefusal("update-path/key-matches-path-secret", () =>
      decryptUpdatePath(tree, {
        sender: SENDER,
        updatePath,
        addedLeaves: [],
        receiver,
        privateKeys: group.privateKeysOf(receiver),
        groupContext,
      }),
    );
  });

  test("a ciphertext that was damaged, or sealed for another GroupContext, does not decrypt", () => {
    const path = {
      sender: SENDER,
      updatePath: created.updatePath,
      addedLeaves: [],
      receiver: 6,
      privateKeys: group.privateKeysOf(6),
    };
    const tree = receive((same) => same);
    const groupContext = group.groupContext(new Uint8Array(32));
    expect(outcome(() => decryptUpdatePath(tree, { ...path, groupContext }))).toBe("mls/decryption-failed");
  });
});

describe("a path secret of a Welcome is refused (RFC 9420 section 12.4.3.1)", () => {
  const leafPrivateKey = crypto.random(32);

  test("welcome/path-secret-node-not-blank: the common ancestor with the signer is blank", () => {
    const tree = freshTree();
    tree.updateLeaf(2, encodeLeaf(newLeaf()));
    const joiner = { leaf: 1, leafPrivateKey, signer: SENDER, pathSecret: crypto.random(32) };
    expectRefusal("welcome/path-secret-node-not-blank", () => joinPrivateKeys(tree, joiner));
  });

  test("welcome/path-secret-matches-key: its key is not the one in the tree", () => {
    const tree = receive((path) => path);
    const [, step] = created.path.pathSecrets;
    const joiner = { leaf: 1, leafPrivateKey, signer: SENDER };
    expect(joinPrivateKeys(tree, { ...joiner, pathSecret: step!.pathSecret }).size).toBe(3);
    expectRefusal("welcome/path-secret-matches-key", () =>
      joinPrivateKeys(tree, { ...joiner, pathSecret: crypto.random(32) }),
    );
  });
});

import { type Bytes, toHex } from "@murmuration/base";
import { beforeAll, describe, expect, test } from "vitest";
import { counting } from "../../src/crypto/counting.ts";
import { nativeCrypto } from "../../src/crypto/native.ts";
import type { CryptoProvider } from "../../src/crypto/provider.ts";
import { parentHashOf, verifyParentHashes } from "../../src/tree/parent-hash.ts";
import { type PathNode, RatchetTree } from "../../src/tree/ratchet-tree.ts";
import { validateTree, validateUnmergedLeaves } from "../../src/tree/tree-validation.ts";
import { seededRandom } from "../seeded.ts";
import { encodeLeaf, leafContent, seededNumbers } from "../tree-kit.ts";

/*
 * What the tree costs at 1,000 and at 16,000 members, counted. Keys and signatures are random bytes here: the
 * tree never looks into them, and making 16,000 real ones would take longer than the test.
 */

const numbers = seededNumbers(9420);
const random = (length: number): Bytes => Uint8Array.from({ length }, () => numbers(256));

function leafBytes(parentHash?: Uint8Array, signatureKey: Uint8Array = random(32)): Bytes {
  const fields = parentHash === undefined ? {} : { source: { kind: "commit", parentHash } as const };
  return encodeLeaf({ ...leafContent(random(32), signatureKey, fields), signature: random(64) });
}

/** Merges a path with random keys and true parent hashes. */
function commitPath(tree: RatchetTree, leaf: number): void {
  let parentHash: Bytes = new Uint8Array(0);
  const nodes: PathNode[] = [];
  for (const { node, copathNode } of tree.filteredDirectPath(leaf).reverse()) {
    const encryptionKey = random(32);
    nodes.unshift({ node, encryptionKey, parentHash });
    parentHash = parentHashOf(tree.crypto, encryptionKey, parentHash, tree.nodeHash(copathNode));
  }
  tree.mergePath(leaf, leafBytes(parentHash, tree.signatureKey(leaf)), nodes);
}

describe.each([
  { members: 1000, height: 10 },
  { members: 16_000, height: 14 },
])("a tree of $members members, height $height", ({ members, height }) => {
  const { provider, counts, reset } = counting(nativeCrypto(1, { random: seededRandom("growth") }));
  const slots = 2 ** height;
  let warm: RatchetTree;

  const hashes = (action: () => void): number => {
    reset();
    action();
    return counts.hash;
  };

  beforeAll(() => {
    warm = RatchetTree.create(provider, leafBytes());
    warm.addLeaves(Array.from({ length: members - 1 }, () => leafBytes()));
    for (let leaf = 0; leaf < members; leaf += 2) commitPath(warm, leaf);
    warm.treeHash();
  });

  test("adding everybody hashes nothing until the tree hash is asked for, then each node once", () => {
    const tree = RatchetTree.create(provider, leafBytes());
    const leaves = Array.from({ length: members - 1 }, () => leafBytes());
    expect(hashes(() => tree.addLeaves(leaves))).toBe(0);
    expect(hashes(() => tree.treeHash())).toBe(2 * slots - 1);
    expect(hashes(() => tree.treeHash())).toBe(0);
  });

  test("a path commit hashes its direct path once, and two leaves", () => {
    const tree = warm.fork();
    const leaf = Math.floor(members / 3);
    // Parent hashes: one for each node of the path, and the sibling's leaf hash.
    expect(hashes(() => commitPath(tree, leaf))).toBe(height + 1);
    expect(hashes(() => tree.treeHash())).toBe(height + 2);
  });

  test("a Remove and an Add hash two direct paths at most", () => {
    const tree = warm.fork();
    const count = hashes(() => {
      tree.removeLeaf(members - 300);
      tree.addLeaf(leafBytes());
      tree.treeHash();
    });
    expect(count).toBe(height + 2);
  });

  test("a retained epoch keeps a few notes for each level, a stored delta a few kilobytes", () => {
    const before = warm.fork();
    const tree = before.fork();
    tree.removeLeaf(40);
    commitPath(tree, 41);
    tree.treeHash();
    expect(before.notes).toBeLessThanOrEqual(4 * height + 4);
    expect(tree.encodeDelta().length).toBeLessThan(80 * height + 400);
    expect(hashes(() => before.treeHash())).toBe(0);
  });

  test("a joiner of a warm tree hashes each node once, and each parent once or twice for its parent hash", () => {
    const tree = RatchetTree.decode(provider, warm.encode());
    expect(hashes(() => tree.treeHash())).toBe(2 * slots - 1);
    const count = hashes(() => verifyParentHashes(tree.shown()));
    // The last committer below a parent sat in its right subtree, but for the lowest: there leaf by leaf the left one
    // committed. A link on the left takes one hash, one on the right two. Hashes of leaves are those of the tree hash.
    const parents = members - 1;
    const lowest = members / 2;
    expect(count).toBe(lowest + 2 * (parents - lowest));
  });

  test("hashes of leaves are kept for the joiner alone: they are gone when the tree was validated or changed", () => {
    const hashLeaf = (tree: RatchetTree): number => hashes(() => tree.nodeHash(0));
    const accepting: CryptoProvider = { ...provider, verify: () => true };
    const validated = RatchetTree.decode(accepting, warm.encode());
    validated.treeHash();
    expect(hashLeaf(validated)).toBe(0);
    validateTree(validated, { groupId: new Uint8Array(0), extensions: [] });
    expect(hashLeaf(validated)).toBe(1);

    const changed = RatchetTree.decode(provider, warm.encode());
    changed.treeHash();
    const fork = changed.fork();
    fork.updateLeaf(0, leafBytes());
    expect(fork.nodeHash(0)).not.toEqual(warm.nodeHash(0));
    expect(changed.nodeHash(0)).toEqual(warm.nodeHash(0));
  });

  test("a joiner verifies each signature once, over the bytes of its leaf", () => {
    const verified = new Set<string>();
    const accepting: CryptoProvider = {
      ...provider,
      verify: (publicKey, data, signature) =>
        verified.add(toHex(publicKey) + data.length + signature[0]).size > 0,
    };
    const tree = RatchetTree.decode(accepting, warm.encode());
    validateTree(tree, { groupId: new Uint8Array(0), extensions: [] });
    expect(verified.size).toBe(members);
  });

  test("a snapshot restores the tree without a hash", () => {
    const snapshot = warm.encodeSnapshot();
    let restored!: RatchetTree;
    const count = hashes(() => {
      restored = RatchetTree.decodeSnapshot(provider, snapshot);
      restored.treeHash();
    });
    expect(count).toBe(0);
    expect(restored.treeHash()).toEqual(warm.treeHash());
    expect(restored.encode()).toEqual(warm.encode());
  });

  test("a joiner of a tree that is unmerged at every level still hashes O(N)", { timeout: 120_000 }, () => {
    // Every second leaf leaves, the others commit, and newcomers take the free leaves: each is unmerged at
    // every parent above it, N/2 log N entries in all.
    const tree = warm.fork();
    for (let leaf = 1; leaf < members - 1; leaf += 2) tree.removeLeaf(leaf);
    for (let leaf = 0; leaf < members; leaf += 2) commitPath(tree, leaf);
    const blanks = members - tree.memberCount;
    tree.addLeaves(Array.from({ length: blanks }, () => leafBytes()));
    expect(tree.unmergedLeaves(slots - 1).length).toBe(blanks);
    const joined = RatchetTree.decode(provider, tree.encode());
    joined.treeHash();
    const count = hashes(() => {
      validateUnmergedLeaves(joined.shown());
      verifyParentHashes(joined.shown());
    });
    expect(count).toBeLessThan(4 * members);
  });
});

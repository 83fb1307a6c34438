import { type Bytes, encode, equalBytes, toHex, utf8 } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { nativeCrypto } from "../../src/crypto/native.ts";
import { advanceTree } from "../../src/group/look-ups.ts";
import { type Credential, writeCredential } from "../../src/structs/credential.ts";
import type { LeafNodeSource } from "../../src/structs/leaf-node.ts";
import { verifyParentHashes } from "../../src/tree/parent-hash.ts";
import { RatchetTree } from "../../src/tree/ratchet-tree.ts";
import { validateUnmergedLeaves } from "../../src/tree/tree-validation.ts";
import { seededRandom } from "../seeded.ts";
import { encodeLeaf, leafContent, seededNumbers } from "../tree-kit.ts";
import { decodeLeaf, inOrder, NaiveTree, resolution, treeHash } from "./naive-tree.ts";

const OPERATIONS = Number(process.env["OPERATIONS"] ?? (process.env["SLOW"] === "1" ? 100_000 : 10_000));
const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000_007);

/** One epoch: the engine's tree, its delta's result, and what the reference says. */
interface Epoch {
  readonly tree: RatchetTree;
  readonly naive: NaiveTree;
}

class Walk {
  readonly pick: (below: number) => number;
  readonly random: (length: number) => Bytes;
  readonly crypto = nativeCrypto(1);
  readonly maximum: number;
  epochs: Epoch[] = [];

  constructor(seedText: string, maximum: number) {
    this.random = seededRandom(seedText);
    const word = this.random(4);
    this.pick = seededNumbers(new DataView(word.buffer).getUint32(0));
    this.maximum = maximum;
    const leaf = this.leaf({ kind: "update" });
    const naive = new NaiveTree();
    naive.add(leaf);
    this.epochs.push({ tree: RatchetTree.create(this.crypto, leaf), naive });
  }

  credential(): Credential {
    if (this.pick(6) === 0) return { kind: "unknown", type: 0xf001, content: this.random(this.pick(70)) };
    return { kind: "basic", identity: utf8(`member ${this.pick(5)}`) };
  }

  leaf(source: LeafNodeSource, signatureKey: Uint8Array = this.random(32)): Bytes {
    const some = (types: readonly number[]) => types.filter(() => this.pick(3) > 0);
    const capabilities = {
      versions: [1],
      cipherSuites: [1],
      extensions: some([10, 11, 11, 0x0a0a]),
      proposals: some([10, 20]),
      credentials: some([1, 0xf001]),
    };
    const content = leafContent(this.random(32), signatureKey, {
      credential: this.credential(),
      capabilities,
      source,
    });
    return encodeLeaf({ ...content, signature: this.random(64) });
  }

  member(naive: NaiveTree): number {
    const { members } = naive;
    return members[this.pick(members.length)]!;
  }

  /** One random operation on both trees of an epoch that may still change. */
  mutate({ tree, naive }: Epoch): void {
    const kind = this.pick(10);
    const { members } = naive;
    if (kind < 3 && members.length < this.maximum) {
      const leaves = Array.from({ length: 1 + this.pick(4) }, () =>
        this.leaf({ kind: "key_package", lifetime: { notBefore: 0n, notAfter: 1n } }),
      );
      const expected = leaves.map((leaf) => naive.add(leaf));
      expect(this.pick(2) === 0 ? tree.addLeaves(leaves) : leaves.map((leaf) => tree.addLeaf(leaf))).toEqual(
        expected,
      );
    } else if (kind < 5 && members.length > 1) {
      for (let count = 1 + this.pick(3); count > 0 && naive.members.length > 1; count--) {
        const leaf = this.pick(3) === 0 ? naive.members.at(-1)! : this.member(naive);
        naive.remove(leaf);
        tree.removeLeaf(leaf);
      }
    } else if (kind < 6) {
      const leaf = this.member(naive);
      const node = this.leaf({ kind: "update" });
      naive.update(leaf, node);
      tree.updateLeaf(leaf, node);
    } else this.commitPath(tree, naive, this.member(naive));
  }

  private commitPath(tree: RatchetTree, naive: NaiveTree, leaf: number): void {
    const steps = tree.filteredDirectPath(leaf);
    const keys = steps.map(() => this.random(32));
    const own = decodeLeaf(naive.leaves[leaf]!.node!).signatureKey;
    const hashes = naive.mergePath(leaf, keys, (parentHash) =>
      this.leaf({ kind: "commit", parentHash }, own),
    );
    const nodes = steps.map(({ node }, i) => ({
      node,
      encryptionKey: keys[i]!,
      parentHash: hashes[i]!,
    }));
    tree.mergePath(leaf, naive.leaves[leaf]!.node!, nodes);
  }
}

function expectSame(tree: RatchetTree, naive: NaiveTree): void {
  expect(toHex(tree.encode())).toBe(toHex(naive.encode()));
  const nodes = inOrder(naive.root);
  expect(tree.leafSlots * 2 - 1).toBe(nodes.length);
  expect(tree.memberCount).toBe(naive.members.length);
  expect([...tree.members()]).toEqual(naive.members);
  const indexes = new Map(nodes.map((node, index) => [node, index]));
  for (const [index, node] of nodes.entries()) {
    const expected = resolution(node).map((other) => indexes.get(other)!);
    if (tree.resolutionSize(index) !== expected.length)
      expect(tree.resolutionSize(index)).toBe(expected.length);
    // Thousands of times: the matcher is asked only where something differs.
    const actual = tree.resolution(index);
    if (actual.join() !== expected.join()) expect(actual).toEqual(expected);
    if (node.node === null) continue;
    const key = node.kind === "leaf" ? decodeLeaf(node.node).encryptionKey : node.node.encryptionKey;
    if (tree.nodeByEncryptionKey(key) !== index) expect(tree.nodeByEncryptionKey(key)).toBe(index);
  }
}

function expectSameHashes(tree: RatchetTree, naive: NaiveTree): void {
  const differing = inOrder(naive.root).flatMap((node, index) =>
    equalBytes(tree.nodeHash(index), treeHash(node)) ? [] : [index],
  );
  expect(differing).toEqual([]);
}

function expectSameLeaves(tree: RatchetTree, naive: NaiveTree): void {
  const { leaves } = naive;
  for (const leaf of naive.members) {
    const bytes = leaves[leaf]!.node!;
    const { signatureKey, credential } = decodeLeaf(bytes);
    expect(tree.leafBySignatureKey(signatureKey)).toBe(leaf);
    const encoded = encode(credential, writeCredential);
    expect(tree.leavesByCredential(encoded).toSorted((a, b) => a - b)).toEqual(
      naive.leavesByCredential(encoded),
    );
    const path = naive.filteredDirectPath(leaf);
    expect(tree.filteredDirectPath(leaf).length).toBe(path.length);
    expect(tree.pathCost(leaf)).toBe(path.reduce((sum, { copath }) => sum + resolution(copath).length, 0));
  }
  for (const type of [10, 11, 20, 0x0a0a, 0xf001, 1]) {
    expect(tree.lackingExtension(type)).toBe(type === 1 ? 0 : naive.lacking("extensions", type));
    expect(tree.lackingProposal(type)).toBe(type === 1 ? 0 : naive.lacking("proposals", type));
    expect(tree.lackingCredential(type)).toBe(naive.lacking("credentials", type));
  }
  expect(tree.credentialsInUse()).toEqual(naive.credentialsInUse());
}

function expectValid(tree: RatchetTree, naive: NaiveTree): void {
  expect(naive.parentHashesAreValid()).toBe(true);
  validateUnmergedLeaves(tree.shown());
  verifyParentHashes(tree.shown());
}

describe(`the tree equals the naive reference, seed ${seed} (replay with SEED=${seed})`, () => {
  test.each([
    [4, 0.45],
    [12, 0.4],
    [40, 0.15],
  ])(
    "after every one of many random operations on forks and retained epochs, up to %i members",
    { timeout: 600_000 },
    (maximum, share) => {
      const walk = new Walk(`${seed}/${maximum}`, maximum);
      const operations = Math.ceil(OPERATIONS * share);
      for (let i = 0; i < operations; i++) {
        // Mostly the newest epoch goes on; now and then an older one does, and what came after is abandoned.
        const from = walk.pick(8) === 0 ? walk.pick(walk.epochs.length) : walk.epochs.length - 1;
        const base = walk.epochs[from]!;
        const epoch = { tree: base.tree.fork(), naive: NaiveTree.copyOf(base.naive) };
        for (let count = 1 + walk.pick(3); count > 0; count--) walk.mutate(epoch);
        if (walk.pick(2) === 0) epoch.tree.treeHash();
        if (walk.pick(4) === 0) expectSame(base.tree, base.naive);
        expectSame(epoch.tree, epoch.naive);
        expectSameLeaves(epoch.tree, epoch.naive);
        if (i % 4 === 0) expectSameHashes(epoch.tree, epoch.naive);
        if (i % 8 === 0) expectValid(epoch.tree, epoch.naive);
        if (i % 16 === 0) expectRestored(walk, base, epoch);
        walk.epochs = [...walk.epochs.slice(-5), epoch];
        if (i % 10 === 0) {
          const retained = walk.epochs[walk.pick(walk.epochs.length)]!;
          for (const leaf of retained.naive.members) {
            expect(retained.tree.leafBytes(leaf)).toEqual(retained.naive.leaves[leaf]!.node);
          }
          expectSameHashes(retained.tree, retained.naive);
        }
      }
    },
  );
});

/** Snapshot, delta and ratchet_tree each lead to the same tree. */
function expectRestored(walk: Walk, base: Epoch, { tree, naive }: Epoch): void {
  const advanced = advanceTree(walk.crypto, base.tree.encode(), [tree.encodeDelta()]);
  expect(advanced.ratchetTree).toEqual(tree.encode());
  expect(advanced.treeHash).toEqual(tree.treeHash());
  const replayed = RatchetTree.decodeSnapshot(walk.crypto, base.tree.encodeSnapshot()).fork();
  replayed.applyDelta(tree.encodeDelta());
  for (const other of [
    replayed,
    RatchetTree.decode(walk.crypto, tree.encode()),
    RatchetTree.decodeSnapshot(walk.crypto, tree.encodeSnapshot()),
  ]) {
    expectSame(other, naive);
    expectSameLeaves(other, naive);
    expectSameHashes(other, naive);
    const next = { tree: other.fork(), naive: NaiveTree.copyOf(naive) };
    walk.mutate(next);
    expectSame(next.tree, next.naive);
    expectSameHashes(next.tree, next.naive);
  }
}

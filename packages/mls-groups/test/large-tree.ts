import { type Bytes, decodeWhole, encode, utf8 } from "@murmuration/base";
import type { CryptoProvider, SignatureKeyPair } from "../src/crypto/provider.ts";
import { groupContextBytes } from "../src/structs/group-context.ts";
import { readUpdatePath, type UpdatePath, writeUpdatePath } from "../src/structs/update-path.ts";
import { ancestorAt, leafToNode } from "../src/tree/math.ts";
import { RatchetTree } from "../src/tree/ratchet-tree.ts";
import {
  type CreatedUpdatePath,
  createUpdatePath,
  decryptUpdatePath,
  mergeUpdatePath,
  type PrivateKeys,
} from "../src/tree/tree-kem.ts";
import { validateLeafNode } from "../src/tree/tree-validation.ts";
import { encodeLeaf, leafContent, signLeaf } from "./tree-kit.ts";

export const groupId = utf8("a group");

interface TestMember {
  readonly signature: SignatureKeyPair;
  readonly encodedLeaf: Bytes;
}

/** A tree whose every private key the test knows. */
export class LargeTree {
  tree: RatchetTree;
  readonly crypto: CryptoProvider;
  readonly members: TestMember[] = [];
  /** Private key of every node that has one, by node. */
  readonly nodeKeys = new Map<number, Bytes>();

  constructor(crypto: CryptoProvider, count: number) {
    this.crypto = crypto;
    const first = this.newMember(0);
    this.tree = RatchetTree.create(crypto, first.encodedLeaf);
    this.add(count - 1);
  }

  newMember(number: number): TestMember & { readonly encryptionPrivateKey: Bytes } {
    const signature = this.crypto.generateSignatureKeyPair();
    const encryption = this.crypto.generateHpkeKeyPair();
    const credential = { kind: "basic", identity: utf8(`member number ${number}`) } as const;
    const content = leafContent(encryption.publicKey, signature.publicKey, { credential });
    const encodedLeaf = encodeLeaf(signLeaf(this.crypto, signature, content));
    const member = { signature, encodedLeaf, encryptionPrivateKey: encryption.privateKey };
    if (number === 0) this.enrol(0, member);
    return member;
  }

  private enrol(leaf: number, member: TestMember & { readonly encryptionPrivateKey: Bytes }): void {
    this.members[leaf] = member;
    this.nodeKeys.set(leafToNode(leaf), member.encryptionPrivateKey);
  }

  /** Adds members to the current tree, in place. */
  add(count: number): number[] {
    const start = this.members.length;
    const added = Array.from({ length: count }, (_, i) => this.newMember(start + i));
    const leaves = this.tree.addLeaves(added.map(({ encodedLeaf }) => encodedLeaf));
    for (const [i, leaf] of leaves.entries()) this.enrol(leaf, added[i]!);
    return leaves;
  }

  groupContext(treeHash: Uint8Array): Uint8Array {
    return groupContextBytes({
      cipherSuite: this.crypto.suite.id,
      groupId,
      epoch: 1n,
      treeHash,
      confirmedTranscriptHash: new Uint8Array(32),
      extensions: [],
    });
  }

  /** A path commit on a fork. Nothing is sealed to `addedLeaves`. */
  createPath(
    sender: number,
    addedLeaves: readonly number[] = [],
  ): { readonly tree: RatchetTree; readonly path: CreatedUpdatePath; readonly updatePath: UpdatePath } {
    const tree = this.tree.fork();
    const path = createUpdatePath(tree, {
      sender,
      groupId,
      leaf: tree.leaf(sender)!,
      signaturePrivateKey: this.members[sender]!.signature.privateKey,
      groupContext: (treeHash) => this.groupContext(treeHash),
      addedLeaves,
    });
    return { tree, path, updatePath: decodeWhole(encode(path.updatePath, writeUpdatePath), readUpdatePath) };
  }

  adopt({ tree, path }: { readonly tree: RatchetTree; readonly path: CreatedUpdatePath }): void {
    this.tree = tree;
    for (const [node, key] of path.privateKeys) this.nodeKeys.set(node, key);
  }

  /** Each second member commits, so that no parent stays blank that could have a key. */
  warm(): this {
    const everybody = [...this.tree.members()];
    for (const leaf of everybody) {
      // Adopting without forks in between keeps this linear; nothing is sealed to leaves.
      if (leaf % 2 === 0) this.adopt(this.createPath(leaf, everybody));
    }
    return this;
  }

  privateKeysOf(leaf: number): PrivateKeys {
    const keys = new Map<number, Bytes>();
    for (let height = 0; 1 << height <= this.tree.leafSlots; height++) {
      const node = ancestorAt(leaf, height);
      const unmerged = height > 0 && Array.from(this.tree.unmergedLeaves(node)).includes(leaf);
      if (!this.tree.isBlank(node) && !unmerged) keys.set(node, this.nodeKeys.get(node)!);
    }
    return keys;
  }

  /** What a member does with a path: validate, merge into a fork, decrypt. */
  receivePath(sender: number, updatePath: UpdatePath, receiver: number, privateKeys: PrivateKeys) {
    const tree = this.tree.fork();
    validateLeafNode(tree, updatePath.leafNode, { groupId, extensions: [], source: "commit", leaf: sender });
    mergeUpdatePath(tree, { sender, updatePath, addedLeaves: [] });
    const groupContext = this.groupContext(tree.treeHash());
    const received = decryptUpdatePath(tree, {
      sender,
      updatePath,
      addedLeaves: [],
      receiver,
      privateKeys,
      groupContext,
    });
    return { tree, ...received };
  }
}

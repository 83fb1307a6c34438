import { type Bytes, decodeWhole, encode, toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { nativeCrypto } from "../../src/crypto/native.ts";
import type { SignatureKeyPair } from "../../src/crypto/provider.ts";
import { groupContextBytes } from "../../src/structs/group-context.ts";
import { readUpdatePath, writeUpdatePath } from "../../src/structs/update-path.ts";
import { covers, isLeafNode } from "../../src/tree/math.ts";
import { RatchetTree } from "../../src/tree/ratchet-tree.ts";
import {
  createUpdatePath,
  decryptUpdatePath,
  joinPrivateKeys,
  keepUsablePrivateKeys,
  mergeUpdatePath,
  type PrivateKeys,
  pathSecretFor,
  retirePrivateKeys,
} from "../../src/tree/tree-kem.ts";
import { validateLeafNode, validateTree } from "../../src/tree/tree-validation.ts";
import { seededRandom } from "../seeded.ts";
import { encodeLeaf, leafContent, seededNumbers, signLeaf } from "../tree-kit.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000_007);
const TURNS = process.env["SLOW"] === "1" ? 2000 : 150;
const MAXIMUM = 20;
const groupId = Uint8Array.of(7);

interface Member {
  readonly signature: SignatureKeyPair;
  keys: PrivateKeys;
}

/** A group in which every member follows every commit; secrets are compared after each. */
class Village {
  readonly crypto = nativeCrypto(1, { random: seededRandom(`tree-kem ${seed}`) });
  readonly pick = seededNumbers(seed);
  readonly members = new Map<number, Member>();
  tree: RatchetTree;

  constructor() {
    const { leafNode, member } = this.newcomer();
    this.tree = RatchetTree.create(this.crypto, leafNode);
    this.members.set(0, { ...member, keys: new Map([[0, member.leafKey]]) });
  }

  newcomer() {
    const signature = this.crypto.generateSignatureKeyPair();
    const { publicKey, privateKey } = this.crypto.generateHpkeKeyPair();
    const leafNode = signLeaf(this.crypto, signature, leafContent(publicKey, signature.publicKey));
    return { leafNode: encodeLeaf(leafNode), member: { signature, leafKey: privateKey } };
  }

  private choose(leaves: number[]): number {
    return leaves.splice(this.pick(leaves.length), 1)[0]!;
  }

  private context(treeHash: Uint8Array): Uint8Array {
    return groupContextBytes({
      cipherSuite: 1,
      groupId,
      epoch: 9n,
      treeHash,
      confirmedTranscriptHash: new Uint8Array(32),
      extensions: [],
    });
  }

  /** One commit: removes, adds, and (mostly) a path, by a member or by an external joiner. */
  turn(): void {
    const tree = this.tree.fork();
    const rest = [...this.members.keys()];
    let sender = this.choose(rest);
    for (let count = this.pick(3); count > 0 && rest.length > 0; count--) {
      const removed = this.choose(rest);
      tree.removeLeaf(removed);
      this.members.delete(removed);
    }
    const room = MAXIMUM - this.members.size;
    const newcomers = Array.from({ length: Math.min(this.pick(4), room) }, () => this.newcomer());
    const added = tree.addLeaves(newcomers.map(({ leafNode }) => leafNode));
    const joining = new Map(added.map((leaf, i) => [leaf, newcomers[i]!.member]));
    const external = this.pick(8) === 0 && room > 4;
    if (external) sender = this.addExternalJoiner(tree);
    if (external || this.pick(5) > 0) this.tree = this.commitPath(tree, sender, joining);
    else {
      for (const [leaf, member] of this.members) member.keys = keepUsablePrivateKeys(tree, leaf, member.keys);
      for (const [leaf, { signature, leafKey }] of joining) {
        const keys = joinPrivateKeys(tree, { leaf, leafPrivateKey: leafKey, signer: sender });
        this.members.set(leaf, { signature, keys });
      }
      this.tree = tree;
    }
  }

  private addExternalJoiner(tree: RatchetTree): number {
    const sender = tree.reserveLeaf();
    this.members.set(sender, { signature: this.crypto.generateSignatureKeyPair(), keys: new Map() });
    return sender;
  }

  private commitPath(
    tree: RatchetTree,
    sender: number,
    joining: ReadonlyMap<number, { readonly signature: SignatureKeyPair; readonly leafKey: Bytes }>,
  ): RatchetTree {
    const { signature } = this.members.get(sender)!;
    const addedLeaves = [...joining.keys()];
    const senderTree = tree.fork();
    const cost = senderTree.pathCost(sender);
    const created = createUpdatePath(senderTree, {
      sender,
      groupId,
      leaf: leafContent(new Uint8Array(0), signature.publicKey),
      signaturePrivateKey: signature.privateKey,
      groupContext: (treeHash) => this.context(treeHash),
      addedLeaves,
    });
    const updatePath = decodeWhole(encode(created.updatePath, writeUpdatePath), readUpdatePath);
    const ciphertexts = updatePath.nodes.reduce((sum, node) => sum + node.encryptedPathSecret.count, 0);
    expect(ciphertexts).toBe(cost - addedLeaves.length);
    const publicPath = { sender, updatePath, addedLeaves };
    const receivers = [...this.members].filter(([leaf]) => leaf !== sender);
    const merged = tree.fork();
    const leafContext = { groupId, extensions: [], source: "commit", leaf: sender } as const;
    validateLeafNode(merged, updatePath.leafNode, leafContext);
    mergeUpdatePath(merged, publicPath);
    expect(toHex(merged.treeHash())).toBe(toHex(created.treeHash));
    const groupContext = this.context(merged.treeHash());
    for (const [receiver, member] of receivers) {
      const { keys: privateKeys } = member;
      const received = decryptUpdatePath(merged, { ...publicPath, receiver, privateKeys, groupContext });
      expect(toHex(received.commitSecret)).toBe(toHex(created.commitSecret));
      retirePrivateKeys(privateKeys, received.privateKeys);
      member.keys = received.privateKeys;
    }
    this.members.get(sender)!.keys = created.privateKeys;
    for (const [leaf, { signature: own, leafKey }] of joining) {
      const pathSecret = pathSecretFor(created, sender, leaf);
      expect(pathSecret).toBeDefined();
      const keys = joinPrivateKeys(merged, { leaf, leafPrivateKey: leafKey, signer: sender, pathSecret });
      this.members.set(leaf, { signature: own, keys });
    }
    return merged;
  }

  /** Every key that a member holds belongs to a node above it, opens what is sealed to that node, and is alive. */
  expectInvariant(): void {
    const empty = new Uint8Array(0);
    const probe = Uint8Array.of(1);
    for (const [leaf, { keys }] of this.members) {
      for (const [node, key] of keys) {
        expect(covers(node, leaf)).toBe(true);
        const publicKey = this.tree.encryptionKey(node)!;
        const { kemOutput, ciphertext } = this.crypto.hpkeSeal(publicKey, empty, empty, probe);
        expect(this.crypto.hpkeOpen(key, publicKey, kemOutput, empty, empty, ciphertext)).toEqual(probe);
      }
      // The other way round: a key is missing exactly where the tree says that the leaf is unmerged.
      for (let node = 1; node < this.tree.leafSlots * 2 - 1; node += 2) {
        if (isLeafNode(node) || !covers(node, leaf) || this.tree.isBlank(node)) continue;
        expect(keys.has(node)).toBe(!Array.from(this.tree.unmergedLeaves(node)).includes(leaf));
      }
    }
  }
}

describe(`TreeKEM, seed ${seed} (replay with SEED=${seed})`, () => {
  test("all members agree on every commit secret, hold exactly the keys of the tree invariant, and newcomers accept the tree", {
    timeout: 300_000,
  }, () => {
    const village = new Village();
    for (let turn = 0; turn < TURNS; turn++) {
      village.turn();
      expect([...village.tree.members()]).toEqual([...village.members.keys()].toSorted((a, b) => a - b));
      if (turn % 5 === 0) village.expectInvariant();
      const joined = RatchetTree.decode(village.crypto, village.tree.encode());
      validateTree(joined, { groupId, extensions: [] });
      expect(toHex(joined.treeHash())).toBe(toHex(village.tree.treeHash()));
    }
  });
});

import { type Bytes, encode, utf8 } from "@murmuration/base";
import { signWithLabel } from "../../src/crypto/labeled.ts";
import { memberState } from "../../src/group/advance.ts";
import { generateLeaf } from "../../src/group/key-package.ts";
import { encodeGroupContext } from "../../src/group/public-epoch.ts";
import {
  type CryptoProvider,
  Group,
  type MemberIdentity,
  type WriteSet,
  warmUpLeaves,
} from "../../src/index.ts";
import { confirmationTag, epochSecretsOf } from "../../src/schedule/key-schedule.ts";
import { interimTranscriptHash } from "../../src/schedule/transcript-hash.ts";
import type { GroupContext } from "../../src/structs/group-context.ts";
import { type LeafNode, leafNodeBytes, leafNodeTbs, writeLeafNode } from "../../src/structs/leaf-node.ts";
import { directPath, type LeafIndex, leafToNode, type NodeIndex } from "../../src/tree/math.ts";
import { parentHashOf } from "../../src/tree/parent-hash.ts";
import { RatchetTree } from "../../src/tree/ratchet-tree.ts";
import { lifetime } from "../clients.ts";

const groupId = utf8("a warm group");

/**
 * A group of N members after its warm-up, as data: a valid tree in which every other leaf has sent a self-update, in
 * bit-reversed order, and no node is blank. One driver holds all private keys, so that any member can be brought to
 * life. Nothing is sealed on the way: with every key in one hand there is nobody to send path secrets to.
 */
export class WarmGroup {
  readonly tree: RatchetTree;
  readonly context: GroupContext;
  readonly #crypto: CryptoProvider;
  readonly #identities: readonly MemberIdentity[];
  readonly #privateKeys = new Map<NodeIndex, Bytes>();
  readonly #epochSecret: Bytes;

  /** O(N log N) hashes and key derivations. */
  constructor(crypto: CryptoProvider, members: number) {
    this.#crypto = crypto;
    this.#identities = Array.from({ length: members }, (_, i) => ({
      credential: { kind: "basic", identity: utf8(`member ${i}`) },
      signatureKeys: crypto.generateSignatureKeyPair(),
    }));
    const leaves = this.#identities.map((identity, leaf) => {
      const made = generateLeaf(crypto, identity, { kind: "key_package", lifetime }, {});
      this.#privateKeys.set(leafToNode(leaf), made.leafPrivateKey);
      return leafNodeBytes(made.leafNode);
    });
    this.tree = RatchetTree.create(crypto, leaves[0]!);
    this.tree.addLeaves(leaves.slice(1));
    const { leafSlots } = this.tree;
    const turns = warmUpLeaves(leafSlots, leafSlots / 2, (leaf) => leaf < members && leaf % 2 === 0);
    for (const leaf of turns) this.#selfUpdate(leaf);
    this.#epochSecret = crypto.random(crypto.suite.hashLength);
    this.context = {
      cipherSuite: crypto.suite.id,
      groupId,
      epoch: BigInt(turns.length + 1),
      treeHash: this.tree.treeHash(),
      confirmedTranscriptHash: crypto.random(crypto.suite.hashLength),
      extensions: [],
    };
  }

  /** The member at a leaf, with a tree of its own that hashes with `crypto`. O(N). */
  member(leaf: LeafIndex, crypto: CryptoProvider): { group: Group; writes: WriteSet } {
    const { context } = this;
    const secrets = epochSecretsOf(crypto, this.#epochSecret);
    const tag = confirmationTag(crypto, secrets.confirmationKey, context.confirmedTranscriptHash);
    const epoch = {
      crypto,
      context,
      contextBytes: encodeGroupContext(context),
      tree: RatchetTree.decodeSnapshot(crypto, this.tree.encodeSnapshot()),
      confirmationTag: tag,
      interimTranscriptHash: interimTranscriptHash(crypto, context.confirmedTranscriptHash, tag),
    };
    const nodes = [leafToNode(leaf), ...directPath(leaf, this.tree.leafSlots)];
    const held = nodes.filter((node) => !this.tree.isBlank(node));
    const state = memberState(epoch, secrets, {
      ownLeaf: leaf,
      signaturePrivateKey: this.#identities[leaf]!.signatureKeys.privateKey.slice(),
      privateKeys: new Map(held.map((node) => [node, this.#privateKeys.get(node)!.slice() as Bytes])),
      ratchetLimits: {},
    });
    return Group.start(state, {});
  }

  /** What a commit with an empty proposal list does to the tree (7.5), without the ciphertexts. */
  #selfUpdate(leaf: LeafIndex): void {
    const crypto = this.#crypto;
    const steps = this.tree.filteredDirectPath(leaf);
    const keys = steps.map(() => crypto.deriveHpkeKeyPair(crypto.random(crypto.suite.hashLength)));
    const nodes: { node: NodeIndex; encryptionKey: Bytes; parentHash: Bytes }[] = [];
    let parentHash: Bytes = new Uint8Array(0);
    for (const [i, { node, copathNode }] of [...steps.entries()].reverse()) {
      const { publicKey, privateKey } = keys[i]!;
      this.#privateKeys.set(node, privateKey);
      nodes.unshift({ node, encryptionKey: publicKey, parentHash });
      parentHash = parentHashOf(crypto, publicKey, parentHash, this.tree.nodeHash(copathNode));
    }
    this.tree.mergePath(leaf, encode(this.#commitLeaf(leaf, parentHash), writeLeafNode, 512), nodes);
  }

  #commitLeaf(leaf: LeafIndex, parentHash: Bytes): LeafNode {
    const { publicKey, privateKey } = this.#crypto.generateHpkeKeyPair();
    this.#privateKeys.set(leafToNode(leaf), privateKey);
    const { signature: _, ...old } = this.tree.leaf(leaf)!;
    const content = { ...old, encryptionKey: publicKey, source: { kind: "commit", parentHash } } as const;
    const tbs = leafNodeTbs(content, { groupId, leafIndex: leaf });
    const signatureKey = this.#identities[leaf]!.signatureKeys.privateKey;
    return { ...content, signature: signWithLabel(this.#crypto, signatureKey, "LeafNodeTBS", tbs) };
  }
}

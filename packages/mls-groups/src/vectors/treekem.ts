import { type Bytes, decodeWhole, encode, equalBytes, fromHex, toHex } from "@murmuration/base";
import { deriveSecret } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import { groupContextBytes } from "../structs/group-context.ts";
import { readUpdatePath, type UpdatePath, writeUpdatePath } from "../structs/update-path.ts";
import { leafToNode } from "../tree/math.ts";
import { RatchetTree } from "../tree/ratchet-tree.ts";
import { createUpdatePath, decryptUpdatePath, mergeUpdatePath, type PrivateKeys } from "../tree/tree-kem.ts";
import { validateLeafNode } from "../tree/tree-validation.ts";
import { expectBytes, expectTrue, type MakeProvider, providerOf } from "./expect.ts";

/** A case of treekem.json. Binary values are hexadecimal. */
export interface TreeKemVector {
  readonly cipher_suite: number;
  readonly group_id: string;
  readonly epoch: number;
  readonly confirmed_transcript_hash: string;
  readonly ratchet_tree: string;
  readonly leaves_private: readonly {
    readonly index: number;
    readonly encryption_priv: string;
    readonly signature_priv: string;
    readonly path_secrets: readonly { readonly node: number; readonly path_secret: string }[];
  }[];
  readonly update_paths: readonly {
    readonly sender: number;
    readonly update_path: string;
    /** By leaf index; `null` for the sender and for blank leaves. */
    readonly path_secrets: readonly (string | null)[];
    readonly commit_secret: string;
    readonly tree_hash_after: string;
  }[];
}

interface Scene {
  readonly crypto: CryptoProvider;
  readonly vector: TreeKemVector;
  readonly tree: RatchetTree;
  readonly groupId: Bytes;
  readonly privateKeys: ReadonlyMap<number, PrivateKeys>;
}

/** Verifies one case of treekem (RFC 9420 sections 7.4 to 7.6). Throws VectorMismatch or RejectionError. */
export function runTreeKem(vector: TreeKemVector, makeProvider: MakeProvider): void {
  const crypto = providerOf(vector, makeProvider);
  const tree = RatchetTree.decode(crypto, fromHex(vector.ratchet_tree));
  const privateKeys = new Map<number, PrivateKeys>();
  for (const member of vector.leaves_private) privateKeys.set(member.index, privateKeysOf(tree, member));
  const scene = { crypto, vector, tree, groupId: fromHex(vector.group_id), privateKeys };
  for (const given of vector.update_paths) {
    receiveGivenPath(scene, given);
    createOwnPath(scene, given.sender);
  }
}

function privateKeysOf(tree: RatchetTree, member: TreeKemVector["leaves_private"][number]): PrivateKeys {
  const { crypto } = tree;
  const keys = new Map([[leafToNode(member.index), fromHex(member.encryption_priv)]]);
  for (const { node, path_secret } of member.path_secrets) {
    const nodeSecret = deriveSecret(crypto, fromHex(path_secret), "node");
    const keyPair = crypto.deriveHpkeKeyPair(nodeSecret);
    expectBytes("public key of a path secret's node", keyPair.publicKey, toHex(tree.encryptionKey(node)!));
    keys.set(node, keyPair.privateKey);
  }
  const publicKey = tree.encryptionKey(leafToNode(member.index))!;
  const { kemOutput, ciphertext } = crypto.hpkeSeal(publicKey, EMPTY, EMPTY, PROBE);
  const leafKey = fromHex(member.encryption_priv);
  const opened = crypto.hpkeOpen(leafKey, publicKey, kemOutput, EMPTY, EMPTY, ciphertext);
  expectBytes("probe sealed to the leaf's public key", opened, toHex(PROBE));
  return keys;
}

const EMPTY = new Uint8Array(0);
const PROBE = Uint8Array.of(1, 2, 3);

function contextFor({ vector, groupId }: Scene, treeHash: Uint8Array): Uint8Array {
  return groupContextBytes({
    cipherSuite: vector.cipher_suite,
    groupId,
    epoch: BigInt(vector.epoch),
    treeHash,
    confirmedTranscriptHash: fromHex(vector.confirmed_transcript_hash),
    extensions: [],
  });
}

/** A fork of the tree with the path validated and merged. */
function merge(scene: Scene, sender: number, updatePath: UpdatePath): RatchetTree {
  const after = scene.tree.fork();
  const leafContext = { groupId: scene.groupId, extensions: [], source: "commit", leaf: sender } as const;
  validateLeafNode(after, updatePath.leafNode, leafContext);
  mergeUpdatePath(after, { sender, updatePath, addedLeaves: [] });
  return after;
}

/** What every other member derives from a path. */
function receiveEverywhere(
  scene: Scene,
  sender: number,
  updatePath: UpdatePath,
  visit: (receiver: number, keys: PrivateKeys, commitSecret: Bytes) => void,
): Uint8Array {
  const after = merge(scene, sender, updatePath);
  const groupContext = contextFor(scene, after.treeHash());
  for (const [receiver, privateKeys] of scene.privateKeys) {
    if (receiver === sender) continue;
    const path = { sender, updatePath, addedLeaves: [], receiver, privateKeys, groupContext };
    const received = decryptUpdatePath(after, path);
    visit(receiver, received.privateKeys, received.commitSecret);
  }
  return after.treeHash();
}

function receiveGivenPath(scene: Scene, given: TreeKemVector["update_paths"][number]): void {
  const { sender } = given;
  const bytes = fromHex(given.update_path);
  const updatePath = decodeWhole(bytes, readUpdatePath);
  const treeHash = receiveEverywhere(scene, sender, updatePath, (receiver, keys, commitSecret) => {
    expectBytes("commit_secret", commitSecret, given.commit_secret);
    const pathSecret = given.path_secrets[receiver];
    expectTrue("path secret is given", typeof pathSecret === "string");
    const nodeSecret = deriveSecret(scene.crypto, fromHex(pathSecret ?? ""), "node");
    const { privateKey } = scene.crypto.deriveHpkeKeyPair(nodeSecret);
    const derived = [...keys.values()].some((key) => equalBytes(key, privateKey));
    expectTrue("private key of the given path secret was derived", derived);
  });
  expectBytes("tree_hash_after", treeHash, given.tree_hash_after);
}

function createOwnPath(scene: Scene, sender: number): void {
  const { tree, vector } = scene;
  const member = vector.leaves_private.find(({ index }) => index === sender)!;
  const created = createUpdatePath(tree.fork(), {
    sender,
    groupId: scene.groupId,
    leaf: tree.leaf(sender)!,
    signaturePrivateKey: fromHex(member.signature_priv),
    groupContext: (treeHash) => contextFor(scene, treeHash),
    addedLeaves: [],
  });
  const updatePath = decodeWhole(encode(created.updatePath, writeUpdatePath), readUpdatePath);
  const treeHash = receiveEverywhere(scene, sender, updatePath, (_receiver, _keys, commitSecret) => {
    expectBytes("commit_secret of a path of our own", commitSecret, toHex(created.commitSecret));
  });
  expectBytes("tree hash after a path of our own", treeHash, toHex(created.treeHash));
}

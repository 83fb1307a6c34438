import { type Bytes, encode, equalBytes, InvariantError, zeroize } from "@murmuration/base";
import { decryptWithLabel, deriveSecret, encryptWithLabel, signWithLabel } from "../crypto/labeled.ts";
import type { CryptoProvider, HpkeKeyPair } from "../crypto/provider.ts";
import { check } from "../rules.ts";
import { hpkeCiphertextVector } from "../structs/hpke-ciphertext.ts";
import { type LeafNode, leafNodeBytes, leafNodeTbs, writeLeafNode } from "../structs/leaf-node.ts";
import type { UpdatePath } from "../structs/update-path.ts";
import {
  commonAncestor,
  commonHeight,
  covers,
  isLeafNode,
  type LeafIndex,
  leafToNode,
  left,
  level,
  type NodeIndex,
  nodeCount,
  nodeToLeaf,
  right,
} from "./math.ts";
import { parentHashOf } from "./parent-hash.ts";
import type { PathNode, PathStep, RatchetTree } from "./ratchet-tree.ts";

/** The private keys that one member holds: its leaf and nodes of its direct path, by node index. */
export type PrivateKeys = ReadonlyMap<NodeIndex, Bytes>;

/** A path secret for a node of the committer's filtered direct path. */
interface NodePathSecret {
  readonly node: NodeIndex;
  readonly pathSecret: Bytes;
}

export interface CreateUpdatePath {
  /** The committer's leaf. For an external commit what `tree.reserveLeaf()` returned. */
  readonly sender: LeafIndex;
  readonly groupId: Uint8Array;
  /** The parts of the new leaf that the committer chooses (RFC 9420 section 7.5, step 4). */
  readonly leaf: Pick<LeafNode, "signatureKey" | "credential" | "capabilities" | "extensions">;
  readonly signaturePrivateKey: Uint8Array;
  /** Encoded provisional GroupContext (12.4.1) for the tree hash after the path. */
  readonly groupContext: (treeHash: Bytes) => Uint8Array;
  /** Leaves added by this same commit: nothing is sealed to them (7.5). */
  readonly addedLeaves: readonly LeafIndex[];
}

export interface CreatedUpdatePath {
  readonly updatePath: UpdatePath;
  /** path_secret[n+1]. */
  readonly commitSecret: Bytes;
  /** From the lowest node upwards; the caller zeroizes them when the Welcomes are made. */
  readonly pathSecrets: readonly NodePathSecret[];
  /** Complete new key set of the sender: leaf and filtered direct path. */
  readonly privateKeys: PrivateKeys;
  readonly treeHash: Bytes;
}

const EMPTY = new Uint8Array(0);

/** The key pair of a node from its path secret (section 7.4). The node secret is spent here. */
function nodeKeyPair(crypto: CryptoProvider, pathSecret: Uint8Array): HpkeKeyPair {
  const nodeSecret = deriveSecret(crypto, pathSecret, "node");
  const keyPair = crypto.deriveHpkeKeyPair(nodeSecret);
  zeroize(nodeSecret);
  return keyPair;
}

interface PathKeys {
  readonly secrets: readonly Bytes[];
  readonly keyPairs: readonly HpkeKeyPair[];
  readonly commitSecret: Bytes;
}

/** Fresh path secrets and key pairs for a filtered direct path of this length (section 7.4). */
function generatePathKeys(crypto: CryptoProvider, length: number): PathKeys {
  const secrets: Bytes[] = [];
  const keyPairs: HpkeKeyPair[] = [];
  let secret = crypto.random(crypto.suite.hashLength);
  for (let i = 0; i < length; i++) {
    secrets.push(secret);
    keyPairs.push(nodeKeyPair(crypto, secret));
    secret = deriveSecret(crypto, secret, "path");
  }
  return { secrets, keyPairs, commitSecret: secret };
}

/**
 * The nodes of an UpdatePath with their parent hashes, computed from the root downwards, and the parent hash
 * of the leaf (sections 7.5 and 7.9). The path resets the unmerged leaves of every node on it, so that the
 * original sibling tree hashes are the tree hashes of the copath as they stand. O(log N) hashes.
 */
function pathNodes(
  tree: RatchetTree,
  steps: readonly PathStep[],
  keys: readonly Uint8Array[],
): { nodes: PathNode[]; leafParentHash: Bytes } {
  const nodes: PathNode[] = [];
  let parentHash: Bytes = EMPTY;
  for (let i = steps.length - 1; i >= 0; i--) {
    const { node, copathNode } = steps[i]!;
    nodes.push({ node, encryptionKey: keys[i]!, parentHash });
    parentHash = parentHashOf(tree.crypto, keys[i]!, parentHash, tree.nodeHash(copathNode));
  }
  return { nodes: nodes.reverse(), leafParentHash: parentHash };
}

/**
 * Generates and applies an UpdatePath (section 7.5) to `tree`, a fork that has the commit's proposals applied.
 * O(log N) hashes and key derivations plus one HPKE seal for every ciphertext.
 */
export function createUpdatePath(tree: RatchetTree, request: CreateUpdatePath): CreatedUpdatePath {
  const { crypto } = tree;
  const { sender, addedLeaves } = request;
  const steps = tree.filteredDirectPath(sender);
  const { secrets, keyPairs, commitSecret } = generatePathKeys(crypto, steps.length);
  const leafKeyPair = crypto.generateHpkeKeyPair();
  const { nodes, leafParentHash } = pathNodes(
    tree,
    steps,
    keyPairs.map(({ publicKey }) => publicKey),
  );
  const leafNode = signLeafNode(crypto, request, leafKeyPair.publicKey, leafParentHash);
  tree.mergePath(sender, encode(leafNode, writeLeafNode, 512), nodes);
  const treeHash = tree.treeHash();
  const context = request.groupContext(treeHash);
  const excluded = new Set(addedLeaves.map(leafToNode));
  const privateKeys = new Map([[leafToNode(sender), leafKeyPair.privateKey]]);
  const updatePathNodes = steps.map(({ node, copathNode }, i) => {
    privateKeys.set(node, keyPairs[i]!.privateKey);
    const encryptedPathSecret = hpkeCiphertextVector(
      tree
        .resolution(copathNode)
        .filter((recipient) => !excluded.has(recipient))
        .map((recipient) => seal(tree, recipient, context, secrets[i]!)),
    );
    return { encryptionKey: keyPairs[i]!.publicKey, encryptedPathSecret };
  });
  return {
    updatePath: { leafNode, nodes: updatePathNodes },
    commitSecret,
    pathSecrets: steps.map(({ node }, i) => ({ node, pathSecret: secrets[i]! })),
    privateKeys,
    treeHash,
  };
}

function seal(tree: RatchetTree, recipient: NodeIndex, context: Uint8Array, pathSecret: Uint8Array) {
  return encryptWithLabel(tree.crypto, tree.encryptionKey(recipient)!, "UpdatePathNode", context, pathSecret);
}

function signLeafNode(
  crypto: CryptoProvider,
  request: CreateUpdatePath,
  encryptionKey: Bytes,
  parentHash: Bytes,
): LeafNode {
  const content = { ...request.leaf, encryptionKey, source: { kind: "commit", parentHash } } as const;
  const tbs = leafNodeTbs(content, { groupId: request.groupId, leafIndex: request.sender });
  return { ...content, signature: signWithLabel(crypto, request.signaturePrivateKey, "LeafNodeTBS", tbs) };
}

/** The path secret that goes into the Welcome of a new member (section 12.4.1); the array is the path's own. */
export function pathSecretFor(
  path: CreatedUpdatePath,
  sender: LeafIndex,
  joiner: LeafIndex,
): Bytes | undefined {
  const ancestor = commonAncestor(sender, joiner);
  return path.pathSecrets.find(({ node }) => node === ancestor)?.pathSecret;
}

export interface PublicUpdatePath {
  readonly sender: LeafIndex;
  readonly updatePath: UpdatePath;
  /** Leaves added by this same commit: nothing is sealed to them (7.5). */
  readonly addedLeaves: readonly LeafIndex[];
}

/**
 * Validates an UpdatePath and merges it into `tree` (sections 7.5, 7.6, 12.4.2), a fork that has the proposals
 * applied. All that is public, so a follower needs no more. The LeafNode itself, with its signature, is
 * `validateLeafNode`'s, before this. O(log N) hashes. Throws RejectionError `mls/update-path/…`; the fork is
 * then to be thrown away.
 */
export function mergeUpdatePath(tree: RatchetTree, path: PublicUpdatePath): void {
  const { sender, updatePath } = path;
  const { leafNode, nodes } = updatePath;
  const steps = tree.filteredDirectPath(sender);
  check("update-path/length", nodes.length === steps.length);
  validateCiphertextCounts(tree, path, steps);
  validatePathKeys(tree, sender, updatePath);
  const merged = pathNodes(
    tree,
    steps,
    nodes.map(({ encryptionKey }) => encryptionKey),
  );
  const { source } = leafNode;
  check(
    "update-path/parent-hash",
    source.kind === "commit" && equalBytes(source.parentHash, merged.leafParentHash),
  );
  tree.mergePath(sender, leafNodeBytes(leafNode), merged.nodes);
}

/** Each vector has one ciphertext for each node of the copath resolution that is not a new leaf (section 7.6). */
function validateCiphertextCounts(
  tree: RatchetTree,
  path: PublicUpdatePath,
  steps: readonly PathStep[],
): void {
  const newBelow = new Map<number, number>();
  for (const leaf of path.addedLeaves) {
    // A new leaf stands in every resolution above it, itself or as an unmerged leaf.
    const height = commonHeight(leaf, path.sender);
    newBelow.set(height, (newBelow.get(height) ?? 0) + 1);
  }
  for (const [i, { node, copathNode }] of steps.entries()) {
    const expected = tree.resolutionSize(copathNode) - (newBelow.get(level(node)) ?? 0);
    check("update-path/ciphertext-count", path.updatePath.nodes[i]?.encryptedPathSecret.count === expected);
  }
}

/** Every key of the path is valid, new to the tree (12.4.2), and there once. O(log N) lookups. */
function validatePathKeys(tree: RatchetTree, sender: LeafIndex, { leafNode, nodes }: UpdatePath): void {
  const current = tree.encryptionKey(leafToNode(sender));
  check(
    "update-path/leaf-encryption-key-changed",
    current === undefined || !equalBytes(current, leafNode.encryptionKey),
  );
  const keys = [leafNode.encryptionKey, ...nodes.map(({ encryptionKey }) => encryptionKey)];
  for (const [i, key] of keys.entries()) {
    check("update-path/encryption-key-valid", tree.crypto.isValidHpkePublicKey(key));
    const holder = tree.nodeByEncryptionKey(key);
    const ownOld = i === 0 && holder === leafToNode(sender);
    check("update-path/encryption-keys-new", holder === undefined || ownOld);
    check("update-path/encryption-keys-distinct", !keys.slice(0, i).some((other) => equalBytes(other, key)));
  }
}

export interface ReceiveUpdatePath extends PublicUpdatePath {
  readonly receiver: LeafIndex;
  /** The receiver's keys of the old epoch, with its new leaf key if this commit covers an Update of its own. */
  readonly privateKeys: PrivateKeys;
  /** Encoded provisional GroupContext, with the tree hash after the merge. */
  readonly groupContext: Uint8Array;
}

export interface ReceivedUpdatePath {
  readonly commitSecret: Bytes;
  /** Complete new key set: keys of nodes that were blanked or replaced are gone. Old values are not zeroized. */
  readonly privateKeys: PrivateKeys;
}

/**
 * Decrypts the path secret that is meant for the receiver and derives what is above it (section 7.5). `tree`
 * has the path merged. One HPKE open and O(log N) key derivations. Throws RejectionError
 * `mls/decryption-failed`, `mls/update-path/key-matches-path-secret`.
 */
export function decryptUpdatePath(tree: RatchetTree, path: ReceiveUpdatePath): ReceivedUpdatePath {
  const { sender, receiver, privateKeys } = path;
  const steps = tree.filteredDirectPath(sender);
  const ancestor = commonAncestor(sender, receiver);
  const first = steps.findIndex(({ node }) => node === ancestor);
  const step = steps[first];
  const pathNode = path.updatePath.nodes[first];
  if (step === undefined || pathNode === undefined) throw new InvariantError("mls/no-common-path-node");
  const { node, index } = findCiphertext(tree, step.copathNode, path);
  const ciphertext = pathNode.encryptedPathSecret.at(index);
  const pathSecret = decryptWithLabel(
    tree.crypto,
    privateKeys.get(node)!,
    tree.encryptionKey(node),
    "UpdatePathNode",
    path.groupContext,
    ciphertext.kemOutput,
    ciphertext.ciphertext,
  );
  const derived = derivePath(tree, steps.slice(first), pathSecret, "update-path/key-matches-path-secret");
  const kept = keepUsablePrivateKeys(tree, receiver, privateKeys, sender);
  return {
    commitSecret: derived.commitSecret,
    privateKeys: new Map([...kept, ...derived.privateKeys]),
  };
}

/**
 * The node in the resolution of `copathNode` whose private key the receiver holds, and the place of its
 * ciphertext: the nodes of the resolution before it that are not new leaves. O((added leaves + 1) log N).
 */
function findCiphertext(
  tree: RatchetTree,
  copathNode: NodeIndex,
  path: ReceiveUpdatePath,
): { node: NodeIndex; index: number } {
  const { receiver, privateKeys, addedLeaves } = path;
  let node = copathNode;
  let index = 0;
  while (tree.isBlank(node) && !isLeafNode(node)) {
    const before = left(node);
    if (covers(before, receiver)) {
      node = before;
      continue;
    }
    index += tree.resolutionSize(before);
    for (const leaf of addedLeaves) if (covers(before, leaf)) index--;
    node = right(node);
  }
  if (privateKeys.has(node)) return { node, index };
  // The receiver is unmerged here: its own leaf stands in the list behind the node.
  const own = leafToNode(receiver);
  if (isLeafNode(node) || !privateKeys.has(own)) throw new InvariantError("mls/private-key-missing");
  const unmerged = tree.unmergedLeaves(node);
  const added = new Set(addedLeaves);
  index++;
  for (let i = 0; unmerged[i] !== receiver; i++) {
    if (i >= unmerged.length) throw new InvariantError("mls/private-key-missing");
    if (!added.has(unmerged[i]!)) index++;
  }
  return { node: own, index };
}

/** Key pairs from a path secret upwards, each compared with the public key in the tree. Spends the secret. */
function derivePath(
  tree: RatchetTree,
  steps: readonly PathStep[],
  firstSecret: Bytes,
  rule: "update-path/key-matches-path-secret" | "welcome/path-secret-matches-key",
): { privateKeys: Map<NodeIndex, Bytes>; commitSecret: Bytes } {
  const { crypto } = tree;
  const privateKeys = new Map<NodeIndex, Bytes>();
  let secret = firstSecret;
  for (const { node } of steps) {
    const { publicKey, privateKey } = nodeKeyPair(crypto, secret);
    const expected = tree.encryptionKey(node);
    check(rule, expected !== undefined && equalBytes(publicKey, expected));
    privateKeys.set(node, privateKey);
    const next = deriveSecret(crypto, secret, "path");
    zeroize(secret);
    secret = next;
  }
  return { privateKeys, commitSecret: secret };
}

/**
 * Private keys of a joiner (section 12.4.3.1): its leaf key, and with a path secret the keys from the lowest
 * common ancestor with the signer upwards, each compared with the public key in the tree. Throws
 * RejectionError `mls/welcome/…`.
 */
export function joinPrivateKeys(
  tree: RatchetTree,
  join: {
    readonly leaf: LeafIndex;
    readonly leafPrivateKey: Bytes;
    /** GroupInfo.signer: the member whose commit added the joiner. */
    readonly signer: LeafIndex;
    readonly pathSecret?: Uint8Array | undefined;
  },
): PrivateKeys {
  const privateKeys = new Map([[leafToNode(join.leaf), join.leafPrivateKey]]);
  if (join.pathSecret === undefined) return privateKeys;
  const ancestor = commonAncestor(join.leaf, join.signer);
  const steps = tree.filteredDirectPath(join.signer);
  const first = steps.findIndex(({ node }) => node === ancestor);
  check("welcome/path-secret-node-not-blank", first >= 0 && !tree.isBlank(ancestor));
  const secret = Uint8Array.from(join.pathSecret);
  const derived = derivePath(tree, steps.slice(first), secret, "welcome/path-secret-matches-key");
  zeroize(derived.commitSecret);
  return new Map([...privateKeys, ...derived.privateKeys]);
}

/**
 * The keys that are still good after a commit: the leaf's, and those of nodes that the proposals did not blank
 * and that do not lie on the committer's path, if there was one. O(log N).
 */
export function keepUsablePrivateKeys(
  tree: RatchetTree,
  leaf: LeafIndex,
  keys: PrivateKeys,
  committer?: LeafIndex,
): PrivateKeys {
  const kept = new Map<NodeIndex, Bytes>();
  for (const [node, key] of keys) {
    const replaced = committer !== undefined && covers(node, committer);
    const gone = node >= nodeCount(tree.leafSlots) || tree.isBlank(node);
    if ((isLeafNode(node) && nodeToLeaf(node) === leaf) || !(replaced || gone)) kept.set(node, key);
  }
  return kept;
}

/** Zeroizes the keys of `old` that `kept` does not hold any more. Call it when the new epoch is stored. */
export function retirePrivateKeys(old: PrivateKeys, kept: PrivateKeys): void {
  for (const [node, key] of old) if (kept.get(node) !== key) zeroize(key);
}

import type { Bytes } from "@murmuration/base";
import type { LeafNode } from "../structs/leaf-node.ts";
import type { UpdatePath } from "../structs/update-path.ts";
import type { LeafIndex, NodeIndex } from "./math.ts";
import type { RatchetTree } from "./ratchet-tree.ts";

const soon = (): never => {
  throw new Error("being written");
};

/** The private keys that one member holds: its leaf and nodes of its direct path, by node index. */
export type PrivateKeys = ReadonlyMap<NodeIndex, Bytes>;

/** A path secret for a node of the committer's filtered direct path. */
export interface NodePathSecret {
  readonly node: NodeIndex;
  readonly pathSecret: Bytes;
}

export interface CreateUpdatePath {
  /** The committer's leaf. For an external commit what `tree.reserveLeaf()` returned. */
  readonly sender: LeafIndex;
  readonly groupId: Uint8Array;
  /** The parts of the new leaf that the committer chooses (7.5, step 4). */
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

/**
 * Generates and applies an UpdatePath (7.5) to `tree`, a fork that has the commit's proposals applied.
 * O(log N) hashes and key derivations plus one HPKE seal for every ciphertext.
 */
export function createUpdatePath(_tree: RatchetTree, _request: CreateUpdatePath): CreatedUpdatePath {
  return soon();
}

export interface PublicUpdatePath {
  readonly sender: LeafIndex;
  readonly updatePath: UpdatePath;
  readonly groupId: Uint8Array;
  readonly addedLeaves: readonly LeafIndex[];
}

/**
 * Validates an UpdatePath and merges it into `tree` (7.5, 12.4.2), a fork that has the proposals applied:
 * all that is public, so a follower needs no more. Leaf capabilities are `validateLeafNode`'s, before this.
 * Throws RejectionError `mls/update-path/...`, `mls/leaf-node/...`; the fork is then to be thrown away.
 */
export function mergeUpdatePath(_tree: RatchetTree, _path: PublicUpdatePath): void {
  return soon();
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

/** Decrypts the path secret for the receiver and derives what is above it (7.5). `tree` has the path merged. */
export function decryptUpdatePath(_tree: RatchetTree, _path: ReceiveUpdatePath): ReceivedUpdatePath {
  return soon();
}

/** The path secret that goes into the Welcome of a new member (12.4.1), undefined without a path. A view. */
export function pathSecretFor(
  _path: CreatedUpdatePath,
  _sender: LeafIndex,
  _joiner: LeafIndex,
): Bytes | undefined {
  return soon();
}

/**
 * Private keys of a joiner (12.4.3.1): its leaf key, and with a path secret the keys from the lowest common
 * ancestor with the signer upwards, each compared with the public key in the tree. Throws RejectionError `mls/welcome/...`.
 */
export function joinPrivateKeys(
  _tree: RatchetTree,
  _join: {
    readonly leaf: LeafIndex;
    readonly leafPrivateKey: Bytes;
    readonly signer: LeafIndex;
    readonly pathSecret?: Uint8Array | undefined;
  },
): PrivateKeys {
  return soon();
}

/** After a commit without a path: drops the keys of nodes that the proposals blanked. */
export function keepUsablePrivateKeys(_tree: RatchetTree, _leaf: LeafIndex, _keys: PrivateKeys): PrivateKeys {
  return soon();
}

/** Zeroizes the keys of `old` that are not (the same array) in `kept`. Call it when the new epoch is stored. */
export function retirePrivateKeys(_old: PrivateKeys, _kept: PrivateKeys): void {
  return soon();
}

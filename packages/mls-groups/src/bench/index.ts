import { type Bytes, decodeWhole, equalBytes, InvariantError } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { memberState } from "../group/advance.ts";
import { createCommit } from "../group/create-commit.ts";
import { Group, internalsOf } from "../group/group.ts";
import { type GroupConfig, groupDefaults } from "../group/group-config.ts";
import { protectOwn } from "../group/messages.ts";
import type { WriteSet } from "../group/store.ts";
import type { EpochSecrets } from "../schedule/key-schedule.ts";
import { readGroupContext } from "../structs/group-context.ts";
import { leafToNode } from "../tree/math.ts";
import { RatchetTree } from "../tree/ratchet-tree.ts";

/** What all members of an epoch know alike. The arrays are copied. */
export interface AdoptedEpoch {
  /** Content of a ratchet_tree extension. */
  readonly ratchetTree: Uint8Array;
  /** Encoded GroupContext. */
  readonly groupContext: Uint8Array;
  readonly confirmationTag: Uint8Array;
  readonly interimTranscriptHash: Uint8Array;
  readonly secrets: EpochSecrets;
}

/** What one of them holds alone. */
export interface AdoptedLeaf {
  readonly leaf: number;
  readonly signaturePrivateKey: Uint8Array;
  /** By node index. */
  readonly privateKeys: ReadonlyMap<number, Uint8Array>;
}

/** Everything that one member knows in one epoch, as data. */
export interface AdoptedMember extends AdoptedEpoch, AdoptedLeaf {}

/**
 * Makes a group for benchmarks out of what a member would know, without the protocol that leads there: warming
 * 10,000 leaves by commits takes longer than what is measured afterwards. Nothing is verified but that the tree
 * is that of the GroupContext; no application may use this. O(N).
 */
export function adoptMember(
  crypto: CryptoProvider,
  member: AdoptedMember,
  config: Partial<GroupConfig> = {},
): { group: Group; writes: WriteSet } {
  return adoptEpoch(crypto, member, config)(member);
}

/**
 * The same for several members of one process: the tree is decoded once and shared as long as nobody changes it. What
 * is returned makes one member after the other, each as if its epoch had just begun.
 */
export function adoptEpoch(
  crypto: CryptoProvider,
  shared: AdoptedEpoch,
  config: Partial<GroupConfig> = {},
): (member: AdoptedLeaf) => { group: Group; writes: WriteSet } {
  const contextBytes = shared.groupContext.slice() as Bytes;
  const context = decodeWhole(contextBytes, readGroupContext);
  const tree = RatchetTree.decode(crypto, shared.ratchetTree);
  if (!equalBytes(tree.treeHash(), context.treeHash)) throw new InvariantError("mls/adopted-tree-hash");
  // As after a join: no hash of a leaf is kept for the first commit to find.
  tree.shown().hashes.dropLeafHashes();
  const epoch = {
    crypto,
    context,
    contextBytes,
    tree,
    confirmationTag: shared.confirmationTag.slice() as Bytes,
    interimTranscriptHash: shared.interimTranscriptHash.slice() as Bytes,
  };
  return (member) => {
    const secrets = Object.fromEntries(
      Object.entries(shared.secrets).map(([name, secret]) => [name, secret.slice()]),
    ) as unknown as EpochSecrets;
    const state = memberState(epoch, secrets, {
      ownLeaf: member.leaf,
      signaturePrivateKey: member.signaturePrivateKey.slice() as Bytes,
      privateKeys: new Map([...member.privateKeys].map(([node, key]) => [node, key.slice() as Bytes])),
      ratchetLimits: config.ratchetLimits ?? groupDefaults.ratchetLimits,
    });
    return Group.start(state, config);
  };
}

/** What a member brings to a commit beside what all members of the epoch share. */
export interface LeafKeys {
  readonly leaf: number;
  readonly signaturePrivateKey: Bytes;
  readonly leafPrivateKey: Bytes;
}

/**
 * The self-update commit that the member at another leaf would send now: fresh path secrets, sealed to everybody.
 * For benchmarks that grow a group of thousands in one process and hold every leaf's keys: the epoch is `group`'s, so
 * that no second copy of the group is needed for each committer. `group` has to receive the commit like any member.
 */
export function commitAs(group: Group, member: LeafKeys): { message: Bytes; leafPrivateKey: Bytes } {
  const { state, config } = internalsOf(group);
  const privateKeys = new Map([[leafToNode(member.leaf), member.leafPrivateKey]]);
  const { leaf: ownLeaf, signaturePrivateKey } = member;
  const author = { ...state, ownLeaf, signaturePrivateKey, privateKeys };
  const { policy, psks, ratchetLimits, padding } = config;
  const created = createCommit(author, {
    proposals: [],
    path: "always",
    leafChange: {},
    authenticatedData: new Uint8Array(0),
    wireFormat: "mls_public_message",
    groupInfo: {},
    policy,
    psks,
    ratchetLimits,
  });
  const { message } = protectOwn(author, created.content, padding);
  return { message, leafPrivateKey: created.next.privateKeys.get(leafToNode(ownLeaf))! };
}

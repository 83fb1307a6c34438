/** What an application asks of bytes and groups before, or beside, taking part in them. */
import type { Bytes } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import type { Credential } from "../structs/credential.ts";
import { decodeLeafNode, type LeafNode } from "../structs/leaf-node.ts";
import type { LeafIndex } from "../tree/math.ts";
import { RatchetTree } from "../tree/ratchet-tree.ts";
import type { Group } from "./group.ts";
import { decodeWelcome } from "./welcome.ts";

/**
 * The KeyPackageRefs that a Welcome has entries for (12.4.3.1): which of our KeyPackages it is meant for. O(entries).
 * Throws RejectionError.
 */
export function welcomeReferences(welcome: Uint8Array): Bytes[] {
  return Array.from(decodeWelcome(welcome).secrets, ({ newMember }) => new Uint8Array(newMember));
}

/**
 * The leaf with this signature key in an encoded ratchet tree, whose hash and signatures are not verified here: where a
 * device that joins again by external commit finds its old leaf (12.4.3.2). O(N). Throws RejectionError.
 */
export function leafOfSignatureKey(
  crypto: CryptoProvider,
  ratchetTree: Uint8Array,
  signatureKey: Uint8Array,
): LeafIndex | undefined {
  return RatchetTree.decode(crypto, ratchetTree).leafBySignatureKey(signatureKey);
}

/**
 * An encoded ratchet tree after the commits of some epochs, of which `changes` are what `PublicGroup.treeDelta` says, and its
 * hash, by which the caller has to know it: nothing else is verified. O(N + changes). Throws RejectionError.
 */
export function advanceTree(
  crypto: CryptoProvider,
  ratchetTree: Uint8Array,
  changes: readonly Uint8Array[],
): { readonly ratchetTree: Bytes; readonly treeHash: Bytes } {
  const tree = RatchetTree.decode(crypto, ratchetTree);
  for (const delta of changes) tree.applyDelta(delta);
  return { ratchetTree: tree.encode(), treeHash: tree.treeHash() };
}

/**
 * The credential that a leaf had in the epoch of its message: who sent it. Undefined when the leaf was blank, or the
 * epoch is no longer known. O(1), O(epochs since) for a past one.
 */
export function credentialIn(group: Group, epoch: bigint, leaf: LeafIndex): Credential | undefined {
  const bytes = group.leafNodeIn(epoch, leaf);
  return bytes === undefined ? undefined : decodeLeafNode(bytes).credential;
}

/** The leaves of an encoded ratchet tree, unverified, in order. O(N). Throws RejectionError. */
export function* leavesOfTree(
  crypto: CryptoProvider,
  ratchetTree: Uint8Array,
): Generator<LeafNode, void, undefined> {
  const tree = RatchetTree.decode(crypto, ratchetTree);
  for (const leaf of tree.members()) yield tree.leaf(leaf)!;
}

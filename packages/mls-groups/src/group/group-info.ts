import { type Bytes, decodeWhole, equalBytes, RejectionError } from "@murmuration/base";
import { signWithLabel, verifyWithLabel } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import { check } from "../rules.ts";
import { deriveExternalKeyPair } from "../schedule/key-schedule.ts";
import { extensionTypes } from "../structs/code-points.ts";
import {
  copyExtensions,
  type Extension,
  externalPubExtension,
  findExtension,
  ratchetTreeExtension,
} from "../structs/extension.ts";
import type { GroupContext } from "../structs/group-context.ts";
import { type GroupInfo, groupInfoTbs, readGroupInfo } from "../structs/group-info.ts";
import { decodeMlsMessage } from "../structs/mls-message.ts";
import { RatchetTree } from "../tree/ratchet-tree.ts";
import type { MemberState } from "./member-state.ts";

export interface GroupInfoOptions {
  /** Carry the whole tree (12.4.3.3). O(N) bytes; without it the joiner gets the tree elsewhere, by its hash. */
  readonly ratchetTree?: boolean;
  /** Carry external_pub, which external commits need (12.4.3.2). Default true. */
  readonly externalPub?: boolean;
  readonly extensions?: readonly Extension[];
}

/** Creates and signs the GroupInfo of this epoch (12.4.3). O(1), or O(N) with the tree. */
export function createGroupInfo(state: MemberState, options: GroupInfoOptions = {}): GroupInfo {
  const { crypto, context, confirmationTag, tree } = state.public;
  const extensions: Extension[] = [...(options.extensions ?? [])];
  if (options.externalPub ?? true) {
    const { publicKey, privateKey } = deriveExternalKeyPair(crypto, state.secrets.externalSecret);
    privateKey.fill(0);
    extensions.push(externalPubExtension(publicKey));
  }
  if (options.ratchetTree ?? false) extensions.push(ratchetTreeExtension(tree.encode()));
  const content = { groupContext: context, extensions, confirmationTag, signer: state.ownLeaf };
  const signature = signWithLabel(crypto, state.signaturePrivateKey, "GroupInfoTBS", groupInfoTbs(content));
  return { ...content, signature };
}

/** A GroupInfo from an MLSMessage or bare. Nothing is verified. Throws RejectionError. */
export function decodeGroupInfo(bytes: Uint8Array): GroupInfo {
  const message = decodeMlsMessage(bytes);
  if (message.wireFormat !== "mls_group_info") throw new RejectionError("mls/group-info/wire-format");
  return message.groupInfo;
}

/** What a GroupInfo says; all of it copies. */
export interface GroupInfoSummary {
  readonly groupId: Bytes;
  readonly epoch: bigint;
  readonly treeHash: Bytes;
  readonly cipherSuite: number;
  /** Of the GroupContext. */
  readonly extensions: readonly Extension[];
  /** It has external_pub, which external commits need (12.4.3.2). */
  readonly hasExternalPub: boolean;
  /** It carries the whole tree (12.4.3.3). */
  readonly hasRatchetTree: boolean;
}

/** Decodes an MLSMessage with a GroupInfo. Nothing is verified. O(length). Throws RejectionError. */
export function groupInfoSummary(bytes: Uint8Array): GroupInfoSummary {
  const { groupContext, extensions } = decodeGroupInfo(bytes);
  return {
    groupId: ownCopy(groupContext.groupId),
    epoch: groupContext.epoch,
    treeHash: ownCopy(groupContext.treeHash),
    cipherSuite: groupContext.cipherSuite,
    extensions: copyExtensions(groupContext.extensions),
    hasExternalPub: findExtension(extensions, extensionTypes.external_pub) !== undefined,
    hasRatchetTree: findExtension(extensions, extensionTypes.ratchet_tree) !== undefined,
  };
}

/** A bare GroupInfo, as it lies encrypted in a Welcome. */
export function decodeBareGroupInfo(bytes: Uint8Array): GroupInfo {
  return decodeWhole(bytes, readGroupInfo);
}

/**
 * The tree that a GroupInfo stands for: from its ratchet_tree extension or from elsewhere, bound to it by the
 * tree hash before anything else looks at it (12.4.3.1). O(N) hashes. Throws RejectionError.
 */
export function treeOf(
  crypto: CryptoProvider,
  info: GroupInfo,
  ratchetTree: Uint8Array | undefined,
): RatchetTree {
  const bytes = findExtension(info.extensions, extensionTypes.ratchet_tree) ?? ratchetTree;
  if (bytes === undefined) throw new RejectionError("mls/group-info/no-ratchet-tree");
  const tree = RatchetTree.decode(crypto, bytes);
  check("group-info/tree-hash", equalBytes(tree.treeHash(), info.groupContext.treeHash));
  return tree;
}

/** Suite, signer and signature of a GroupInfo (12.4.3, 12.4.3.1). One signature verification. */
export function verifyGroupInfo(crypto: CryptoProvider, info: GroupInfo, tree: RatchetTree): void {
  check("group-info/cipher-suite", info.groupContext.cipherSuite === crypto.suite.id);
  const signatureKey = tree.signatureKey(info.signer);
  check("group-info/signer-not-blank", signatureKey !== undefined);
  const valid =
    signatureKey !== undefined &&
    verifyWithLabel(crypto, signatureKey, "GroupInfoTBS", groupInfoTbs(info), info.signature);
  check("group-info/signature", valid);
}

/** In bytes of its own. */
export function ownContext(context: GroupContext): GroupContext {
  return {
    ...context,
    groupId: ownCopy(context.groupId),
    treeHash: ownCopy(context.treeHash),
    confirmedTranscriptHash: ownCopy(context.confirmedTranscriptHash),
    extensions: copyExtensions(context.extensions),
  };
}

/** The bytes of a copy that nobody else writes to. */
export function ownCopy(bytes: Uint8Array): Bytes {
  return bytes.slice() as Bytes;
}

import { type Bytes, encode, UsageError } from "@murmuration/base";
import { signWithLabel } from "../../src/crypto/labeled.ts";
import type { SignatureKeyPair } from "../../src/crypto/provider.ts";
import { confirmCommit, signCommit, signContent } from "../../src/framing/content.ts";
import { protectPublicMessage } from "../../src/framing/public-message.ts";
import { type CreateCommit, type CreatedCommit, createCommit } from "../../src/group/create-commit.ts";
import { type CommitOptions, internalsOf } from "../../src/group/group.ts";
import { groupDefaults } from "../../src/group/group-config.ts";
import { createGroupInfo, type GroupInfoOptions } from "../../src/group/group-info.ts";
import type { CommittedProposal } from "../../src/group/proposal-list.ts";
import { encodeGroupContext } from "../../src/group/public-epoch.ts";
import { createWelcome, encodeWelcome } from "../../src/group/welcome.ts";
import type { CryptoProvider } from "../../src/index.ts";
import { decodeMlsMessage, encodeMlsMessage, type KeyPackage, type Proposal } from "../../src/index.ts";
import type { RuleId } from "../../src/rules.ts";
import type { Commit } from "../../src/structs/commit.ts";
import type { FramedHeader } from "../../src/structs/framed-content.ts";
import { type GroupInfo, groupInfoTbs } from "../../src/structs/group-info.ts";
import { type KeyPackageContent, keyPackageTbs } from "../../src/structs/key-package.ts";
import {
  type LeafNode,
  type LeafNodeContent,
  type LeafNodePosition,
  leafNodeTbs,
} from "../../src/structs/leaf-node.ts";
import { RatchetTree } from "../../src/tree/ratchet-tree.ts";
import type { Client } from "../clients.ts";
import { without } from "./careless.ts";

/*
 * Wrong messages, built on purpose by members who know every secret and sign properly: what is wrong with them is
 * only what a test names. A sender either runs the engine with some of its rules switched off, or edits what the
 * engine made and signs it again.
 */

const EMPTY: Bytes = new Uint8Array(0);

/** The bytes with one bit of the last byte changed. */
export function damaged(bytes: Uint8Array): Bytes {
  const copy = bytes.slice() as Bytes;
  copy[copy.length - 1]! ^= 1;
  return copy;
}

/** A commit of a member that does not know these rules; it stays in its epoch. */
export function commitWithout(from: Client, off: readonly RuleId[], options: CommitOptions): Bytes {
  return without(off, () => {
    const { message } = from.group.createCommit(options);
    from.group.discardPending();
    return message;
  });
}

/** A proposal of the committer's own. */
export function byValue(from: Client, proposal: Proposal): CommittedProposal {
  return { proposal, sender: { kind: "member", leafIndex: from.group.ownLeaf } };
}

/** A commit with all that follows from it, before it is framed. */
export function created(from: Client, options: Partial<CreateCommit> = {}): CreatedCommit {
  return createCommit(internalsOf(from.group).state, {
    proposals: [],
    path: "always",
    leafChange: {},
    authenticatedData: EMPTY,
    wireFormat: "mls_public_message",
    groupInfo: {},
    policy: groupDefaults.policy,
    psks: groupDefaults.psks,
    ratchetLimits: groupDefaults.ratchetLimits,
    ...options,
  });
}

/** The Commit struct of a created commit. */
export function commitOf({ content: { content } }: Pick<CreatedCommit, "content">): Commit {
  if (content.contentType !== "commit") throw new UsageError("test/not-a-commit");
  return content.commit;
}

export interface Frame {
  readonly header?: Partial<FramedHeader>;
  readonly confirmationTag?: Uint8Array;
}

/** Frames a Commit struct as this member's PublicMessage, with a valid signature and membership tag. */
export function frameCommit(from: Client, commit: Commit, frame: Frame = {}): Bytes {
  const { state } = internalsOf(from.group);
  const { crypto, context, contextBytes } = state.public;
  const unconfirmed = signCommit(crypto, {
    wireFormat: "mls_public_message",
    content: {
      groupId: context.groupId,
      epoch: context.epoch,
      sender: { kind: "member", leafIndex: state.ownLeaf },
      authenticatedData: EMPTY,
      ...frame.header,
      contentType: "commit",
      commit,
    },
    signaturePrivateKey: state.signaturePrivateKey,
    groupContext: contextBytes,
  });
  const tag = frame.confirmationTag ?? new Uint8Array(crypto.suite.hashLength);
  const protection = { membershipKey: state.secrets.membershipKey, groupContext: contextBytes };
  return protectPublicMessage(crypto, confirmCommit(unconfirmed, tag), protection);
}

/** A commit that the engine made, edited and signed again; the confirmation tag stays that of the original. */
export function editedCommit(
  from: Client,
  options: Partial<CreateCommit>,
  edit: (commit: Commit, original: CreatedCommit) => Commit,
): Bytes {
  const original = created(from, options);
  const confirmationTag = original.content.auth.confirmationTag!;
  return frameCommit(from, edit(commitOf(original), original), { confirmationTag });
}

/** A proposal of this member as a PublicMessage; nothing about the proposal is checked. */
export function frameProposal(from: Client, proposal: Proposal): Bytes {
  const { state } = internalsOf(from.group);
  const { crypto, context, contextBytes } = state.public;
  const content = signContent(crypto, {
    wireFormat: "mls_public_message",
    content: {
      groupId: context.groupId,
      epoch: context.epoch,
      sender: { kind: "member", leafIndex: state.ownLeaf },
      authenticatedData: EMPTY,
      contentType: "proposal",
      proposal,
    },
    signaturePrivateKey: state.signaturePrivateKey,
    groupContext: contextBytes,
  });
  const protection = { membershipKey: state.secrets.membershipKey, groupContext: contextBytes };
  return protectPublicMessage(crypto, content, protection);
}

/** Signs a leaf with the given content. */
export function signedLeaf(
  crypto: CryptoProvider,
  keys: SignatureKeyPair,
  content: LeafNodeContent,
  position?: LeafNodePosition,
): LeafNode {
  const { signature: _, ...fields } = content as LeafNode;
  const tbs = leafNodeTbs(fields, position);
  return { ...fields, signature: signWithLabel(crypto, keys.privateKey, "LeafNodeTBS", tbs) };
}

/** The client's own leaf, changed and signed again as an Update or as the leaf of a path. */
export function ownLeaf(from: Client, change: Partial<LeafNodeContent>): LeafNode {
  const current = from.group.tree.leaf(from.group.ownLeaf)!;
  const position = { groupId: from.group.groupId, leafIndex: from.group.ownLeaf };
  const encryptionKey = from.crypto.generateHpkeKeyPair().publicKey;
  return signedLeaf(
    from.crypto,
    from.identity.signatureKeys,
    { ...current, encryptionKey, ...change },
    position,
  );
}

/** A KeyPackage of the client with other fields, signed again. */
export function keyPackageOf(
  client: Client,
  leaf: Partial<LeafNodeContent>,
  fields: Partial<KeyPackageContent> = {},
): KeyPackage {
  const { keyPackage } = client.keyPackage();
  const content = { ...keyPackage.leafNode, ...leaf };
  const position = { groupId: EMPTY, leafIndex: 0 };
  const leafNode = signedLeaf(client.crypto, client.identity.signatureKeys, content, position);
  return signedKeyPackage(client, { ...keyPackage, leafNode, ...fields });
}

export function signedKeyPackage(client: Client, content: KeyPackageContent): KeyPackage {
  const { signature: _, ...fields } = content as KeyPackage;
  const { privateKey } = client.identity.signatureKeys;
  const signature = signWithLabel(client.crypto, privateKey, "KeyPackageTBS", keyPackageTbs(fields));
  return { ...fields, signature };
}

/** A GroupInfo changed and signed again by the client, as its bare struct. */
export function editedGroupInfo(from: Client, info: GroupInfo, change: Partial<GroupInfo>): GroupInfo {
  const { signature: _, ...content } = { ...info, ...change };
  const { signaturePrivateKey } = internalsOf(from.group).state;
  const tbs = groupInfoTbs(content);
  return { ...content, signature: signWithLabel(from.crypto, signaturePrivateKey, "GroupInfoTBS", tbs) };
}

/** The GroupInfo of the client's epoch. */
export function groupInfoOf(from: Client, options: GroupInfoOptions = {}): GroupInfo {
  return createGroupInfo(internalsOf(from.group).state, options);
}

/** A GroupInfo as an MLSMessage. */
export function groupInfoMessage(groupInfo: GroupInfo): Bytes {
  return encodeMlsMessage({ wireFormat: "mls_group_info", groupInfo });
}

/** A Welcome of a created commit, with some of its parts replaced. */
export function welcomeOf(
  from: Client,
  commit: CreatedCommit,
  joiner: KeyPackage,
  change: Partial<Parameters<typeof createWelcome>[1]> = {},
): Bytes {
  return encodeWelcome(
    createWelcome(from.crypto, {
      groupInfo: commit.groupInfo,
      joinerSecret: commit.joinerSecret,
      pskSecret: commit.pskSecret,
      psks: [],
      sender: commit.public.sender,
      path: undefined,
      joiners: [{ leaf: commit.public.addedLeaves[0]!, keyPackage: joiner }],
      ...change,
    }),
  );
}

/** An external commit that somebody made, edited and signed again with the joiner's key. */
export function editedExternalCommit(
  joiner: Client,
  member: Client,
  message: Uint8Array,
  edit: (commit: Commit) => Commit,
): Bytes {
  const decoded = decodeMlsMessage(message);
  if (decoded.wireFormat !== "mls_public_message") throw new UsageError("test/not-a-public-message");
  const { content, auth } = decoded.publicMessage.authenticated;
  if (content.contentType !== "commit") throw new UsageError("test/not-a-commit");
  const unconfirmed = signCommit(joiner.crypto, {
    wireFormat: "mls_public_message",
    content: { ...content, commit: edit(content.commit) },
    signaturePrivateKey: joiner.identity.signatureKeys.privateKey,
    groupContext: encodeGroupContext(member.group.context),
  });
  return protectPublicMessage(joiner.crypto, confirmCommit(unconfirmed, auth.confirmationTag!), undefined);
}

/** The nodes of a ratchet tree: type and bytes, or undefined for blank. */
export type TreeNodes = ({ readonly type: 1 | 2; readonly bytes: Uint8Array } | undefined)[];

export function nodesOf(tree: RatchetTree): TreeNodes {
  const nodes: TreeNodes = Array.from({ length: tree.leafSlots * 2 - 1 }, (_, node) => {
    const bytes = tree.nodeBytes(node);
    return bytes === undefined ? undefined : { type: node % 2 === 0 ? 1 : 2, bytes };
  });
  while (nodes.at(-1) === undefined) nodes.pop();
  return nodes;
}

/** The content of a ratchet_tree extension, of any nodes at all. */
export function encodeNodes(nodes: TreeNodes): Bytes {
  return encode(nodes, (writer, list) => {
    writer.vector(list, (w, node) => w.optional(node, (v, { type, bytes }) => v.uint8(type).fixed(bytes)));
  });
}

/**
 * A GroupInfo message of the client for this tree, its hash in the GroupContext: what the rules about trees, and
 * nothing before them, must refuse. `off` are the rules that stand in the way of hashing the tree.
 */
export function groupInfoFor(from: Client, ratchetTree: Bytes, off: readonly RuleId[] = []): Bytes {
  const treeHash = without(off, () => RatchetTree.decode(from.crypto, ratchetTree).treeHash());
  const info = groupInfoOf(from);
  return groupInfoMessage(editedGroupInfo(from, info, { groupContext: { ...info.groupContext, treeHash } }));
}

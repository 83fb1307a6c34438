import { type Bytes, RejectionError } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { check } from "../rules.ts";
import { sendExternalInit } from "../schedule/key-schedule.ts";
import type { SecretTreeLimits } from "../schedule/secret-tree.ts";
import { type Extension, externalPub } from "../structs/extension.ts";
import type { GroupInfo } from "../structs/group-info.ts";
import type { PreSharedKeyId } from "../structs/psk-id.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { RatchetTree } from "../tree/ratchet-tree.ts";
import { validateTree } from "../tree/tree-validation.ts";
import { assembleCommit, type CreatedCommit } from "./create-commit.ts";
import { type GroupInfoOptions, treeOf, verifyGroupInfo } from "./group-info.ts";
import { epochFromGroupInfo, validateCredentials } from "./join.ts";
import { capabilitiesFor, type LeafOptions, type MemberIdentity } from "./key-package.ts";
import type { GroupPolicy } from "./policy.ts";
import type { CommittedProposal } from "./proposal-list.ts";
import type { PskSource } from "./psk-source.ts";

export interface ExternalCommitRequest {
  readonly groupInfo: GroupInfo;
  readonly ratchetTree?: Uint8Array | undefined;
  readonly identity: MemberIdentity;
  readonly leaf: LeafOptions;
  /** Resync (12.4.3.2): our own old leaf, which the commit removes. */
  readonly removes?: LeafIndex | undefined;
  readonly pskIds: readonly PreSharedKeyId[];
  readonly psks: PskSource;
  readonly authenticatedData: Uint8Array;
  readonly newGroupInfo: GroupInfoOptions;
  readonly policy: GroupPolicy;
  readonly ratchetLimits: SecretTreeLimits;
}

/**
 * Joins by external commit (12.4.3.2). The GroupInfo and its tree are verified like those of a Welcome: O(N).
 * The result is pending until the DS accepts the commit. Throws RejectionError.
 */
export function createExternalCommit(crypto: CryptoProvider, request: ExternalCommitRequest): CreatedCommit {
  const { groupInfo: info } = request;
  const tree = verifiedTree(crypto, request);
  const publicKey = externalPub(info.extensions);
  if (publicKey === undefined) throw new RejectionError("mls/group-info/external-pub");
  check("group-info/external-pub", crypto.isValidHpkePublicKey(publicKey));
  const { kemOutput, initSecret } = sendExternalInit(crypto, publicKey);
  const { signatureKeys, credential } = request.identity;
  const extensions = request.leaf.extensions ?? replacedExtensions(tree, request.removes);
  const created = assembleCommit(
    epochFromGroupInfo(crypto, info, tree),
    {
      proposals: externalProposals(kemOutput, request),
      path: "always",
      leafChange: {},
      authenticatedData: request.authenticatedData,
      wireFormat: "mls_public_message",
      groupInfo: request.newGroupInfo,
      policy: request.policy,
      psks: request.psks,
      ratchetLimits: request.ratchetLimits,
    },
    {
      sender: { kind: "new_member_commit" },
      committer: { kind: "new_member" },
      leaf: {
        signatureKey: signatureKeys.publicKey,
        credential,
        capabilities: request.leaf.capabilities ?? capabilitiesFor(crypto.suite.id, credential, extensions),
        extensions,
      },
      signaturePrivateKey: signatureKeys.privateKey.slice(),
      signingKey: signatureKeys.privateKey,
      privateKeys: new Map(),
      initSecret,
    },
  );
  initSecret.fill(0);
  return created;
}

function verifiedTree(crypto: CryptoProvider, request: ExternalCommitRequest): RatchetTree {
  const tree = treeOf(crypto, request.groupInfo, request.ratchetTree);
  verifyGroupInfo(crypto, request.groupInfo, tree);
  validateTree(tree, request.groupInfo.groupContext);
  validateCredentials(tree, request.groupInfo.groupContext, request.policy);
  return tree;
}

/** A resync keeps the extensions of the leaf that it replaces, as an Update does, unless others are given. */
function replacedExtensions(tree: RatchetTree, removes: LeafIndex | undefined): readonly Extension[] {
  return (removes === undefined ? undefined : tree.leaf(removes)?.extensions) ?? [];
}

function externalProposals(kemOutput: Bytes, request: ExternalCommitRequest): CommittedProposal[] {
  const sender = { kind: "new_member_commit" } as const;
  const list: CommittedProposal[] = [{ proposal: { kind: "external_init", kemOutput }, sender }];
  if (request.removes !== undefined)
    list.push({ proposal: { kind: "remove", removed: request.removes }, sender });
  for (const psk of request.pskIds) list.push({ proposal: { kind: "psk", psk }, sender });
  return list;
}

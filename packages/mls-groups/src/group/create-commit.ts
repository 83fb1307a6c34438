import { type Bytes, zeroize } from "@murmuration/base";
import type { SignatureKeyPair } from "../crypto/provider.ts";
import { confirmCommit, signCommit, type VerifiedContent } from "../framing/content.ts";
import { zeroSecret } from "../schedule/key-schedule.ts";
import type { SecretTreeLimits } from "../schedule/secret-tree.ts";
import type { FramingWireFormat } from "../structs/authenticated-content.ts";
import type { Capabilities } from "../structs/capabilities.ts";
import type { ProposalOrRef } from "../structs/commit.ts";
import type { Credential } from "../structs/credential.ts";
import type { Extension } from "../structs/extension.ts";
import type { Sender } from "../structs/framed-content.ts";
import type { GroupInfo } from "../structs/group-info.ts";
import type { LeafNode } from "../structs/leaf-node.ts";
import type { Welcome } from "../structs/welcome.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { RatchetTree } from "../tree/ratchet-tree.ts";
import {
  type CreatedUpdatePath,
  createUpdatePath,
  keepUsablePrivateKeys,
  type PrivateKeys,
} from "../tree/tree-kem.ts";
import { advanceSecrets, memberState, nextContext, nextPublicEpoch } from "./advance.ts";
import { createGroupInfo, type GroupInfoOptions } from "./group-info.ts";
import type { MemberState } from "./member-state.ts";
import type { GroupPolicy } from "./policy.ts";
import {
  type AppliedProposals,
  applyProposals,
  type CommittedProposal,
  type Committer,
  type ProposalPlan,
  planProposals,
  type SubgroupPsk,
} from "./proposal-list.ts";
import { type PskSource, pskSecretFor } from "./psk-source.ts";
import { encodeGroupContext, type PublicEpoch } from "./public-epoch.ts";
import { provisionalContext, type StagedPublic, validatePathLeaf } from "./stage-public.ts";
import { createWelcome } from "./welcome.ts";

/** What of the committer's leaf a path may change (7.5); what is left out stays. */
export interface LeafChange {
  readonly credential?: Credential;
  readonly signatureKeys?: SignatureKeyPair;
  readonly capabilities?: Capabilities;
  readonly extensions?: readonly Extension[];
}

export interface CreateCommit {
  /** By reference those that have one, by value the others, which are the committer's own. */
  readonly proposals: readonly CommittedProposal[];
  /** "required": omit the path where section 12.4 lets it be omitted. */
  readonly path: "always" | "required";
  readonly leafChange: LeafChange;
  readonly authenticatedData: Uint8Array;
  readonly wireFormat: FramingWireFormat;
  readonly groupInfo: GroupInfoOptions;
  /** Of the GroupInfo in the Welcome, beside those of `groupInfo`. */
  readonly welcomeExtensions?: readonly Extension[];
  readonly policy: GroupPolicy;
  readonly psks: PskSource;
  readonly ratchetLimits: SecretTreeLimits;
  readonly allowSubgroupPsk?: SubgroupPsk | undefined;
}

/** Who commits, with the keys it commits with. For an external joiner `leaf` is taken in the new tree. */
interface Author {
  readonly sender: Sender;
  readonly committer: Committer;
  readonly leaf: Pick<LeafNode, "signatureKey" | "credential" | "capabilities" | "extensions">;
  readonly signaturePrivateKey: Bytes;
  /** Empty for a joiner. */
  readonly privateKeys: PrivateKeys;
  readonly initSecret: Uint8Array;
}

/** A commit of our own before it is framed: everything but the encryption or the membership tag. */
export interface CreatedCommit {
  readonly content: VerifiedContent;
  readonly public: StagedPublic;
  readonly next: MemberState;
  readonly groupInfo: GroupInfo;
  readonly welcome: Welcome | undefined;
  /** For storing a pending commit: the new epoch's secrets follow from these two and the commit. */
  readonly joinerSecret: Bytes;
  readonly pskSecret: Bytes;
}

/**
 * Creates a Commit and, for new members, the Welcome (12.4.1). The state is left as it is. O(log N + proposals)
 * hashes, one HPKE seal for each ciphertext of the path and for each joiner. Throws RejectionError when the
 * proposals are invalid, with the code that receivers would refuse them with.
 */
export function createCommit(state: MemberState, request: CreateCommit): CreatedCommit {
  const current = state.public.tree.leaf(state.ownLeaf)!;
  const change = request.leafChange;
  return assembleCommit(state.public, request, {
    sender: { kind: "member", leafIndex: state.ownLeaf },
    committer: { kind: "member", leaf: state.ownLeaf },
    leaf: {
      signatureKey: change.signatureKeys?.publicKey ?? current.signatureKey,
      credential: change.credential ?? current.credential,
      capabilities: change.capabilities ?? current.capabilities,
      extensions: change.extensions ?? current.extensions,
    },
    // A copy: the group wipes its keys when it is done with them, and these may be the caller's for other groups too.
    signaturePrivateKey: change.signatureKeys?.privateKey.slice() ?? state.signaturePrivateKey,
    privateKeys: state.privateKeys,
    initSecret: state.secrets.initSecret,
    // The old key signs the commit itself; the new one signs the new leaf and everything after.
    signingKey: state.signaturePrivateKey,
  });
}

/** The common part of a member's commit and an external one. */
export function assembleCommit(
  epoch: PublicEpoch,
  request: CreateCommit,
  author: Author & { readonly signingKey: Bytes },
): CreatedCommit {
  const special =
    request.allowSubgroupPsk === undefined ? {} : { allowSubgroupPsk: request.allowSubgroupPsk };
  const plan = planProposals(epoch, request.proposals, author.committer, special);
  const applied = applyProposals(epoch, plan, request.policy);
  const withPath = request.path === "always" || plan.pathRequired;
  const own = ownPath(epoch, applied, plan, request, author, withPath);
  const staged = stagedPublic(epoch, applied, plan, request, author, own);
  const signed = signCommit(epoch.crypto, {
    wireFormat: request.wireFormat,
    content: {
      groupId: epoch.context.groupId,
      epoch: epoch.context.epoch,
      sender: author.sender,
      authenticatedData: request.authenticatedData,
      contentType: "commit",
      commit: { proposals: request.proposals.map(proposalOrRef), path: own.path?.updatePath },
    },
    signaturePrivateKey: author.signingKey,
    groupContext: epoch.contextBytes,
  });
  const next = nextContext(epoch, staged, signed.signed);
  const pskSecret = pskSecretFor(epoch.crypto, plan.psks, request.psks);
  const input = { initSecret: author.initSecret, commitSecret: own.commitSecret, pskSecret };
  const { joinerSecret, secrets, tag } = advanceSecrets(epoch, input, next);
  const nextState = memberState(nextPublicEpoch(epoch, staged, next, tag), secrets, {
    ownLeaf: own.leaf,
    signaturePrivateKey: author.signaturePrivateKey,
    privateKeys: own.privateKeys,
    ratchetLimits: request.ratchetLimits,
  });
  const groupInfo = createGroupInfo(nextState, request.groupInfo);
  const welcome =
    plan.adds.length === 0
      ? undefined
      : createWelcome(epoch.crypto, {
          groupInfo: welcomeGroupInfo(nextState, groupInfo, request),
          joinerSecret,
          pskSecret,
          psks: plan.psks,
          sender: own.leaf,
          path: own.path,
          joiners: plan.adds.map((keyPackage, i) => ({ keyPackage, leaf: applied.addedLeaves[i]! })),
        });
  for (const { pathSecret } of own.path?.pathSecrets ?? []) zeroize(pathSecret);
  return {
    content: confirmCommit(signed, tag),
    public: staged,
    next: nextState,
    groupInfo,
    welcome,
    joinerSecret,
    pskSecret,
  };
}

/** What those who are added are told of the new epoch: what the DS is told, and perhaps more. */
function welcomeGroupInfo(next: MemberState, groupInfo: GroupInfo, request: CreateCommit): GroupInfo {
  const { groupInfo: options, welcomeExtensions = [] } = request;
  if (welcomeExtensions.length === 0) return groupInfo;
  return createGroupInfo(next, {
    ...options,
    extensions: [...(options.extensions ?? []), ...welcomeExtensions],
  });
}

interface OwnPath {
  readonly leaf: LeafIndex;
  readonly tree: RatchetTree;
  readonly treeHash: Uint8Array;
  readonly path: CreatedUpdatePath | undefined;
  readonly commitSecret: Bytes;
  readonly privateKeys: PrivateKeys;
}

function ownPath(
  epoch: PublicEpoch,
  applied: AppliedProposals,
  plan: ProposalPlan,
  request: CreateCommit,
  author: Author,
  withPath: boolean,
): OwnPath {
  const { tree } = applied;
  const leaf = author.committer.kind === "member" ? author.committer.leaf : tree.reserveLeaf();
  if (!withPath) {
    return {
      leaf,
      tree,
      treeHash: tree.treeHash(),
      path: undefined,
      commitSecret: zeroSecret(epoch.crypto),
      privateKeys: keepUsablePrivateKeys(tree, leaf, author.privateKeys),
    };
  }
  const path = createUpdatePath(tree, {
    sender: leaf,
    groupId: epoch.context.groupId,
    leaf: author.leaf,
    signaturePrivateKey: author.signaturePrivateKey,
    groupContext: (treeHash) => encodeGroupContext(provisionalContext(epoch, applied, treeHash)),
    addedLeaves: applied.addedLeaves,
  });
  // What receivers will refuse is refused here. Only a leaf that changed can be invalid, which is rare: so the
  // proposals are applied once more for a tree without the path instead of keeping one at every commit.
  if (author.committer.kind === "new_member" || Object.keys(request.leafChange).length > 0) {
    const before = applyProposals(epoch, plan, request.policy);
    if (author.committer.kind === "new_member") before.tree.reserveLeaf();
    const { leafNode } = path.updatePath;
    validatePathLeaf(epoch, before, request.proposals, leafNode, author.committer, leaf, request.policy);
  }
  return {
    leaf,
    tree,
    treeHash: path.treeHash,
    path,
    commitSecret: path.commitSecret,
    privateKeys: path.privateKeys,
  };
}

function stagedPublic(
  epoch: PublicEpoch,
  applied: AppliedProposals,
  plan: ProposalPlan,
  request: CreateCommit,
  author: Author,
  own: OwnPath,
): StagedPublic {
  request.policy.authorize?.({
    epoch,
    committer: author.committer.kind === "member" ? author.committer.leaf : undefined,
    proposals: request.proposals,
    pathLeaf: own.path?.updatePath.leafNode,
  });
  const provisional = provisionalContext(epoch, applied, own.treeHash);
  return {
    plan,
    proposals: request.proposals,
    sender: own.leaf,
    external: author.committer.kind === "new_member",
    tree: own.tree,
    addedLeaves: applied.addedLeaves,
    provisional,
    provisionalBytes: encodeGroupContext(provisional),
  };
}

function proposalOrRef({ proposal, reference }: CommittedProposal): ProposalOrRef {
  return reference === undefined ? { kind: "proposal", proposal } : { kind: "reference", reference };
}

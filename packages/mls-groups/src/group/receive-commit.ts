import { type Bytes, equalSecret, zeroize } from "@murmuration/base";
import { check } from "../rules.ts";
import { receiveExternalInit, zeroSecret } from "../schedule/key-schedule.ts";
import type { SecretTreeLimits } from "../schedule/secret-tree.ts";
import type { AuthenticatedContent } from "../structs/authenticated-content.ts";
import type { Commit } from "../structs/commit.ts";
import { leafToNode } from "../tree/math.ts";
import { decryptUpdatePath, keepUsablePrivateKeys, type PrivateKeys } from "../tree/tree-kem.ts";
import { advanceSecrets, memberState, nextContext, nextPublicEpoch } from "./advance.ts";
import type { MemberState } from "./member-state.ts";
import type { GroupPolicy } from "./policy.ts";
import { type PskSource, pskSecretFor } from "./psk-source.ts";
import { type ResolveProposal, type StagedPublic, stagePublic } from "./stage-public.ts";

/** Private keys of an Update of our own that a commit may cover, by its ProposalRef in hex. */
export interface OwnUpdate {
  readonly leafPrivateKey: Bytes;
  readonly signaturePrivateKey: Bytes;
}

export interface ReceiveCommitContext {
  readonly resolve: ResolveProposal;
  readonly policy: GroupPolicy;
  readonly psks: PskSource;
  readonly ratchetLimits: SecretTreeLimits;
  readonly ownUpdate: (reference: Uint8Array) => OwnUpdate | undefined;
  readonly acceptedAtMs?: number | undefined;
}

/** A received commit that passed every check. Nothing has changed yet. */
export interface StagedCommit {
  readonly public: StagedPublic;
  /** The state of the new epoch; undefined when the commit removes us. */
  readonly next: MemberState | undefined;
  /** The commit that was received. */
  readonly authenticated: AuthenticatedContent;
}

/**
 * Processes a commit of another member or of an external joiner (12.4.2). `authenticated` holds verified content.
 * The state is left as it is. O(log N + proposals): one HPKE open, key derivations up the path, key schedule.
 * Throws RejectionError.
 */
export function receiveCommit(
  state: MemberState,
  authenticated: AuthenticatedContent & {
    readonly content: { readonly contentType: "commit"; readonly commit: Commit };
  },
  context: ReceiveCommitContext,
): StagedCommit {
  const { content, auth } = authenticated;
  const epoch = state.public;
  const { acceptedAtMs, policy, resolve } = context;
  const staged = stagePublic(epoch, content.commit, content.sender, resolve, policy, { acceptedAtMs });
  if (staged.plan.removes.includes(state.ownLeaf)) return { public: staged, next: undefined, authenticated };
  const pskSecret = pskSecretFor(epoch.crypto, staged.plan.psks, context.psks);
  const own = ownKeys(state, staged, context);
  const { commitSecret, privateKeys } = pathSecrets(state, staged, content.commit, own.privateKeys);
  const next = nextContext(epoch, staged, authenticated);
  const initSecret = initSecretFor(state, staged);
  const { joinerSecret, secrets, tag } = advanceSecrets(epoch, { initSecret, commitSecret, pskSecret }, next);
  zeroize(joinerSecret, pskSecret);
  if (initSecret !== state.secrets.initSecret) zeroize(initSecret);
  check("commit/confirmation-tag", equalSecret(tag, auth.confirmationTag ?? new Uint8Array(0)));
  const nextEpoch = nextPublicEpoch(epoch, staged, next, tag);
  return {
    public: staged,
    authenticated,
    next: memberState(nextEpoch, secrets, {
      ownLeaf: state.ownLeaf,
      signaturePrivateKey: own.signaturePrivateKey,
      privateKeys,
      ratchetLimits: context.ratchetLimits,
    }),
  };
}

/** Our keys of the old epoch; where the commit covers an Update of ours, with that Update's leaf keys (12.1.2). */
function ownKeys(
  state: MemberState,
  staged: StagedPublic,
  context: ReceiveCommitContext,
): { privateKeys: PrivateKeys; signaturePrivateKey: Bytes } {
  const update = staged.plan.updates.find(({ leaf }) => leaf === state.ownLeaf);
  const keys = update?.reference === undefined ? undefined : context.ownUpdate(update.reference);
  if (keys === undefined) return state;
  const privateKeys = new Map(state.privateKeys);
  // Of its own: the one of the Update is wiped with it.
  privateKeys.set(leafToNode(state.ownLeaf), keys.leafPrivateKey.slice());
  return { privateKeys, signaturePrivateKey: keys.signaturePrivateKey };
}

function pathSecrets(
  state: MemberState,
  staged: StagedPublic,
  commit: Commit,
  privateKeys: PrivateKeys,
): { commitSecret: Bytes; privateKeys: PrivateKeys } {
  const { crypto } = state.public;
  if (commit.path === undefined) {
    return {
      commitSecret: zeroSecret(crypto),
      privateKeys: keepUsablePrivateKeys(staged.tree, state.ownLeaf, privateKeys),
    };
  }
  return decryptUpdatePath(staged.tree, {
    sender: staged.sender,
    updatePath: commit.path,
    addedLeaves: staged.addedLeaves,
    receiver: state.ownLeaf,
    privateKeys,
    groupContext: staged.provisionalBytes,
  });
}

/** Section 8.3: an external commit replaces the init secret by the one its ExternalInit carries. */
function initSecretFor(state: MemberState, staged: StagedPublic): Bytes {
  const { externalInit } = staged.plan;
  if (externalInit === undefined) return state.secrets.initSecret;
  return receiveExternalInit(state.public.crypto, state.secrets.externalSecret, externalInit);
}

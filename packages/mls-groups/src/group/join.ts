import { type Bytes, decodeWhole, equalBytes, equalSecret, RejectionError, zeroize } from "@murmuration/base";
import { decryptWithLabel } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import { check } from "../rules.ts";
import {
  confirmationTag,
  deriveEpochSecrets,
  deriveWelcomeKey,
  type EpochSecrets,
} from "../schedule/key-schedule.ts";
import type { SecretTreeLimits } from "../schedule/secret-tree.ts";
import { interimTranscriptHash } from "../schedule/transcript-hash.ts";
import { type GroupContext, groupContextBytes } from "../structs/group-context.ts";
import type { GroupInfo } from "../structs/group-info.ts";
import { leafNodeBytes } from "../structs/leaf-node.ts";
import { findNewMember, type GroupSecrets, readGroupSecrets, type Welcome } from "../structs/welcome.ts";
import { directPath, type LeafIndex } from "../tree/math.ts";
import type { RatchetTree } from "../tree/ratchet-tree.ts";
import { joinPrivateKeys, type PrivateKeys } from "../tree/tree-kem.ts";
import { validateTree, validateTreeInBatches } from "../tree/tree-validation.ts";
import { memberState } from "./advance.ts";
import { decodeBareGroupInfo, ownContext, ownCopy, treeOf, verifyGroupInfo } from "./group-info.ts";
import { type KeyPackageBundle, keyPackageRef } from "./key-package.ts";
import type { MemberState } from "./member-state.ts";
import type { GroupPolicy } from "./policy.ts";
import { validateExternalSenders } from "./proposal-list.ts";
import { type PskSource, pskSecretFor } from "./psk-source.ts";
import { encodeGroupContext, type PublicEpoch } from "./public-epoch.ts";
import { decodeWelcome } from "./welcome.ts";

/** What a new group must look like when it continues another one (11.2, 11.3). */
export interface SubgroupExpectation {
  readonly usage: "reinit" | "branch";
  /** Throws a RejectionError when the new group does not follow from the old one. */
  validate(context: GroupContext, tree: RatchetTree): void;
}

export interface JoinRequest {
  /** An MLSMessage with a Welcome. */
  readonly welcome: Uint8Array;
  readonly keyPackage: KeyPackageBundle;
  /** The tree when the Welcome does not carry it; bound by its hash, so the source need not be trusted. */
  readonly ratchetTree?: Uint8Array | undefined;
  readonly policy: GroupPolicy;
  readonly psks: PskSource;
  readonly ratchetLimits: SecretTreeLimits;
  /** Asked for when the Welcome injects a resumption PSK for a subgroup; undefined refuses it. */
  readonly subgroup?:
    | ((usage: "reinit" | "branch", groupId: Uint8Array, epoch: bigint) => SubgroupExpectation | undefined)
    | undefined;
}

/** What was learnt before the tree's leaves are verified. */
interface OpenedWelcome {
  readonly secrets: GroupSecrets;
  readonly plaintext: Bytes;
  readonly pskSecret: Bytes;
  readonly info: GroupInfo;
  readonly tree: RatchetTree;
  readonly subgroup: SubgroupExpectation | undefined;
}

/**
 * Joins by Welcome (12.4.3.1). O(N): the tree is decoded, bound to the GroupInfo by its hash, and each leaf
 * verified: N signature verifications and about 2N hashes. Throws RejectionError; the KeyPackage's keys are not
 * wiped, since they are deleted by their owner once the joined group is stored.
 */
export function joinByWelcome(crypto: CryptoProvider, request: JoinRequest): MemberState {
  const opened = openWelcome(crypto, request);
  validateTree(opened.tree, opened.info.groupContext);
  validateCredentials(opened.tree, opened.info.groupContext, request.policy);
  return finishJoin(crypto, request, opened);
}

/** The same with signatures verified in batches off the main thread where the provider can. */
export async function joinByWelcomeInBatches(
  crypto: CryptoProvider,
  request: JoinRequest,
): Promise<{ readonly state: MemberState; readonly info: GroupInfo }> {
  const opened = openWelcome(crypto, request);
  await validateTreeAndCredentials(opened.tree, opened.info.groupContext, request.policy);
  return { state: finishJoin(crypto, request, opened), info: opened.info };
}

function openWelcome(crypto: CryptoProvider, request: JoinRequest): OpenedWelcome {
  const welcome = decodeWelcome(request.welcome);
  const { keyPackage } = request.keyPackage;
  check(
    "welcome/cipher-suite",
    welcome.cipherSuite === crypto.suite.id && keyPackage.cipherSuite === crypto.suite.id,
  );
  const plaintext = openGroupSecrets(crypto, welcome, request.keyPackage);
  const secrets = decodeWhole(plaintext, readGroupSecrets);
  const subgroup = subgroupOf(secrets, request);
  const pskSecret = pskSecretFor(crypto, secrets.psks, request.psks);
  const info = openGroupInfo(crypto, welcome, secrets, pskSecret);
  const tree = treeOf(crypto, info, request.ratchetTree);
  verifyGroupInfo(crypto, info, tree);
  return { secrets, plaintext, pskSecret, info, tree, subgroup };
}

function openGroupSecrets(crypto: CryptoProvider, welcome: Welcome, bundle: KeyPackageBundle): Bytes {
  const index = findNewMember(welcome, keyPackageRef(crypto, bundle.keyPackage));
  check("welcome/key-package-listed", index !== undefined);
  const { kemOutput, ciphertext } = welcome.secrets.at(index ?? 0).encryptedGroupSecrets;
  return decryptWithLabel(
    crypto,
    bundle.initPrivateKey,
    bundle.keyPackage.initKey,
    "Welcome",
    welcome.encryptedGroupInfo,
    kemOutput,
    ciphertext,
  );
}

function openGroupInfo(
  crypto: CryptoProvider,
  welcome: Welcome,
  secrets: GroupSecrets,
  pskSecret: Uint8Array,
): GroupInfo {
  const { key, nonce } = deriveWelcomeKey(crypto, secrets.joinerSecret, pskSecret);
  try {
    return decodeBareGroupInfo(crypto.open(key, nonce, new Uint8Array(0), welcome.encryptedGroupInfo));
  } finally {
    zeroize(key, nonce);
  }
}

/** Section 12.4.3.1: at most one PSK of usage reinit or branch, and then we must know the group it comes from. */
function subgroupOf(secrets: GroupSecrets, request: JoinRequest): SubgroupExpectation | undefined {
  const linked = secrets.psks.filter((id) => id.kind === "resumption" && id.usage !== "application");
  check("welcome/single-subgroup-psk", linked.length <= 1);
  const id = linked[0];
  if (id === undefined || id.kind !== "resumption" || id.usage === "application") return undefined;
  const expectation = request.subgroup?.(id.usage, id.pskGroupId, id.pskEpoch);
  if (expectation === undefined) throw new RejectionError("mls/welcome/unexpected-subgroup");
  return expectation;
}

function finishJoin(crypto: CryptoProvider, request: JoinRequest, opened: OpenedWelcome): MemberState {
  const { secrets: groupSecrets, info, tree, pskSecret, subgroup } = opened;
  const ownLeaf = ownLeafOf(tree, request.keyPackage);
  if (subgroup !== undefined) {
    check("welcome/subgroup-epoch", info.groupContext.epoch === 1n);
    subgroup.validate(info.groupContext, tree);
  }
  const privateKeys = joinPrivateKeys(tree, {
    leaf: ownLeaf,
    leafPrivateKey: ownCopy(request.keyPackage.leafPrivateKey),
    signer: info.signer,
    pathSecret: groupSecrets.pathSecret,
  });
  // Section 12.4.3.1: path_secret may be left out only if the Commit had no path.
  check("welcome/direct-path-keys-known", knowsDirectPath(tree, ownLeaf, privateKeys));
  const contextBytes = groupContextBytes(info.groupContext);
  const secrets = deriveEpochSecrets(crypto, groupSecrets.joinerSecret, pskSecret, contextBytes);
  zeroize(opened.plaintext, pskSecret);
  const epoch = epochFromGroupInfo(crypto, info, tree);
  requireConfirmationTag(crypto, secrets, info);
  return memberState(epoch, secrets, {
    ownLeaf,
    signaturePrivateKey: ownCopy(request.keyPackage.signaturePrivateKey),
    privateKeys,
    ratchetLimits: request.ratchetLimits,
  });
}

/** The public epoch that a GroupInfo describes, in bytes of its own: the message it came in may be large. */
export function epochFromGroupInfo(crypto: CryptoProvider, info: GroupInfo, tree: RatchetTree): PublicEpoch {
  const context = ownContext(info.groupContext);
  return {
    crypto,
    context,
    contextBytes: encodeGroupContext(context),
    tree,
    confirmationTag: ownCopy(info.confirmationTag),
    interimTranscriptHash: interimTranscriptHash(
      crypto,
      context.confirmedTranscriptHash,
      info.confirmationTag,
    ),
  };
}

/**
 * Whether a member holds the private key of every node of its direct path at which it is merged. Without one it could
 * not open what is sealed to that node, and every later commit would be lost. O(log N + unmerged leaves).
 */
export function knowsDirectPath(tree: RatchetTree, leaf: LeafIndex, keys: PrivateKeys): boolean {
  return directPath(leaf, tree.leafSlots).every(
    (node) => keys.has(node) || tree.isBlank(node) || Array.from(tree.unmergedLeaves(node)).includes(leaf),
  );
}

function requireConfirmationTag(crypto: CryptoProvider, secrets: EpochSecrets, info: GroupInfo): void {
  const tag = confirmationTag(crypto, secrets.confirmationKey, info.groupContext.confirmedTranscriptHash);
  check("group-info/confirmation-tag", equalSecret(tag, info.confirmationTag));
}

function ownLeafOf(tree: RatchetTree, bundle: KeyPackageBundle): LeafIndex {
  const { leafNode } = bundle.keyPackage;
  const leaf = tree.leafBySignatureKey(leafNode.signatureKey);
  const stored = leaf === undefined ? undefined : tree.leafBytes(leaf);
  if (leaf === undefined || stored === undefined) throw new RejectionError("mls/welcome/leaf-in-tree");
  check("welcome/leaf-in-tree", equalBytes(stored, leafNodeBytes(leafNode)));
  return leaf;
}

/**
 * The application's word on a group that is joined or followed: on the group as such, and as Authentication Service on
 * every member and external sender (5.3.1). O(N) unless the policy accepts all.
 */
export function validateCredentials(
  tree: RatchetTree,
  context: Pick<GroupContext, "extensions">,
  policy: GroupPolicy,
): void {
  validateGroupItself(context, policy);
  const validate = credentialValidator(tree, policy);
  if (validate !== undefined) for (const leaf of tree.members()) validate(leaf);
}

/**
 * The tree and {@link validateCredentials} together: what the application verifies is verified on this thread while the
 * signatures of the leaves are on the pool, and between batches others have their turn.
 */
export async function validateTreeAndCredentials(
  tree: RatchetTree,
  context: GroupContext,
  policy: GroupPolicy,
): Promise<void> {
  validateGroupItself(context, policy);
  await validateTreeInBatches(tree, context, credentialValidator(tree, policy));
}

function validateGroupItself(context: Pick<GroupContext, "extensions">, policy: GroupPolicy): void {
  policy.validateGroup?.(context);
  validateExternalSenders(context.extensions, policy);
}

function credentialValidator(
  tree: RatchetTree,
  policy: GroupPolicy,
): ((leaf: LeafIndex) => void) | undefined {
  if (policy.acceptsAnyCredential === true) return undefined;
  return (leaf) => {
    const { credential, signatureKey } = tree.leaf(leaf)!;
    check("leaf-node/credential-valid", policy.credentialIsValid(credential, signatureKey));
  };
}

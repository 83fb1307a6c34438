import { verifyWithLabel } from "../crypto/labeled.ts";
import { check } from "../rules.ts";
import { isDefaultExtensionType, isDefaultProposalType, MLS10 } from "../structs/code-points.ts";
import { credentialType } from "../structs/credential.ts";
import { areDistinct, type Extension, requiredCapabilities } from "../structs/extension.ts";
import { type LeafNode, leafNodeTbs } from "../structs/leaf-node.ts";
import type { LeafIndex } from "./math.ts";
import type { RatchetTree } from "./ratchet-tree.ts";

export interface TreeContext {
  readonly groupId: Uint8Array;
  /** Extensions of the GroupContext. */
  readonly extensions: readonly Extension[];
}

export interface LeafNodeContext extends TreeContext {
  /** Where the LeafNode stands (section 7.3). */
  readonly source: LeafNode["source"]["kind"];
  /** The sender's leaf, for update and commit: its present occupant is no other member. Undefined for an Add. */
  readonly leaf?: LeafIndex | undefined;
}

/** What the GroupContext asks of every leaf (sections 11.1 and 13.4), without the types that all support. */
export interface GroupRequirements {
  readonly extensions: readonly number[];
  readonly required: {
    readonly extensions: readonly number[];
    readonly proposals: readonly number[];
    readonly credentials: readonly number[];
  };
}

/** Throws RejectionError `coder/…` when required_capabilities does not decode. */
export function groupRequirements(extensions: readonly Extension[]): GroupRequirements {
  const required = requiredCapabilities(extensions);
  const needed = (types: readonly number[] | undefined, isDefault: (type: number) => boolean) =>
    (types ?? []).filter((type) => !isDefault(type));
  return {
    extensions: needed(
      extensions.map(({ type }) => type),
      isDefaultExtensionType,
    ),
    required: {
      extensions: needed(required?.extensionTypes, isDefaultExtensionType),
      proposals: needed(required?.proposalTypes, isDefaultProposalType),
      credentials: required?.credentialTypes ?? [],
    },
  };
}

const includesAll = (list: readonly number[], types: readonly number[]): boolean =>
  types.every((type) => list.includes(type));

/**
 * What a LeafNode says about itself and the group's parameters (sections 7.2, 7.3, 13.4); needs no other
 * member. O(its size).
 */
export function validateLeafNodeAlone(
  tree: RatchetTree,
  leafNode: LeafNode,
  requirements: GroupRequirements,
): void {
  const { capabilities, extensions } = leafNode;
  check("leaf-node/protocol-version-supported", capabilities.versions.includes(MLS10));
  const type = credentialType(leafNode.credential);
  check("leaf-node/own-credential-type-listed", capabilities.credentials.includes(type));
  check("leaf-node/extensions-distinct", areDistinct(extensions));
  const own = extensions.map((extension) => extension.type).filter((t) => !isDefaultExtensionType(t));
  check("leaf-node/own-extensions-listed", includesAll(capabilities.extensions, own));
  check(
    "leaf-node/group-extensions-supported",
    includesAll(capabilities.extensions, requirements.extensions),
  );
  const { required } = requirements;
  check(
    "leaf-node/required-capabilities",
    includesAll(capabilities.extensions, required.extensions) &&
      includesAll(capabilities.proposals, required.proposals) &&
      includesAll(capabilities.credentials, required.credentials),
  );
  check("leaf-node/encryption-key-valid", tree.crypto.isValidHpkePublicKey(leafNode.encryptionKey));
}

/** The credential rules between a leaf and the other members (section 7.3). O(credential types in use). */
function validateCredentialSupport(
  tree: RatchetTree,
  leafNode: LeafNode,
  replaced: LeafNode | undefined,
): void {
  const type = credentialType(leafNode.credential);
  const leavesWith = replaced !== undefined && !replaced.capabilities.credentials.includes(type) ? 1 : 0;
  check("leaf-node/credential-supported-by-members", tree.lackingCredential(type) === leavesWith);
  const replacedType = replaced === undefined ? undefined : credentialType(replaced.credential);
  for (const [used, count] of tree.credentialsInUse()) {
    if (used === replacedType && count === 1) continue;
    check("leaf-node/credentials-in-use-supported", leafNode.capabilities.credentials.includes(used));
  }
}

function validateKeys(tree: RatchetTree, leafNode: LeafNode, context: LeafNodeContext): void {
  const { leaf, source } = context;
  const bySignatureKey = tree.leafBySignatureKey(leafNode.signatureKey);
  check("leaf-node/signature-key-unique", bySignatureKey === undefined || bySignatureKey === leaf);
  const node = tree.nodeByEncryptionKey(leafNode.encryptionKey);
  const own = leaf === undefined ? undefined : leaf * 2;
  if (node !== undefined && node === own) {
    // For a commit this is a rule of the UpdatePath and checked with it.
    check("leaf-node/encryption-key-changed", source !== "update");
  } else check("leaf-node/encryption-key-unique", node === undefined);
}

/**
 * Validates a LeafNode that is about to enter `tree` (section 7.3) but for its lifetime: source, signature,
 * own consistency, support for the group's extensions and required capabilities, credential support across
 * all members, unique keys. `tree` has those proposals applied that come before. O(size of the leaf) and one
 * signature verification. Throws RejectionError `mls/leaf-node/…`.
 */
export function validateLeafNode(tree: RatchetTree, leafNode: LeafNode, context: LeafNodeContext): void {
  check("leaf-node/source", leafNode.source.kind === context.source);
  validateLeafNodeAlone(tree, leafNode, groupRequirements(context.extensions));
  const replaced = context.leaf === undefined ? undefined : tree.leaf(context.leaf);
  validateCredentialSupport(tree, leafNode, replaced);
  validateKeys(tree, leafNode, context);
  const position =
    context.leaf === undefined ? undefined : { groupId: context.groupId, leafIndex: context.leaf };
  const tbs = leafNodeTbs(leafNode, position);
  check(
    "leaf-node/signature",
    verifyWithLabel(tree.crypto, leafNode.signatureKey, "LeafNodeTBS", tbs, leafNode.signature),
  );
}

/**
 * The lifetime rule (section 7.3) for a LeafNode that is being sent, and for a server that accepts one. A
 * member that receives a Commit never applies it: clocks do not decide whether a Commit is valid.
 * `maximumSeconds` bounds the whole lifetime. LeafNodes of another source have no lifetime and pass.
 */
export function validateLifetime(leafNode: LeafNode, nowSeconds: bigint, maximumSeconds?: bigint): void {
  if (leafNode.source.kind !== "key_package") return;
  const { notBefore, notAfter } = leafNode.source.lifetime;
  const current = notBefore <= nowSeconds && nowSeconds <= notAfter;
  const short = maximumSeconds === undefined || notAfter - notBefore <= maximumSeconds;
  check("leaf-node/lifetime", current && short);
}

/**
 * Whether all members can live under these GroupContext extensions (sections 12.1.7 and 13.4): each supports
 * every extension type and every required capability. O(1) for each type.
 */
export function validateGroupExtensions(tree: RatchetTree, extensions: readonly Extension[]): void {
  const { extensions: used, required } = groupRequirements(extensions);
  check(
    "leaf-node/group-extensions-supported",
    used.every((type) => tree.lackingExtension(type) === 0),
  );
  check(
    "leaf-node/required-capabilities",
    required.extensions.every((type) => tree.lackingExtension(type) === 0) &&
      required.proposals.every((type) => tree.lackingProposal(type) === 0) &&
      required.credentials.every((type) => tree.lackingCredential(type) === 0),
  );
}

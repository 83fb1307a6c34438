import { verifyWithLabel } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import { check } from "../rules.ts";
import { isDefaultExtensionType, isDefaultProposalType, MLS10 } from "../structs/code-points.ts";
import { credentialType } from "../structs/credential.ts";
import { type Extension, requiredCapabilities } from "../structs/extension.ts";
import { type LeafNode, leafNodeBytes, leafNodeTbs } from "../structs/leaf-node.ts";
import { listsType } from "./capability-counters.ts";
import { contentEnd, contentStart, locateLeafFields, newLeafFields, uint16At } from "./encoded-node.ts";
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
  /** The signature of this very LeafNode was verified for this very place before. */
  readonly signatureVerified?: boolean;
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

const known = new WeakMap<readonly Extension[], GroupRequirements>();

/**
 * Read once for each list, which is not changed: many leaves are held to one. Throws RejectionError `coder/…` when
 * required_capabilities does not decode.
 */
export function groupRequirements(extensions: readonly Extension[]): GroupRequirements {
  const before = known.get(extensions);
  if (before !== undefined) return before;
  const requirements = readRequirements(extensions);
  known.set(extensions, requirements);
  return requirements;
}

function readRequirements(extensions: readonly Extension[]): GroupRequirements {
  const required = requiredCapabilities(extensions);
  const needed = (types: readonly number[] | undefined, isDefault: (type: number) => boolean) =>
    [...new Set(types)].filter((type) => !isDefault(type));
  return {
    extensions: needed(
      extensions.map(({ type }) => type),
      isDefaultExtensionType,
    ),
    required: {
      extensions: needed(required?.extensionTypes, isDefaultExtensionType),
      proposals: needed(required?.proposalTypes, isDefaultProposalType),
      credentials: [...new Set(required?.credentialTypes)],
    },
  };
}

const fields = newLeafFields();

/** The types of a leaf's extensions, in their order. */
function extensionTypesAt(bytes: Uint8Array, at: number): number[] {
  const types: number[] = [];
  const end = contentEnd(bytes, at);
  for (let i = contentStart(bytes, at); i < end; i = contentEnd(bytes, i + 2)) types.push(uint16At(bytes, i));
  return types;
}

/**
 * What an encoded LeafNode says about itself and the group's parameters (sections 7.2, 7.3, 13.4); needs no
 * other member. `bytes` has passed `requireLeafNode`. O(its size), nothing is decoded: a joiner asks this of
 * every member.
 */
export function validateLeafNodeAlone(
  crypto: CryptoProvider,
  bytes: Uint8Array,
  requirements: GroupRequirements,
): void {
  locateLeafFields(bytes, 0, fields);
  const [versionsAt, , extensionsAt, proposalsAt, credentialsAt] = fields.capabilitiesAt;
  const listsAll = (at: number, types: readonly number[]) =>
    types.every((type) => listsType(bytes, at, type));
  check("leaf-node/protocol-version-supported", listsType(bytes, versionsAt, MLS10));
  const credential = uint16At(bytes, fields.credentialAt);
  check("leaf-node/own-credential-type-listed", listsType(bytes, credentialsAt, credential));
  const own = extensionTypesAt(bytes, fields.extensionsAt);
  check("leaf-node/extensions-distinct", own.length < 2 || new Set(own).size === own.length);
  check(
    "leaf-node/own-extensions-listed",
    own.every((type) => isDefaultExtensionType(type) || listsType(bytes, extensionsAt, type)),
  );
  check("leaf-node/group-extensions-supported", listsAll(extensionsAt, requirements.extensions));
  const { required } = requirements;
  check(
    "leaf-node/required-capabilities",
    listsAll(extensionsAt, required.extensions) &&
      listsAll(proposalsAt, required.proposals) &&
      listsAll(credentialsAt, required.credentials),
  );
  const encryptionKey = bytes.subarray(contentStart(bytes, 0), contentEnd(bytes, 0));
  check("leaf-node/encryption-key-valid", crypto.isValidHpkePublicKey(encryptionKey));
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
  validateLeafNodeAlone(tree.crypto, leafNodeBytes(leafNode), groupRequirements(context.extensions));
  const replaced = context.leaf === undefined ? undefined : tree.leaf(context.leaf);
  validateCredentialSupport(tree, leafNode, replaced);
  validateKeys(tree, leafNode, context);
  if (context.signatureVerified === true) return;
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

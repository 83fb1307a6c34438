/**
 * The member side of RFC 9420. Start at {@link Group}; the other modules are one section of the RFC each.
 */

export * from "./community/index.ts";
export { counting } from "./crypto/counting.ts";
export { nativeCrypto } from "./crypto/native.ts";
export type { CryptoProvider, HpkeKeyPair, RandomSource, SignatureKeyPair } from "./crypto/provider.ts";
export { type CipherSuite, type CipherSuiteId, cipherSuite } from "./crypto/suites.ts";
export { noPadding, type PaddingPolicy, padme, padToMultipleOf } from "./framing/padding.ts";
export { type CheckedKeyPackage, checkKeyPackage } from "./group/check-key-package.ts";
export {
  createExternalProposal,
  createNewMemberProposal,
  type ProposalTarget,
} from "./group/external-proposal.ts";
export {
  type CommitBundle,
  type CommitOptions,
  type CreateGroup,
  Group,
  type Member,
  type PendingCommit,
} from "./group/group.ts";
export { type GroupConfig, groupDefaults } from "./group/group-config.ts";
export { type GroupInfoOptions, type GroupInfoSummary, groupInfoSummary } from "./group/group-info.ts";
export type { GroupStatus } from "./group/group-rows.ts";
export {
  type JoinExternally,
  type JoinWithWelcome,
  joinGroup,
  joinGroupExternally,
  joinGroupInBatches,
} from "./group/join-group.ts";
export {
  capabilitiesFor,
  generateKeyPackage,
  type KeyPackageBundle,
  type KeyPackageOptions,
  keyPackageRef,
  type LeafOptions,
  type MemberIdentity,
} from "./group/key-package.ts";
export {
  advanceTree,
  credentialIn,
  leafOfSignatureKey,
  leavesOfTree,
  welcomeReferences,
} from "./group/look-ups.ts";
export type { MergePoint } from "./group/merge.ts";
export { type CommitView, equalCredentials, type GroupPolicy, openPolicy } from "./group/policy.ts";
export type { CommittedProposal } from "./group/proposal-list.ts";
export { noPsks, type PskSource } from "./group/psk-source.ts";
export type { Received, ReceivedCommit, ReceiveOptions } from "./group/receive.ts";
export type { ReceiveWindow } from "./group/retained-epochs.ts";
export { signForService, verifyLeafSignature } from "./group/service-signature.ts";
export {
  bytesWritten,
  type GroupStore,
  type GroupWrites,
  MemoryGroupStore,
  WriteSet,
} from "./group/store.ts";
export {
  type Branch,
  branchGroup,
  type ContinuedGroup,
  type ContinueGroup,
  continueByReInit,
} from "./group/subgroup.ts";
export { trimWelcomes } from "./group/welcome.ts";
export * from "./planner/index.ts";
export type { Credential } from "./structs/credential.ts";
export { type Extension, findExtension, lastResortExtension } from "./structs/extension.ts";
export { type KeyPackage, keyPackageBytes } from "./structs/key-package.ts";
export type { LeafNode, Lifetime } from "./structs/leaf-node.ts";
export { decodeMlsMessage, encodeMlsMessage, type MlsMessage } from "./structs/mls-message.ts";
export type { Proposal, ReInit } from "./structs/proposal.ts";
export type { PreSharedKeyId } from "./structs/psk-id.ts";
export type { LeafIndex } from "./tree/math.ts";
export type { RatchetTree } from "./tree/ratchet-tree.ts";

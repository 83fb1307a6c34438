/** The public side of RFC 9420: a follower of a group that holds no secrets, and what members and it both run. */
export * from "../community/index.ts";
export { nativeCrypto } from "../crypto/native.ts";
export type { CryptoProvider } from "../crypto/provider.ts";
export { type CheckedKeyPackage, checkKeyPackage } from "../group/check-key-package.ts";
export { type GroupInfoSummary, groupInfoSummary } from "../group/group-info.ts";
export { type CommitView, type GroupPolicy, openPolicy } from "../group/policy.ts";
export { verifyLeafSignature } from "../group/service-signature.ts";
export { trimWelcomes } from "../group/welcome.ts";
export * from "../planner/index.ts";
export type { Extension } from "../structs/extension.ts";
export { decodeMlsMessage } from "../structs/mls-message.ts";
export { RatchetTree } from "../tree/ratchet-tree.ts";
export {
  type Followed,
  type FollowedCommit,
  type FollowedLeaf,
  type FollowRequest,
  PublicGroup,
  type RestoreRequest,
} from "./public-group.ts";

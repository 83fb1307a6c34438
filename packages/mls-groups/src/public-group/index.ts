/** The public side of RFC 9420: a follower of a group that holds no secrets, and what members and it both run. */
export { nativeCrypto } from "../crypto/native.ts";
export type { CryptoProvider } from "../crypto/provider.ts";
export { type CommitView, type GroupPolicy, openPolicy } from "../group/policy.ts";
export { trimWelcomes } from "../group/welcome.ts";
export * from "../planner/index.ts";
export { type Followed, type FollowedCommit, type FollowRequest, PublicGroup } from "./public-group.ts";

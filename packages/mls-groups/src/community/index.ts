/** What communities agree on beside RFC 9420: docs/communities.md. Members and the delivery service run the same. */
export { BanList, MAX_BANNED } from "./ban-list.ts";
export {
  type CommunityContext,
  communityContextOf,
  communityExtensions,
  communityLeaf,
  decodeCommunityContext,
  type ExpectedAccount,
  encodeCommunityContext,
  expectedAccount,
  GROUP_PROFILE_EXTENSION,
  type InviteLink,
  linkHasExpired,
  linkOf,
  MAX_EXPECTED,
  MAX_LINKS,
  MAX_ROLE_HOLDERS,
  type Role,
  type RoleHolder,
  reaches,
  roleOf,
} from "./community-context.ts";
export { type CommunityPolicyOptions, communityPolicy } from "./community-policy.ts";
export { type CommitDescription, describeCommit, type LeafOfDevice } from "./describe-commit.ts";
export {
  APPROVAL_LABEL,
  type Approver,
  approveJoin,
  type CreateJoinTicket,
  createJoinTicket,
  decodeJoinTicket,
  encodeJoinTicket,
  encodeLinkTbs,
  type JoinApproval,
  type JoinTicket,
  joinTicketOf,
  LINK_LABEL,
  type LinkUse,
  verifyApproval,
  verifyLinkSignature,
} from "./join-ticket.ts";
export {
  accountFingerprint,
  decodeMemberCredential,
  deviceOf,
  encodeKeyBinding,
  encodeMemberCredential,
  type IdentityVerifier,
  KEY_BINDING_LABEL,
  type KeyBinding,
  leavesOfAccount,
  type MemberCredential,
  verifyMemberCredential,
} from "./member-credential.ts";
export {
  type CommitParties,
  type CommitRefusal,
  partiesOf,
  provesVoid,
  REFUSALS_TO_VOID,
  silentAccounts,
} from "./void-rule.ts";

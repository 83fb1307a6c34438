import { type Bytes, type GroupId, RejectionError } from "@murmuration/base";
import { nativeCrypto, verifyLeafSignature } from "@murmuration/mls-groups/public-group";
import {
  encodeGroupBanTbs,
  encodeGroupRefuseTbs,
  encodeLeafAccessTbs,
  GROUP_ACCESS_LABEL,
  GROUP_BAN_LABEL,
  GROUP_REFUSE_LABEL,
  type GroupBan,
  type GroupRefuse,
  type LeafAccess,
} from "@murmuration/wire";

/** The cipher suite of all groups of this version. */
export const GROUP_SUITE = 1;
export const groupCrypto = nativeCrypto(GROUP_SUITE);

/** Whether a leaf signed this access: for this service, this connection's challenge, this group. About 0.1 ms. */
export function isAccessSignature(
  signatureKey: Uint8Array,
  access: LeafAccess,
  signature: Uint8Array,
): boolean {
  return verifyLeafSignature(
    groupCrypto,
    signatureKey,
    GROUP_ACCESS_LABEL,
    encodeLeafAccessTbs(access),
    signature,
  );
}

/** Throws RejectionError `group/not-allowed` unless this leaf signed the order. */
export function verifyBanOrder(signatureKey: Bytes, order: GroupBan): void {
  const content = encodeGroupBanTbs(order);
  if (!verifyLeafSignature(groupCrypto, signatureKey, GROUP_BAN_LABEL, content, order.signature)) {
    throw new RejectionError("group/not-allowed");
  }
}

/** Throws RejectionError `group/not-allowed` unless this leaf signed the refusal. */
export function verifyRefusal(signatureKey: Bytes, groupId: GroupId, refusal: GroupRefuse): void {
  const { commitHash, sequence } = refusal;
  const content = encodeGroupRefuseTbs({ groupId, sequence, commitHash });
  if (!verifyLeafSignature(groupCrypto, signatureKey, GROUP_REFUSE_LABEL, content, refusal.signature)) {
    throw new RejectionError("group/not-allowed");
  }
}

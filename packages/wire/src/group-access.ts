/**
 * What leaves of an MLS group sign for the delivery service. Each is signed with SignWithLabel of RFC 9420 section
 * 5.1.2 under the label named here, so that no signature serves two purposes:
 *
 *   struct {
 *     opaque service<V>;          // the service's certificate trust root: a challenge cannot be passed on
 *     opaque challenge[32];       // of the HelloReply of this connection
 *     opaque group_id[16];
 *     uint64 epoch;
 *     uint32 leaf_index;
 *   } GroupAccessTBS;
 *
 *   struct {
 *     opaque group_id[16];
 *     opaque order_id[16];
 *     opaque signature_keys<V><V>;
 *   } GroupBanTBS;
 *
 *   struct {
 *     opaque group_id[16];
 *     uint64 sequence;
 *     opaque commit_hash[32];     // SHA-256 of the commit: nobody's word about another one says anything of this
 *   } GroupRefuseTBS;
 *
 * A challenge is good for its connection and no other, so a signature that was seen once opens nothing elsewhere.
 */
import { type Bytes, type GroupId, Writer } from "@murmuration/base";

export const GROUP_ACCESS_LABEL = "Murmuration GroupAccess";
export const GROUP_BAN_LABEL = "Murmuration Ban";
export const GROUP_REFUSE_LABEL = "Murmuration Refuse";

export interface LeafAccess {
  /** The service's certificate trust root, which clients pin. */
  readonly service: Uint8Array;
  readonly challenge: Uint8Array;
  readonly groupId: GroupId;
  /** Both 0 in the proofs of GroupInfoRequest, whose sender may know neither. */
  readonly epoch: number;
  readonly leafIndex: number;
}

/** GroupAccessTBS. */
export function encodeLeafAccessTbs(access: LeafAccess): Bytes {
  return new Writer()
    .bytes(access.service)
    .fixed(access.challenge)
    .fixed(access.groupId)
    .uint64(BigInt(access.epoch))
    .uint32(access.leafIndex)
    .finish();
}

/** GroupBanTBS. */
export function encodeGroupBanTbs(order: {
  readonly groupId: GroupId;
  readonly orderId: Uint8Array;
  readonly signatureKeys: readonly Uint8Array[];
}): Bytes {
  return new Writer()
    .fixed(order.groupId)
    .fixed(order.orderId)
    .vector(order.signatureKeys, (writer, key) => writer.bytes(key))
    .finish();
}

/** GroupRefuseTBS. */
export function encodeGroupRefuseTbs(refusal: {
  readonly groupId: GroupId;
  readonly sequence: number;
  readonly commitHash: Uint8Array;
}): Bytes {
  const { groupId, sequence, commitHash } = refusal;
  return new Writer().fixed(groupId).uint64(BigInt(sequence)).fixed(commitHash).finish();
}

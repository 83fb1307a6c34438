/**
 * What a migration to MLS derives (docs/adr/0009): the id of the MLS group, and the pre-shared key by which the switching
 * commit is bound to the roster that everybody sees. Pure.
 */
import { createHash, createHmac } from "node:crypto";
import {
  type AccountId,
  type Bytes,
  compareBytes,
  type DeviceId,
  encode,
  type GroupId,
  groupId,
  ID_BYTES,
  UsageError,
  utf8,
} from "@murmuration/base";

/** A leaf as the roster has it. */
export interface RosterLeaf {
  readonly accountId: AccountId;
  readonly deviceId: DeviceId;
  readonly deviceIdentityKey: Uint8Array;
  /** Of the leaf node. */
  readonly signatureKey: Uint8Array;
}

/** Random bytes of a switch, which go to each member device over its pairwise session. */
export const MIGRATION_SECRET_BYTES = 32;

const GROUP_ID_LABEL = utf8("Murmuration migration 1");
const HASH_BYTES = 32;
const MAX_GENERATION = 0xffff_ffff;

/**
 * The MLS group that a generation of a conversation's migration makes: the first 16 bytes of SHA-256 of
 *
 *   struct {
 *     opaque label<V> = "Murmuration migration 1";
 *     opaque conversation_id[16];
 *     uint32 generation;
 *   } MigrationGroup;
 *
 * One hash. Throws UsageError `migration/bad-generation`, `migration/bad-conversation-id`.
 */
export function migrationGroupId(conversationId: GroupId, generation: number): GroupId {
  if (!Number.isInteger(generation) || generation < 0 || generation > MAX_GENERATION)
    throw new UsageError("migration/bad-generation");
  if (conversationId.length !== ID_BYTES) throw new UsageError("migration/bad-conversation-id");
  const named = encode(conversationId, (writer, id) => {
    writer.bytes(GROUP_ID_LABEL).fixed(id).uint32(generation);
  });
  return groupId(createHash("sha256").update(named).digest().subarray(0, ID_BYTES));
}

/**
 * SHA-256 of the roster. Its leaves come in any order and are put in rising order of account, then device, so that
 * everybody who sees the same devices hashes the same bytes:
 *
 *   struct {
 *     opaque account_id[16];
 *     uint8  device_id;
 *     opaque device_identity_key<V>;
 *     opaque signature_key<V>;
 *   } RosterLeaf;
 *
 *   RosterLeaf leaves[N];    (one behind the other)
 *
 * O(N log N) and one hash over some 85 bytes a leaf. Throws UsageError `migration/device-twice`: two leaves of a device
 * would have no order.
 */
export function rosterHash(leaves: Iterable<RosterLeaf>): Bytes {
  const sorted = [...leaves].sort(byDevice);
  const twice = sorted.some((leaf, index) => index > 0 && byDevice(sorted[index - 1]!, leaf) === 0);
  if (twice) throw new UsageError("migration/device-twice");
  const roster = encode(sorted, (writer, all) => {
    for (const { accountId, deviceId, deviceIdentityKey, signatureKey } of all)
      writer.fixed(accountId).uint8(deviceId).bytes(deviceIdentityKey).bytes(signatureKey);
  });
  return new Uint8Array(createHash("sha256").update(roster).digest());
}

function byDevice(a: RosterLeaf, b: RosterLeaf): number {
  return compareBytes(a.accountId, b.accountId) || a.deviceId - b.deviceId;
}

/**
 * The external PSK of the switching commit (RFC 9420 section 8.4): HKDF-Extract(salt = {@link rosterHash}, ikm = the
 * creator's random bytes), RFC 5869 section 2.2 with SHA-256, which is HMAC(salt, ikm). Whoever sees another roster
 * derives another key, and cannot follow. One HMAC; the caller zeroizes the result. Throws UsageError
 * `migration/bad-roster-hash`, `migration/bad-secret-length`.
 */
export function migrationPsk(roster: Uint8Array, secret: Uint8Array): Bytes {
  if (roster.length !== HASH_BYTES) throw new UsageError("migration/bad-roster-hash");
  if (secret.length !== MIGRATION_SECRET_BYTES) throw new UsageError("migration/bad-secret-length");
  return new Uint8Array(createHmac("sha256", roster).update(secret).digest());
}

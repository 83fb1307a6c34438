/** The name of the PSK of a switching commit (docs/migration.md). Pure. */
import {
  type Bytes,
  decodeWhole,
  encode,
  equalBytes,
  type GroupId,
  groupId,
  RejectionError,
  utf8,
} from "@murmuration/base";
import type { PreSharedKeyId } from "@murmuration/mls-groups";

/** Which secret a switching commit was made with, and for which roster. */
export interface MigrationPskId {
  /** Of the MLS group. */
  readonly groupId: GroupId;
  readonly generation: number;
  /** Rises with each secret that is drawn in a generation. */
  readonly round: number;
  /** Of the leaves that the group has when the commit was applied; 32 bytes. */
  readonly rosterHash: Bytes;
}

const LABEL = utf8("Murmuration migration PSK 1");
const HASH_BYTES = 32;

/**
 * The id of the external PSK (RFC 9420 8.4):
 *
 *   struct {
 *     opaque label<V> = "Murmuration migration PSK 1";
 *     opaque group_id[16];
 *     uint32 generation;
 *     uint32 round;
 *     opaque roster_hash[32];
 *   } MigrationPskId;
 *
 * It names the roster, because a receiver needs the key before it knows the tree that the commit leads to. That the
 * roster is the one named is checked as soon as the commit was applied.
 */
export function encodeMigrationPskId(id: MigrationPskId): Bytes {
  return encode(id, (writer, { groupId: group, generation, round, rosterHash }) => {
    writer.bytes(LABEL).fixed(group).uint32(generation).uint32(round).fixed(rosterHash);
  });
}

/** The id, if it is that of a switching commit; undefined for any other PSK. */
export function migrationPskIdOf(psk: PreSharedKeyId): MigrationPskId | undefined {
  if (psk.kind !== "external") return undefined;
  try {
    return decodeWhole(psk.pskId, (reader) => {
      if (!equalBytes(reader.bytes(), LABEL)) throw new RejectionError("migration/other-psk");
      return {
        groupId: groupId(reader.fixed(16)),
        generation: reader.uint32(),
        round: reader.uint32(),
        rosterHash: new Uint8Array(reader.fixed(HASH_BYTES)),
      };
    });
  } catch (error) {
    if (error instanceof RejectionError) return undefined;
    throw error;
  }
}

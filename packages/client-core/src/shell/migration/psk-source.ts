/** Finds the PSK of a switching commit. */
import type { Bytes } from "@murmuration/base";
import type { PreSharedKeyId } from "@murmuration/mls-groups";
import { migrationPsk } from "../../core/migration/keys.ts";
import { migrationPskIdOf } from "../../core/migration/psk-id.ts";
import type { Context } from "../context.ts";

/** The value, if the secret that it is made of has come; undefined otherwise. One statement and one HMAC. */
export function migrationPskFor({ migration, mls }: Context, id: PreSharedKeyId): Bytes | undefined {
  const named = migrationPskIdOf(id);
  if (named === undefined) return undefined;
  const { generation, round, rosterHash } = named;
  const secret = migration.secret(mls.conversationOf(named.groupId), generation, round);
  if (secret === undefined) return undefined;
  try {
    return migrationPsk(rosterHash, secret);
  } finally {
    secret.fill(0);
  }
}

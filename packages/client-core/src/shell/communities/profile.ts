/**
 * The group profile: title, description, picture. The group context holds its hash; what it is, members tell each other, and
 * whoever adds somebody puts it into the Welcome, where only those who are added can read it (docs/communities.md).
 */
import { createHash } from "node:crypto";
import {
  type Bytes,
  decodeWhole,
  encode,
  equalBytes,
  type GroupId,
  RejectionError,
  refuseUnless,
} from "@murmuration/base";
import {
  type CommunityContext,
  type Extension,
  findExtension,
  GROUP_PROFILE_EXTENSION,
  padme,
} from "@murmuration/mls-groups";
import { type GroupProfile, groupProfile } from "../../core/content.ts";
import type { Context } from "../context.ts";

/** What stands in the group context for a profile. */
export function hashOfProfile(encoded: Uint8Array): Bytes {
  return new Uint8Array(createHash("sha256").update(encoded).digest());
}

export const encodeProfile = (profile: GroupProfile): Bytes => groupProfile.encode(profile);

/** The profile that the group context names, encoded; undefined where it is not here. */
export function knownProfile(
  { mls }: Context,
  id: GroupId,
  { profileHash }: CommunityContext,
): Bytes | undefined {
  const profile = mls.group(id)?.profile;
  return profile !== undefined && equalBytes(hashOfProfile(profile), profileHash) ? profile : undefined;
}

/** The shortest extension: the service sees how long a Welcome is, and many profiles are as long as this one or shorter. */
const SHORTEST = 160;

/** What a Welcome says besides: nothing where the profile is not here. `opaque profile<V>`, and zeros behind it. */
export function welcomeExtensions(profile: Bytes | undefined): readonly Extension[] {
  if (profile === undefined) return [];
  const bare = encode(profile, (writer, bytes) => void writer.bytes(bytes));
  const data = new Uint8Array(Math.max(SHORTEST, bare.length + padme(bare.length)));
  data.set(bare);
  return [{ type: GROUP_PROFILE_EXTENSION, data }];
}

/**
 * The profile in a Welcome. Undefined where it has none, one that is not the one that the group context names (whoever adds
 * somebody says no more than the group does), or one that nobody could say again in the same bytes.
 */
export function profileOfWelcome(
  extensions: readonly Extension[],
  { profileHash }: CommunityContext,
): { readonly encoded: Bytes; readonly profile: GroupProfile } | undefined {
  const data = findExtension(extensions, GROUP_PROFILE_EXTENSION);
  if (data === undefined) return undefined;
  try {
    const encoded = decodeWhole(data, (reader) => {
      const bytes = new Uint8Array(reader.bytes());
      const padding = reader.fixed(reader.end - reader.offset);
      refuseUnless(
        padding.every((byte) => byte === 0),
        "content/bad-padding",
      );
      return bytes;
    });
    const profile = groupProfile.decode(encoded);
    const isNamed = equalBytes(hashOfProfile(encoded), profileHash);
    return isNamed && equalBytes(encodeProfile(profile), encoded) ? { encoded, profile } : undefined;
  } catch (error) {
    if (error instanceof RejectionError) return undefined;
    throw error;
  }
}

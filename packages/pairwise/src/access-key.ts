import { hkdfSync } from "node:crypto";
import { type Bytes, UsageError } from "@murmuration/base";

/** Length of a profile key, in bytes. */
export const PROFILE_KEY_BYTES = 32;
/** Length of a recipient access key, in bytes. */
export const ACCESS_KEY_BYTES = 16;

/**
 * Derives the recipient access key, which lets its holder send sealed envelopes, from the profile key, which
 * an account gives to those it talks with. HKDF-SHA-256 without salt; the delivery service learns the access
 * key only, and a new profile key (blocking) makes it worthless. Throws UsageError `pairwise/bad-profile-key`.
 */
export function deriveRecipientAccessKey(profileKey: Uint8Array): Bytes {
  if (profileKey.length !== PROFILE_KEY_BYTES) throw new UsageError("pairwise/bad-profile-key");
  const info = "Murmuration recipient access key";
  return new Uint8Array(hkdfSync("sha256", profileKey, new Uint8Array(), info, ACCESS_KEY_BYTES));
}

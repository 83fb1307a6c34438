import { accountId, type Bytes, equalBytes, ID_BYTES, RejectionError, toHex } from "@murmuration/base";
import {
  type CheckedKeyPackage,
  checkKeyPackage,
  communityExtensions,
  decodeMemberCredential,
  verifyMemberCredential,
} from "@murmuration/mls-groups/public-group";
import { verifyAlternateIdentity, verifyDeviceSignature } from "@murmuration/pairwise/server";
import type { KeyPackageUpload } from "@murmuration/wire";
import type { KeyPackageUploadRow, StoredKeyPackage } from "../ports/key-packages.ts";
import { GROUP_SUITE, groupCrypto } from "./leaf-signatures.ts";

/** The device that uploads, as the service knows it. */
export interface KeyPackageOwner {
  readonly accountId: Uint8Array;
  readonly deviceId: number;
  readonly accountIdentityKey: Uint8Array;
  readonly identityKey: Uint8Array;
}

const NO_HASH: Bytes = new Uint8Array(0);
/** What every community requires of its leaves, whatever its context: a KeyPackage that no community takes is of no use. */
const REQUIRED = communityExtensions({
  generation: 0,
  roleHolders: [{ accountId: accountId(new Uint8Array(ID_BYTES)), role: "owner" }],
  links: [],
  addBy: "member",
  profileBy: "member",
  announcementOnly: false,
  slowModeSeconds: 0,
  joinsPerMinute: 0,
  expireAfterSeconds: 0,
  banListHash: NO_HASH,
  profileHash: NO_HASH,
  expected: [],
  preparing: false,
});
const identities = { verifyAlternateIdentity, verifyDeviceSignature };

/**
 * Validates an upload: each KeyPackage by itself (RFC 9420 section 10.1), fit for a community, good for at
 * least `lifetimeMs` more, its credential that of the asking device and of its keys; the last-resort one marked as such
 * and no other. Four signature verifications for each, and two once. Throws RejectionError
 * `key-packages/bad-key-package`.
 */
export function decideKeyPackageUpload(
  owner: KeyPackageOwner,
  upload: KeyPackageUpload,
  now: number,
  lifetimeMs: number,
): KeyPackageUploadRow {
  const checked = new Set<string>();
  const check = (message: Bytes, lastResort: boolean): StoredKeyPackage => {
    const found = checkOne(message, now);
    const expiresAtMs = Number(found.notAfter) * 1000;
    const fits = found.lastResort === lastResort && expiresAtMs >= now + lifetimeMs;
    if (!fits || !isOwners(found, owner, checked)) throw new RejectionError("key-packages/bad-key-package");
    return { reference: found.reference, message, expiresAtMs };
  };
  const keyPackages = upload.keyPackages.map((message) => check(message, false));
  const lastResort = upload.lastResort && check(upload.lastResort, true);
  const references = [...keyPackages, ...(lastResort ? [lastResort] : [])].map((one) => toHex(one.reference));
  if (new Set(references).size !== references.length)
    throw new RejectionError("key-packages/bad-key-package");
  return { uploadId: upload.uploadId, keyPackages, lastResort, replace: upload.replace };
}

function checkOne(message: Bytes, now: number): CheckedKeyPackage {
  try {
    const found = checkKeyPackage(groupCrypto, message, BigInt(Math.floor(now / 1000)), REQUIRED);
    if (found.cipherSuite === GROUP_SUITE) return found;
  } catch (error) {
    if (!(error instanceof RejectionError)) throw error;
  }
  throw new RejectionError("key-packages/bad-key-package");
}

/** A device has one credential and one key, so what was verified once in an upload needs no second look. */
function isOwners(found: CheckedKeyPackage, owner: KeyPackageOwner, verified: Set<string>): boolean {
  const { credential, signatureKey } = found;
  if (credential.kind !== "basic") return false;
  const name = `${toHex(credential.identity)} ${toHex(signatureKey)}`;
  if (verified.has(name)) return true;
  if (!verifyMemberCredential(identities, credential, signatureKey)) return false;
  const member = decodeMemberCredential(credential);
  const fits =
    equalBytes(member.accountId, owner.accountId) &&
    member.deviceId === owner.deviceId &&
    equalBytes(member.accountIdentityKey, owner.accountIdentityKey) &&
    equalBytes(member.deviceIdentityKey, owner.identityKey);
  if (fits) verified.add(name);
  return fits;
}

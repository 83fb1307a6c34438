import {
  type AccountId,
  type Bytes,
  equalBytes,
  ID_BYTES,
  RejectionError,
  refuseUnless,
} from "@murmuration/base";
import type { PublicKey } from "@signalapp/libsignal-client";
import type { DeviceList, PreKeyUpload, PublicPreKey, SignedPublicPreKey } from "../api.ts";
import { compareLists, decodeDeviceList, verifyListOf } from "../device-list.ts";
import { MAX_ONE_TIME, MAX_PRE_KEY_ID } from "../prekeys.ts";
import {
  decodeKyberPublicKey,
  decodePublicKey,
  verifyAlternateIdentity as verifyAlternate,
  verifySignature,
  verifyWithLabel,
} from "../public-keys.ts";

export function validatePreKeyUpload(identityKey: Bytes, upload: PreKeyUpload): void {
  const identity = decodePublicKey(identityKey, "keys/bad-key");
  refuseUnless(upload.uploadId.length === ID_BYTES, "keys/bad-upload-id");
  validateIds(upload.preKeys, undefined);
  validateIds(upload.kyberPreKeys, upload.lastResortKyberPreKey);
  for (const key of upload.preKeys) decodePublicKey(key.publicKey, "keys/bad-key");
  if (upload.signedPreKey !== undefined) validateSigned(identity, upload.signedPreKey, decodePublicKey);
  for (const key of [upload.lastResortKyberPreKey, ...upload.kyberPreKeys]) {
    if (key !== undefined) validateSigned(identity, key, decodeKyberPublicKey);
  }
}

/** Kyber prekeys of both kinds share their ids: a bundle names one of them by nothing else. */
function validateIds(keys: readonly PublicPreKey[], lastResort: PublicPreKey | undefined): void {
  refuseUnless(keys.length <= MAX_ONE_TIME, "keys/too-many");
  const ids = [...keys, ...(lastResort === undefined ? [] : [lastResort])].map((key) => key.id);
  for (const id of ids) validateId(id);
  refuseUnless(new Set(ids).size === ids.length, "keys/duplicate-id");
}

function validateId(id: number): void {
  refuseUnless(Number.isInteger(id) && id >= 1 && id <= MAX_PRE_KEY_ID, "keys/bad-id");
}

function validateSigned(
  identity: PublicKey,
  key: SignedPublicPreKey,
  decodeKey: (bytes: Uint8Array, code: string) => unknown,
): void {
  validateId(key.id);
  decodeKey(key.publicKey, "keys/bad-key");
  refuseUnless(verifySignature(identity, key.publicKey, key.signature), "keys/bad-signature");
}

export function validateDeviceListUpload(
  accountId: AccountId,
  next: Bytes,
  stored: Bytes | undefined,
): DeviceList {
  const list = verifyListOf(accountId, next);
  if (stored === undefined || equalBytes(stored, next)) return list;
  const known = { list: decodeDeviceList(stored), encoded: stored };
  const succession = compareLists(known, { list, encoded: next });
  refuseUnless(succession !== "account-key-changed", "device-list/account-key-changed");
  return list;
}

export function verifyDeviceSignature(
  identityKey: Uint8Array,
  label: string,
  content: Uint8Array,
  signature: Uint8Array,
): boolean {
  return falseIfMalformed(() =>
    verifyWithLabel(decodePublicKey(identityKey, "keys/bad-key"), label, content, signature),
  );
}

export function verifyAlternateIdentity(
  accountKey: Uint8Array,
  deviceKey: Uint8Array,
  signature: Uint8Array,
): boolean {
  return falseIfMalformed(() =>
    verifyAlternate(
      decodePublicKey(accountKey, "keys/bad-key"),
      decodePublicKey(deviceKey, "keys/bad-key"),
      signature,
    ),
  );
}

function falseIfMalformed(verify: () => boolean): boolean {
  try {
    return verify();
  } catch (error) {
    if (error instanceof RejectionError) return false;
    throw error;
  }
}

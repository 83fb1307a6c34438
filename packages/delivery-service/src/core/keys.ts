import { type Bytes, RejectionError } from "@murmuration/base";
import { validatePreKeyUpload } from "@murmuration/pairwise/server";
import type { BundleRequest, PreKeyBundle, PreKeyUpload } from "@murmuration/wire";
import type { AccountRecord, DeviceRecord } from "../ports/accounts.ts";
import type { ClaimedKeys, KeyUpload, SignedPublicPreKey } from "../ports/keys.ts";

/**
 * Validates an upload of prekeys by a device. Throws RejectionError `keys/bad-key`, `keys/bad-id`,
 * `keys/bad-signature`, `keys/duplicate-id`, `keys/too-many`; `keys/incomplete` for the first upload of a device
 * without a signed prekey or a last-resort Kyber prekey.
 */
export function decideKeyUpload(identityKey: Bytes, upload: PreKeyUpload, first: boolean): KeyUpload {
  const keys: KeyUpload = {
    uploadId: upload.uploadId,
    signedPreKey: upload.signedPreKey && toSigned(upload.signedPreKey),
    lastResortKyberPreKey: upload.lastResortKyberPreKey && toSigned(upload.lastResortKyberPreKey),
    preKeys: upload.oneTimePreKeys.map((key) => ({ id: key.keyId, publicKey: key.publicKey })),
    kyberPreKeys: upload.oneTimeKyberPreKeys.map(toSigned),
    replace: upload.replace,
  };
  if (first && (keys.signedPreKey === undefined || keys.lastResortKyberPreKey === undefined)) {
    throw new RejectionError("keys/incomplete");
  }
  validatePreKeyUpload(identityKey, keys);
  return keys;
}

/** The devices whose bundles are asked for: all of the account, or those named that exist. */
export function devicesAskedFor(account: AccountRecord, request: BundleRequest): readonly DeviceRecord[] {
  if (request.deviceIds.length === 0) return account.devices;
  const wanted = new Set(request.deviceIds);
  return account.devices.filter((device) => wanted.has(device.deviceId));
}

/** The bundle that a claim of a device's keys makes. */
export function toBundle(device: DeviceRecord, claimed: ClaimedKeys): PreKeyBundle {
  const bundle = {
    deviceId: device.deviceId,
    registrationId: device.registrationId,
    identityKey: device.identityKey,
    signedPreKey: fromSigned(claimed.signedPreKey),
    kyberPreKey: fromSigned(claimed.kyberPreKey),
  };
  if (claimed.preKey === undefined) return bundle;
  return { ...bundle, oneTimePreKey: { keyId: claimed.preKey.id, publicKey: claimed.preKey.publicKey } };
}

interface WireSigned {
  readonly keyId: number;
  readonly publicKey: Bytes;
  readonly signature: Bytes;
}

function toSigned(key: WireSigned): SignedPublicPreKey {
  return { id: key.keyId, publicKey: key.publicKey, signature: key.signature };
}

function fromSigned(key: SignedPublicPreKey): WireSigned {
  return { keyId: key.id, publicKey: key.publicKey, signature: key.signature };
}

import {
  type AccountId,
  accountId,
  type Bytes,
  compareBytes,
  type DeviceId,
  decodeWhole,
  deviceId,
  encode,
  equalBytes,
  ID_BYTES,
  MAX_DEVICES_PER_ACCOUNT,
  type Reader,
  RejectionError,
  refuseUnless,
  type Writer,
} from "@murmuration/base";
import { type IdentityKeyPair, PublicKey } from "@signalapp/libsignal-client";
import type { DeviceList, ListedDevice } from "./api.ts";
import {
  decodePublicKey,
  PUBLIC_KEY_BYTES,
  SIGNATURE_BYTES,
  signWithLabel,
  verifyAlternateIdentity,
  verifyWithLabel,
} from "./public-keys.ts";

/**
 * The signed device list, in the presentation language of RFC 9420:
 *
 *   struct { uint8 device_id; opaque identity_key[33];
 *            opaque account_signature[64]; opaque device_signature[64]; } ListedDevice;
 *   struct { uint8 format = 1; opaque account_id[16]; uint32 version;
 *            opaque account_identity_key[33]; ListedDevice devices<V>; } DeviceListContent;
 *   struct { opaque content<V>; opaque signature[64]; } SignedDeviceList;
 *
 * The account identity key signs the content under the label "DeviceList", so entries cannot be moved between
 * lists; it signs each device key, and each device key signs it, so no account can list another one's device.
 */
const FORMAT = 1;
const LABEL = "DeviceList";
const MAX_VERSION = 0xffff_ffff;
/** Content is 60 bytes and 162 for each device; anything larger is not looked at. */
const MAX_ENCODED_BYTES = 2_048;

function writeDevice(writer: Writer, device: ListedDevice): void {
  writer.uint8(device.deviceId).fixed(device.identityKey);
  writer.fixed(device.accountSignature).fixed(device.deviceSignature);
}

function readDevice(reader: Reader): ListedDevice {
  return {
    deviceId: deviceId(reader.uint8()),
    identityKey: own(reader.fixed(PUBLIC_KEY_BYTES)),
    accountSignature: own(reader.fixed(SIGNATURE_BYTES)),
    deviceSignature: own(reader.fixed(SIGNATURE_BYTES)),
  };
}

function writeContent(writer: Writer, list: DeviceList): void {
  writer.uint8(FORMAT).fixed(list.accountId).uint32(list.version).fixed(list.accountIdentityKey);
  writer.vector(list.devices, writeDevice);
}

function readContent(reader: Reader): DeviceList {
  refuseUnless(reader.uint8() === FORMAT, "device-list/unknown-format");
  return {
    accountId: accountId(reader.fixed(ID_BYTES)),
    version: reader.uint32(),
    accountIdentityKey: own(reader.fixed(PUBLIC_KEY_BYTES)),
    devices: reader.vector(readDevice),
  };
}

function own(bytes: Uint8Array): Bytes {
  return new Uint8Array(bytes);
}

/** Signs a list. The caller keeps the rules that {@link verifyDeviceList} checks. */
export function signDeviceList(accountKey: IdentityKeyPair, list: DeviceList): Bytes {
  const content = encode(list, writeContent, MAX_ENCODED_BYTES);
  const signature = signWithLabel(accountKey.privateKey, LABEL, content);
  return encode(content, (writer) => writer.bytes(content).fixed(signature), MAX_ENCODED_BYTES);
}

/** Decodes a list that was verified before it was stored. */
export function decodeDeviceList(encoded: Bytes): DeviceList {
  return readSigned(encoded).list;
}

function readSigned(encoded: Uint8Array): { list: DeviceList; content: Uint8Array; signature: Uint8Array } {
  refuseUnless(encoded.length <= MAX_ENCODED_BYTES, "device-list/malformed");
  try {
    return decodeWhole(encoded, (reader) => {
      const content = reader.bytes();
      const signature = reader.fixed(SIGNATURE_BYTES);
      return { content, signature, list: decodeWhole(content, readContent) };
    });
  } catch (error) {
    if (error instanceof RejectionError && /^(?:coder|id)\//.test(error.code)) {
      throw new RejectionError("device-list/malformed");
    }
    throw error;
  }
}

/**
 * Decodes and verifies a list by itself: form, limits, every signature. Two signature checks for each device
 * and one for the list. Throws RejectionError with a `device-list/` code.
 */
export function verifyDeviceList(encoded: Uint8Array): DeviceList {
  const { list, content, signature } = readSigned(encoded);
  refuseUnless(list.version >= 1 && list.version <= MAX_VERSION, "device-list/malformed");
  refuseUnless(list.devices.length >= 1, "device-list/no-devices");
  refuseUnless(list.devices.length <= MAX_DEVICES_PER_ACCOUNT, "device-list/too-many-devices");
  validateOrder(list.devices);
  const accountKey = decodePublicKey(list.accountIdentityKey, "device-list/malformed");
  refuseUnless(verifyWithLabel(accountKey, LABEL, content, signature), "device-list/bad-signature");
  for (const device of list.devices) verifyDevice(accountKey, device);
  return list;
}

/** Rising device ids make the encoding canonical; one key on two devices would make their sessions one. */
function validateOrder(devices: readonly ListedDevice[]): void {
  let before = 0;
  for (const device of devices) {
    refuseUnless(device.deviceId > before, "device-list/malformed");
    before = device.deviceId;
  }
  const keys = devices.map((device) => device.identityKey).sort(compareBytes);
  for (let i = 1; i < keys.length; i++) {
    refuseUnless(!equalBytes(keys[i - 1]!, keys[i]!), "device-list/malformed");
  }
}

function verifyDevice(accountKey: PublicKey, device: ListedDevice): void {
  const deviceKey = decodePublicKey(device.identityKey, "device-list/malformed");
  refuseUnless(
    verifyAlternateIdentity(accountKey, deviceKey, device.accountSignature) &&
      verifyAlternateIdentity(deviceKey, accountKey, device.deviceSignature),
    "device-list/bad-signature",
  );
}

/** How a verified list relates to the one known before. */
export type Succession = "first" | "unchanged" | "newer" | "account-key-changed";

/**
 * Compares a verified list with the known one. Throws RejectionError `device-list/rolled-back` for an older
 * version and `device-list/conflict` for another list of the same version: the service, or the account, showed
 * different lists to different people.
 */
export function compareLists(
  known: { readonly list: DeviceList; readonly encoded: Bytes } | undefined,
  next: { readonly list: DeviceList; readonly encoded: Uint8Array },
): Succession {
  if (known === undefined) return "first";
  if (!equalBytes(known.list.accountIdentityKey, next.list.accountIdentityKey)) return "account-key-changed";
  refuseUnless(next.list.version >= known.list.version, "device-list/rolled-back");
  if (next.list.version > known.list.version) return "newer";
  const same = equalBytes(contentOf(known.encoded), contentOf(next.encoded));
  refuseUnless(same, "device-list/conflict");
  return "unchanged";
}

/** XEdDSA signatures are randomized: signing the same content again after a crash is no conflict. */
function contentOf(encoded: Uint8Array): Uint8Array {
  return readSigned(encoded).content;
}

export function verifyListOf(account: AccountId, encoded: Uint8Array): DeviceList {
  const list = verifyDeviceList(encoded);
  refuseUnless(equalBytes(list.accountId, account), "device-list/wrong-account");
  return list;
}

export function listedDevice(list: DeviceList | undefined, id: DeviceId): ListedDevice | undefined {
  return list?.devices.find((device) => device.deviceId === id);
}

/** The entry by which account key and device key vouch for each other. */
export function createListedDevice(
  accountKey: IdentityKeyPair,
  id: DeviceId,
  device: { readonly identityKey: Bytes; readonly deviceSignature: Bytes },
): ListedDevice {
  const accountSignature = accountKey.signAlternateIdentity(PublicKey.deserialize(device.identityKey));
  return { deviceId: id, ...device, accountSignature };
}

/** Devices of `before` that `after` has no longer, or has with another identity key. */
export function devicesGone(before: DeviceList | undefined, after: DeviceList): readonly DeviceId[] {
  const gone: DeviceId[] = [];
  for (const device of before?.devices ?? []) {
    const now = listedDevice(after, device.deviceId);
    if (now === undefined || !equalBytes(now.identityKey, device.identityKey)) gone.push(device.deviceId);
  }
  return gone;
}

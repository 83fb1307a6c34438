import {
  type AccountId,
  type Bytes,
  type DeviceAddress,
  type DeviceId,
  deviceId,
  equalBytes,
  invariant,
  MAX_DEVICE_ID,
  MAX_DEVICES_PER_ACCOUNT,
  RejectionError,
  refuseUnless,
  UsageError,
} from "@murmuration/base";
import { IdentityKeyPair, type PublicKey, SenderCertificate } from "@signalapp/libsignal-client";
import { accountKey, serviceId } from "./address.ts";
import type { DeviceList, LinkRequest, ListedDevice, LocalDevice, NewLinkRequest } from "./api.ts";
import {
  createListedDevice,
  decodeDeviceList,
  listedDevice,
  signDeviceList,
  verifyListOf,
} from "./device-list.ts";
import { classifyLibsignal } from "./libsignal-errors.ts";
import type { Overlay, Rows } from "./overlay.ts";
import { decodePublicKey, verifyAlternateIdentity } from "./public-keys.ts";
import { accountRow, type OwnIdentityRow, ownIdentityRow } from "./rows.ts";

/** Registration ids are 14 bits; 16,381 to 16,383 are reserved by libsignal's fake ids in tests. */
export const MAX_REGISTRATION_ID = 16_380;

/** This device as operations use it. Decoded once per operation. */
export interface OwnDevice {
  readonly address: DeviceAddress;
  readonly registrationId: number;
  readonly identityKeyPair: IdentityKeyPair;
  readonly row: OwnIdentityRow;
}

export function readOwnRow(rows: Rows): OwnIdentityRow | undefined {
  const bytes = rows.read("own", "identity");
  return bytes === undefined ? undefined : ownIdentityRow.decode(bytes);
}

function requireOwnRow(rows: Rows): OwnIdentityRow {
  const row = readOwnRow(rows);
  if (row === undefined || row.deviceId === 0) throw new UsageError("pairwise/not-registered");
  return row;
}

const addressOf = (row: OwnIdentityRow): DeviceAddress => ({
  accountId: row.accountId,
  deviceId: deviceId(row.deviceId),
});

/** As {@link requireOwnDevice}, without the key pair, whose parsing costs a scalar multiplication. */
export function requireOwnAddress(rows: Rows): DeviceAddress {
  return addressOf(requireOwnRow(rows));
}

/** Throws UsageError `pairwise/not-registered` before registration is complete. */
export function requireOwnDevice(rows: Rows): OwnDevice {
  const row = requireOwnRow(rows);
  return {
    address: addressOf(row),
    registrationId: row.registrationId,
    identityKeyPair: IdentityKeyPair.deserialize(row.deviceKeyPair),
    row,
  };
}

export function localDevice(rows: Rows): LocalDevice | undefined {
  const row = readOwnRow(rows);
  if (row === undefined || row.deviceId === 0) return undefined;
  const deviceList = rows.read("device-list", accountKey(row.accountId));
  invariant(deviceList !== undefined, "pairwise/own-list-missing");
  return {
    address: { accountId: row.accountId, deviceId: deviceId(row.deviceId) },
    registrationId: row.registrationId,
    identityKey: IdentityKeyPair.deserialize(row.deviceKeyPair).publicKey.serialize(),
    accountIdentityKey: row.accountIdentityKey,
    holdsAccountKey: row.accountKeyPair !== undefined,
    deviceList,
  };
}

/** 1..16,380 from random bytes. The bias of the remainder is below 1 in 10^5 and ids are no secrets. */
function generateRegistrationId(random: (length: number) => Bytes): number {
  const bytes = random(4);
  return (new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0) % MAX_REGISTRATION_ID) + 1;
}

/** First device of a new account: both key pairs, and a list of version 1. */
export function generateAccount(
  overlay: Overlay,
  accountId: AccountId,
  random: (length: number) => Bytes,
): LocalDevice {
  if (readOwnRow(overlay) !== undefined) throw new UsageError("pairwise/already-registered");
  const accountPair = IdentityKeyPair.generate();
  const devicePair = IdentityKeyPair.generate();
  const row: OwnIdentityRow = {
    accountId,
    deviceId: 1,
    registrationId: generateRegistrationId(random),
    deviceKeyPair: devicePair.serialize(),
    accountIdentityKey: accountPair.publicKey.serialize(),
    accountKeyPair: accountPair.serialize(),
    highestDeviceId: 1,
  };
  const device = createListedDevice(
    accountPair,
    deviceId(1),
    linkRequestOf(devicePair, accountPair.publicKey),
  );
  const list = { accountId, version: 1, accountIdentityKey: row.accountIdentityKey, devices: [device] };
  writeOwnAccount(overlay, row, signDeviceList(accountPair, list));
  return localDevice(overlay)!;
}

function linkRequestOf(devicePair: IdentityKeyPair, accountPublicKey: PublicKey): LinkRequest {
  return {
    identityKey: devicePair.publicKey.serialize(),
    deviceSignature: devicePair.signAlternateIdentity(accountPublicKey),
  };
}

function writeOwnAccount(overlay: Overlay, row: OwnIdentityRow, deviceList: Bytes): void {
  const key = accountKey(row.accountId);
  overlay.write("own", "identity", ownIdentityRow.encode(row));
  overlay.write("device-list", key, deviceList);
  const account = { accountIdentityKey: row.accountIdentityKey, verified: true, claim: undefined };
  overlay.write("account", key, accountRow.encode(account));
}

/** A device to be linked: its identity key, and its signature over the account it wants to join. */
export function generateLinkRequest(
  overlay: Overlay,
  account: { readonly accountId: AccountId; readonly accountIdentityKey: Bytes },
  random: (length: number) => Bytes,
): NewLinkRequest {
  if ((readOwnRow(overlay)?.deviceId ?? 0) !== 0) throw new UsageError("pairwise/already-registered");
  accountKey(account.accountId);
  const accountPublicKey = decodePublicKey(account.accountIdentityKey, "device-list/malformed");
  const devicePair = IdentityKeyPair.generate();
  const registrationId = generateRegistrationId(random);
  overlay.write(
    "own",
    "identity",
    ownIdentityRow.encode({
      ...account,
      deviceId: 0,
      registrationId,
      deviceKeyPair: devicePair.serialize(),
      accountKeyPair: undefined,
      highestDeviceId: 0,
    }),
  );
  return { ...linkRequestOf(devicePair, accountPublicKey), registrationId };
}

/** The new device finds itself on the list that the account key signed. */
export function adoptLink(overlay: Overlay, deviceList: Bytes): LocalDevice {
  const row = readOwnRow(overlay);
  if (row === undefined || row.deviceId !== 0) throw new UsageError("pairwise/no-link-request");
  const list = verifyListOf(row.accountId, deviceList);
  const sameKey = equalBytes(list.accountIdentityKey, row.accountIdentityKey);
  refuseUnless(sameKey, "device-list/account-key-changed");
  const identityKey = IdentityKeyPair.deserialize(row.deviceKeyPair).publicKey.serialize();
  const device = list.devices.find((listed) => equalBytes(listed.identityKey, identityKey));
  refuseUnless(device !== undefined, "device-list/device-missing");
  writeOwnAccount(overlay, { ...row, deviceId: device.deviceId }, deviceList);
  return localDevice(overlay)!;
}

/** Signs a list that also has the device of this request. */
export function addDevice(overlay: Overlay, request: LinkRequest): { deviceList: Bytes; deviceId: DeviceId } {
  const { row, accountPair, list } = requireListSigner(overlay);
  const deviceKey = decodePublicKey(request.identityKey, "device-list/malformed");
  refuseUnless(
    verifyAlternateIdentity(deviceKey, accountPair.publicKey, request.deviceSignature),
    "device-list/bad-signature",
  );
  if (list.devices.length >= MAX_DEVICES_PER_ACCOUNT) throw new UsageError("pairwise/too-many-devices");
  if (list.devices.some((device) => equalBytes(device.identityKey, request.identityKey))) {
    throw new UsageError("pairwise/device-already-listed");
  }
  const id = nextDeviceId(row, list);
  const added = createListedDevice(accountPair, id, request);
  const devices = [...list.devices, added].sort((a, b) => a.deviceId - b.deviceId);
  const highestDeviceId = Math.max(row.highestDeviceId, id);
  return {
    deviceList: writeNextList(overlay, { ...row, highestDeviceId }, accountPair, list, devices),
    deviceId: id,
  };
}

/** Ids rise, so that no session of a removed device is taken for one of a new device; 127 ids, then reuse. */
function nextDeviceId(row: OwnIdentityRow, list: DeviceList): DeviceId {
  let id = row.highestDeviceId + 1;
  if (id <= MAX_DEVICE_ID) return deviceId(id);
  for (id = 1; listedDevice(list, deviceId(id)) !== undefined; ) id++;
  return deviceId(id);
}

export function removeDevice(overlay: Overlay, removed: DeviceId): { deviceList: Bytes } {
  const { row, accountPair, list } = requireListSigner(overlay);
  if (removed === row.deviceId) throw new UsageError("pairwise/own-device-stays");
  if (listedDevice(list, removed) === undefined) throw new UsageError("pairwise/no-such-device");
  const devices = list.devices.filter((device) => device.deviceId !== removed);
  return { deviceList: writeNextList(overlay, row, accountPair, list, devices) };
}

function requireListSigner(rows: Rows): {
  row: OwnIdentityRow;
  accountPair: IdentityKeyPair;
  list: DeviceList;
} {
  const { row } = requireOwnDevice(rows);
  if (row.accountKeyPair === undefined) throw new UsageError("pairwise/not-the-list-signer");
  const encoded = rows.read("device-list", accountKey(row.accountId));
  invariant(encoded !== undefined, "pairwise/own-list-missing");
  return {
    row,
    accountPair: IdentityKeyPair.deserialize(row.accountKeyPair),
    list: decodeDeviceList(encoded),
  };
}

function writeNextList(
  overlay: Overlay,
  row: OwnIdentityRow,
  accountPair: IdentityKeyPair,
  list: DeviceList,
  devices: readonly ListedDevice[],
): Bytes {
  const deviceList = signDeviceList(accountPair, { ...list, version: list.version + 1, devices });
  writeOwnAccount(overlay, row, deviceList);
  return deviceList;
}

/** Remembers ids that the own account's newest list shows, so that this device never gives them out again. */
export function rememberOwnDeviceIds(overlay: Overlay, list: DeviceList): void {
  const row = readOwnRow(overlay);
  invariant(row !== undefined, "pairwise/not-registered");
  const highestDeviceId = Math.max(row.highestDeviceId, ...list.devices.map((device) => device.deviceId));
  if (highestDeviceId === row.highestDeviceId) return;
  overlay.write("own", "identity", ownIdentityRow.encode({ ...row, highestDeviceId }));
}

/** Stores a certificate if the service issued it for this very device and key. */
export function acceptCertificate(
  overlay: Overlay,
  certificate: Bytes,
  trustRoots: readonly PublicKey[],
  nowMs: number,
): void {
  const own = requireOwnDevice(overlay);
  const parsed = parseCertificate(certificate);
  refuseUnless(parsed !== undefined, "pairwise/certificate-malformed");
  // Every encrypt and every request to send again reads this number: it is readable, or the certificate no use.
  expirationOf(parsed);
  const trusted = parsed.validateWithTrustRoots([...trustRoots], nowMs);
  refuseUnless(trusted, "pairwise/certificate-untrusted");
  const matches =
    parsed.senderUuid() === serviceId(own.address.accountId) &&
    parsed.senderDeviceId() === own.address.deviceId &&
    parsed.senderE164() === null &&
    parsed.key().equals(own.identityKeyPair.publicKey);
  refuseUnless(matches, "pairwise/certificate-not-ours");
  overlay.write("own", "certificate", new Uint8Array(certificate));
}

function parseCertificate(bytes: Bytes): SenderCertificate | undefined {
  try {
    return SenderCertificate.deserialize(new Uint8Array(bytes));
  } catch (error) {
    classifyLibsignal(error);
    return undefined;
  }
}

/**
 * When a certificate runs out: 64 bits chosen by whoever wrote it, also by the service that signed it. Throws
 * RejectionError `pairwise/certificate-malformed` for a number that JavaScript cannot hold.
 */
export function expirationOf(certificate: SenderCertificate): number {
  try {
    return certificate.expiration();
  } catch (error) {
    classifyLibsignal(error);
    throw new RejectionError("pairwise/certificate-malformed");
  }
}

export function readCertificate(rows: Rows): SenderCertificate | undefined {
  const bytes = rows.read("own", "certificate");
  return bytes === undefined ? undefined : SenderCertificate.deserialize(bytes);
}

/** A certificate that lasts for this moment; it must not run out on the way to the delivery service. */
export function usableCertificate(rows: Rows, nowMs: number): SenderCertificate | undefined {
  const certificate = readCertificate(rows);
  return certificate !== undefined && certificate.expiration() > nowMs + CERTIFICATE_MARGIN_MS
    ? certificate
    : undefined;
}

/** Time for an outbox row to reach the delivery service, where the certificate's validity is measured. */
const CERTIFICATE_MARGIN_MS = 60_000;

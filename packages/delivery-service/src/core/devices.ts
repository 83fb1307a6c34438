import { type DeviceId, equalBytes, RejectionError } from "@murmuration/base";
import { validateDeviceListUpload } from "@murmuration/pairwise/server";
import type { NewDevice, RegisterRequest, UpdateDevicesRequest } from "@murmuration/wire";
import type { AccountRecord, DeviceRecord, DevicesUpdate, NewAccount } from "../ports/accounts.ts";
import { sha256 } from "./submit.ts";

type DeviceList = ReturnType<typeof validateDeviceListUpload>;

/**
 * Decides on a registration: the list has version 1, is signed by the account key that the request names, and
 * names exactly the device that registers. Throws RejectionError `devices/list-mismatch` or a
 * `device-list/` code.
 */
export function decideRegistration(request: RegisterRequest, today: number): NewAccount {
  const list = validateDeviceListUpload(request.accountId, request.deviceList, undefined);
  const fits =
    list.version === 1 &&
    list.devices.length === 1 &&
    equalBytes(list.accountIdentityKey, request.accountIdentityKey) &&
    isListed(list, request.device);
  if (!fits) throw new RejectionError("devices/list-mismatch");
  return {
    accountId: request.accountId,
    accountIdentityKey: request.accountIdentityKey,
    accessKeyHash: sha256(request.accessKey),
    deviceList: { version: list.version, bytes: request.deviceList },
    device: toRecord(request.device, today),
  };
}

/** True when an existing account is what this very request created: its answer was lost, say it again. */
export function isSameRegistration(account: AccountRecord, request: RegisterRequest): boolean {
  const device = account.devices.find((known) => known.deviceId === request.device.deviceId);
  return (
    device !== undefined &&
    equalBytes(device.tokenHash, request.device.tokenHash) &&
    equalBytes(account.deviceList.bytes, request.deviceList)
  );
}

export type DevicesDecision =
  /** The list is the stored one: answer as before. */
  { readonly kind: "unchanged" } | { readonly kind: "update"; readonly update: DevicesUpdate };

/**
 * Decides on the next device list: signed by the account key, newer than the stored one, every device that is
 * new on it described by the request and no other, and no known device with another key. Throws RejectionError
 * `devices/list-mismatch` or a `device-list/` code.
 */
export function decideDevicesUpdate(
  account: AccountRecord,
  request: UpdateDevicesRequest,
  today: number,
): DevicesDecision {
  if (equalBytes(request.deviceList, account.deviceList.bytes)) return { kind: "unchanged" };
  const list = validateDeviceListUpload(account.accountId, request.deviceList, account.deviceList.bytes);
  const known = new Map(account.devices.map((device) => [device.deviceId, device]));
  const listed = new Set<number>(list.devices.map((device) => device.deviceId));
  const news = list.devices.filter((device) => !known.has(device.deviceId as DeviceId));
  const described =
    news.length === request.added.length &&
    new Set(request.added.map((device) => device.deviceId)).size === news.length &&
    request.added.every((device) => !known.has(device.deviceId) && isListed(list, device));
  const kept = list.devices.every((device) => {
    const before = known.get(device.deviceId as DeviceId);
    return before === undefined || equalBytes(before.identityKey, device.identityKey);
  });
  if (!described || !kept) throw new RejectionError("devices/list-mismatch");
  return {
    kind: "update",
    update: {
      accountId: account.accountId,
      deviceList: { version: list.version, bytes: request.deviceList },
      expectedVersion: account.deviceList.version,
      added: request.added.map((device) => toRecord(device, today)),
      removed: [...known.keys()].filter((id) => !listed.has(id)),
    },
  };
}

function isListed(list: DeviceList, device: NewDevice): boolean {
  return list.devices.some(
    (listed) => listed.deviceId === device.deviceId && equalBytes(listed.identityKey, device.identityKey),
  );
}

function toRecord(device: NewDevice, today: number): DeviceRecord {
  return {
    deviceId: device.deviceId,
    registrationId: device.registrationId,
    identityKey: device.identityKey,
    tokenHash: device.tokenHash,
    lastSeenDay: today,
    hasKeys: false,
  };
}

import {
  type AccountId,
  accountId,
  type DeviceAddress,
  type DeviceId,
  deviceId,
  equalBytes,
  formatAddress,
  formatId,
  invariant,
  RejectionError,
} from "@murmuration/base";
import { Aci, ProtocolAddress } from "@signalapp/libsignal-client";

/** Row key and queue key of an account. */
export function accountKey(id: AccountId): string {
  return formatId(id);
}

/** Row key of a device: the account's key, a dot, the device id in decimal. */
export function addressKey(address: DeviceAddress): string {
  return formatAddress(address);
}

/** As {@link addressKey}, of an account's key that was made already. */
export function deviceKey(account: string, device: DeviceId): string {
  return `${account}.${device}`;
}

/** The account's key within a device's row key. */
export function accountOfAddressKey(key: string): string {
  return key.slice(0, key.lastIndexOf("."));
}

export function sameAddress(a: DeviceAddress, b: DeviceAddress): boolean {
  return a.deviceId === b.deviceId && equalBytes(a.accountId, b.accountId);
}

/** libsignal names an account by a service id: the 16 bytes in UUID notation. */
export function serviceId(id: AccountId): string {
  return Aci.fromUuidBytes(id).getServiceIdString();
}

export function protocolAddress(address: DeviceAddress): ProtocolAddress {
  return ProtocolAddress.new(serviceId(address.accountId), address.deviceId);
}

/** Our address for the one that libsignal hands to a store: it always is one that we made. */
export function addressFromProtocol(address: ProtocolAddress): DeviceAddress {
  const id = address.serviceId();
  invariant(id !== null, "pairwise/address-without-service-id");
  return { accountId: accountId(id.getRawUuidBytes()), deviceId: deviceId(address.deviceId()) };
}

/** The sender that a certificate names. Throws RejectionError `pairwise/certificate-malformed`. */
export function addressFromCertificate(aci: Aci | null, device: number): DeviceAddress {
  try {
    if (aci !== null) return { accountId: accountId(aci.getRawUuidBytes()), deviceId: deviceId(device) };
  } catch (error) {
    if (!(error instanceof RejectionError)) throw error;
  }
  throw new RejectionError("pairwise/certificate-malformed");
}

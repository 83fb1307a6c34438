import { accountId, type Bytes, deviceId, encode } from "@murmuration/base";
import { IdentityKeyPair } from "@signalapp/libsignal-client";
import { describe, expect, test } from "vitest";
import {
  compareLists,
  createListedDevice,
  devicesGone,
  signDeviceList,
  verifyDeviceList,
  verifyListOf,
} from "../../src/device-list.ts";
import type { DeviceList, ListedDevice } from "../../src/index.ts";

const account = accountId(new Uint8Array(16).fill(5));
const accountPair = IdentityKeyPair.generate();

function listed(id: number, pair = IdentityKeyPair.generate(), signer = accountPair): ListedDevice {
  return createListedDevice(signer, deviceId(id), {
    identityKey: pair.publicKey.serialize(),
    deviceSignature: pair.signAlternateIdentity(accountPair.publicKey),
  });
}

function listOf(version: number, devices: readonly ListedDevice[], pair = accountPair): DeviceList {
  return { accountId: account, version, accountIdentityKey: pair.publicKey.serialize(), devices };
}

const signed = (list: DeviceList, pair = accountPair): Bytes => signDeviceList(pair, list);

describe("gotcha 9: each device has its own identity key, on a versioned list that the account key signs", () => {
  const one = listed(1);
  const two = listed(2);

  test("a list of one to five devices verifies and comes back as it was", () => {
    const devices: ListedDevice[] = [];
    for (let id = 1; id <= 5; id++) {
      devices.push(listed(id));
      const list = listOf(id, [...devices]);
      expect(verifyDeviceList(signed(list))).toEqual(list);
    }
    const six = [...devices, listed(6)];
    expect(() => verifyDeviceList(signed(listOf(6, six)))).toThrow("device-list/too-many-devices");
    expect(() => verifyDeviceList(signed(listOf(1, [])))).toThrow("device-list/no-devices");
  });

  test("every changed byte of a list is refused with a code of its own area", () => {
    const bytes = signed(listOf(3, [one, two]));
    for (let i = 0; i < bytes.length; i++) {
      const changed = bytes.slice();
      changed[i]! ^= 1 << (i % 8);
      expect(() => verifyDeviceList(changed), `byte ${i}`).toThrow(/^device-list\//);
    }
    for (let length = 0; length < bytes.length; length++) {
      expect(() => verifyDeviceList(bytes.subarray(0, length))).toThrow("device-list/malformed");
    }
    expect(() => verifyDeviceList(new Uint8Array(2_049))).toThrow("device-list/malformed");
  });

  test("devices out of order, twice, or two with one key are refused though signed", () => {
    const same = { ...one, deviceId: deviceId(2) };
    for (const devices of [
      [two, one],
      [one, one],
      [one, same],
    ]) {
      expect(() => verifyDeviceList(signed(listOf(1, devices)))).toThrow("device-list/malformed");
    }
    expect(() => verifyDeviceList(signed(listOf(0, [one])))).toThrow("device-list/malformed");
  });

  test("a device that did not vouch for this account, or that the account did not vouch for, is refused", () => {
    const other = IdentityKeyPair.generate();
    const stolen = IdentityKeyPair.generate();
    const notVouched = createListedDevice(accountPair, deviceId(2), {
      identityKey: stolen.publicKey.serialize(),
      deviceSignature: stolen.signAlternateIdentity(other.publicKey),
    });
    const notSigned = listed(2, IdentityKeyPair.generate(), other);
    for (const device of [notVouched, notSigned]) {
      expect(() => verifyDeviceList(signed(listOf(1, [one, device])))).toThrow("device-list/bad-signature");
    }
  });

  test("a list signed by another key than the one it names, or of another account, is refused", () => {
    const other = IdentityKeyPair.generate();
    expect(() => verifyDeviceList(signed(listOf(1, [one]), other))).toThrow("device-list/bad-signature");
    const elsewhere = accountId(new Uint8Array(16).fill(6));
    expect(() => verifyListOf(elsewhere, signed(listOf(1, [one])))).toThrow("device-list/wrong-account");
  });

  test("versions only rise: older is a rollback, the same with other content is a conflict", () => {
    const at = (version: number, devices: readonly ListedDevice[]) => {
      const list = listOf(version, devices);
      return { list, encoded: signed(list) };
    };
    expect(compareLists(undefined, at(4, [one]))).toBe("first");
    expect(compareLists(at(4, [one]), at(5, [one]))).toBe("newer");
    expect(compareLists(at(4, [one]), at(4, [one]))).toBe("unchanged");
    expect(() => compareLists(at(4, [one]), at(3, [one]))).toThrow("device-list/rolled-back");
    expect(() => compareLists(at(4, [one]), at(4, [one, two]))).toThrow("device-list/conflict");
  });

  test("devices are gone when they are off the list or have another key", () => {
    const rekeyed = listed(1);
    expect(devicesGone(listOf(1, [one, two]), listOf(2, [one]))).toEqual([2]);
    expect(devicesGone(listOf(1, [one, two]), listOf(2, [rekeyed, two]))).toEqual([1]);
    expect(devicesGone(undefined, listOf(2, [one]))).toEqual([]);
  });

  test("an unknown format is refused", () => {
    const content = encode(0, (writer) => writer.uint8(2).fixed(new Uint8Array(60)));
    const bytes = encode(0, (writer) => writer.bytes(content).fixed(new Uint8Array(64)));
    expect(() => verifyDeviceList(bytes)).toThrow("device-list/unknown-format");
  });
});

import { accountId, RejectionError, UsageError } from "@murmuration/base";
import { SenderCertificate } from "@signalapp/libsignal-client";
import { describe, expect, test } from "vitest";
import type { PreKeyUpload } from "../../src/index.ts";
import {
  generateCertificateSigner,
  generateTrustRoot,
  issueSenderCertificate,
  validateDeviceListUpload,
  validatePreKeyUpload,
  verifyAlternateIdentity,
  verifyDeviceList,
  verifyDeviceSignature,
} from "../../src/server/index.ts";
import { Peer, random, World } from "../support/peers.ts";

async function freshUpload(): Promise<{
  peer: Peer;
  identityKey: Uint8Array<ArrayBuffer>;
  upload: PreKeyUpload;
}> {
  const peer = Peer.blank(new World());
  await peer.engine.generateAccount(accountId(random(16)), peer.store.persist());
  const counts = { preKeys: 0, kyberPreKeys: 0 };
  const upload = (await peer.engine.preparePreKeys(counts, peer.store.persist()))!;
  return { peer, identityKey: peer.engine.local()!.identityKey, upload };
}

function flipped(bytes: Uint8Array<ArrayBuffer>, at = 7): Uint8Array<ArrayBuffer> {
  const copy = bytes.slice();
  copy[at]! ^= 1;
  return copy;
}

describe("uploaded prekeys", () => {
  test("what a device generates is accepted; every kind of damage has its code", async () => {
    const { identityKey, upload } = await freshUpload();
    validatePreKeyUpload(identityKey, upload);
    const [kyber] = upload.kyberPreKeys;
    const [preKey] = upload.preKeys;
    const signed = upload.signedPreKey!;
    const lastResort = upload.lastResortKyberPreKey!;
    const damaged: [string, Partial<PreKeyUpload>][] = [
      ["keys/bad-signature", { signedPreKey: { ...signed, signature: flipped(signed.signature) } }],
      ["keys/bad-signature", { signedPreKey: { ...signed, publicKey: flipped(signed.publicKey) } }],
      ["keys/bad-signature", { signedPreKey: { ...signed, signature: new Uint8Array(63) } }],
      [
        "keys/bad-signature",
        { lastResortKyberPreKey: { ...lastResort, signature: flipped(lastResort.signature) } },
      ],
      ["keys/bad-signature", { kyberPreKeys: [{ ...kyber!, publicKey: flipped(kyber!.publicKey) }] }],
      ["keys/bad-key", { kyberPreKeys: [{ ...kyber!, publicKey: flipped(kyber!.publicKey, 0) }] }],
      ["keys/bad-key", { preKeys: [{ ...preKey!, publicKey: flipped(preKey!.publicKey, 0) }] }],
      ["keys/bad-key", { preKeys: [{ ...preKey!, publicKey: new Uint8Array(32) }] }],
      ["keys/bad-id", { preKeys: [{ ...preKey!, id: 0 }] }],
      ["keys/bad-id", { signedPreKey: { ...signed, id: 0x100_0000 } }],
      ["keys/duplicate-id", { preKeys: [preKey!, preKey!] }],
      ["keys/duplicate-id", { kyberPreKeys: [{ ...kyber!, id: lastResort.id }] }],
      ["keys/too-many", { preKeys: Array.from({ length: 101 }, (_, i) => ({ ...preKey!, id: i + 1 })) }],
      ["keys/bad-upload-id", { uploadId: new Uint8Array(15) }],
    ];
    for (const [code, change] of damaged) {
      expect(() => validatePreKeyUpload(identityKey, { ...upload, ...change }), code).toThrow(code);
    }
    expect(() => validatePreKeyUpload(new Uint8Array(33), upload)).toThrow("keys/bad-key");
  });

  test("keys of one device are refused under another device's identity key", async () => {
    const { upload } = await freshUpload();
    const { identityKey } = await freshUpload();
    expect(() => validatePreKeyUpload(identityKey, upload)).toThrow("keys/bad-signature");
  });
});

describe("uploaded device lists", () => {
  test("only a successor by the same account key takes the place of the stored one", async () => {
    const { peer } = await freshUpload();
    const { address, deviceList } = peer.engine.local()!;
    expect(validateDeviceListUpload(address.accountId, deviceList, undefined).version).toBe(1);
    expect(validateDeviceListUpload(address.accountId, deviceList, deviceList).version).toBe(1);
    const request = await linkRequestFor(peer);
    const { deviceList: second } = await peer.engine.addDevice(request, peer.store.persist());
    expect(validateDeviceListUpload(address.accountId, second, deviceList).devices).toHaveLength(2);
    const rollback = () => validateDeviceListUpload(address.accountId, deviceList, second);
    expect(rollback).toThrow("device-list/rolled-back");

    const other = Peer.blank(new World());
    await other.engine.generateAccount(address.accountId, other.store.persist());
    const takeover = () =>
      validateDeviceListUpload(address.accountId, other.engine.local()!.deviceList, second);
    expect(takeover).toThrow("device-list/account-key-changed");
    const elsewhere = () => validateDeviceListUpload(accountId(random(16)), second, undefined);
    expect(elsewhere).toThrow("device-list/wrong-account");
  });

  test("a list verifies by itself", async () => {
    const { peer } = await freshUpload();
    const { deviceList, identityKey } = peer.engine.local()!;
    expect(verifyDeviceList(deviceList).devices[0]!.identityKey).toEqual(identityKey);
    expect(() => verifyDeviceList(flipped(deviceList, 40))).toThrow(RejectionError);
  });
});

async function linkRequestFor(peer: Peer) {
  const device = Peer.blank(new World());
  const { address, accountIdentityKey } = peer.engine.local()!;
  const account = { accountId: address.accountId, accountIdentityKey };
  return device.engine.generateLinkRequest(account, device.store.persist());
}

describe("sender certificates", () => {
  test("name account, device and key, last until their expiration, and lead to the trust root", async () => {
    const { peer } = await freshUpload();
    const root = generateTrustRoot();
    const signer = generateCertificateSigner(root.privateKey, 1);
    const { address, identityKey } = peer.engine.local()!;
    const certificate = issueSenderCertificate(signer, { address, identityKey }, 5_000);
    const parsed = SenderCertificate.deserialize(certificate);
    expect(parsed.senderDeviceId()).toBe(address.deviceId);
    expect(new Uint8Array(parsed.senderAci()!.getRawUuidBytes())).toEqual(new Uint8Array(address.accountId));
    expect(parsed.key().serialize()).toEqual(identityKey);
    expect(parsed.expiration()).toBe(5_000);
  });

  test("key ids that libsignal reserves for Signal's own certificates are refused", () => {
    const root = generateTrustRoot();
    for (const id of [0, 2, 3, 0xdead_c357, 0x7357_c357, 2 ** 32, 1.5]) {
      expect(() => generateCertificateSigner(root.privateKey, id), String(id)).toThrow(UsageError);
    }
  });
});

describe("signatures of devices", () => {
  test("hold for label and content together, and for nothing else", async () => {
    const { peer, identityKey } = await freshUpload();
    const content = random(50);
    const signature = peer.engine.signWithDeviceKey("Test", content);
    expect(verifyDeviceSignature(identityKey, "Test", content, signature)).toBe(true);
    expect(verifyDeviceSignature(identityKey, "Tes", content, signature)).toBe(false);
    expect(verifyDeviceSignature(identityKey, "Test", flipped(content), signature)).toBe(false);
    expect(verifyDeviceSignature(identityKey, "Test", content, flipped(signature))).toBe(false);
    expect(verifyDeviceSignature(identityKey, "Test", content, new Uint8Array(3))).toBe(false);
    expect(verifyDeviceSignature(new Uint8Array(33), "Test", content, signature)).toBe(false);
  });

  test("an account key vouches for the device key that it signed, and malformed input is false", async () => {
    const { peer } = await freshUpload();
    const { accountIdentityKey, devices } = verifyDeviceList(peer.engine.local()!.deviceList);
    const { identityKey, accountSignature } = devices[0]!;
    expect(verifyAlternateIdentity(accountIdentityKey, identityKey, accountSignature)).toBe(true);
    expect(verifyAlternateIdentity(accountIdentityKey, identityKey, flipped(accountSignature))).toBe(false);
    const stranger = (await freshUpload()).identityKey;
    expect(verifyAlternateIdentity(accountIdentityKey, stranger, accountSignature)).toBe(false);
    expect(verifyAlternateIdentity(stranger, identityKey, accountSignature)).toBe(false);
    const empty = new Uint8Array(0);
    expect(verifyAlternateIdentity(empty, identityKey, accountSignature)).toBe(false);
    expect(verifyAlternateIdentity(accountIdentityKey, new Uint8Array(33), accountSignature)).toBe(false);
    expect(verifyAlternateIdentity(accountIdentityKey, identityKey, empty)).toBe(false);
  });
});

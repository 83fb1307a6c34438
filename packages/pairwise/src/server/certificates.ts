import { type Bytes, type DeviceAddress, UsageError } from "@murmuration/base";
import { PrivateKey, PublicKey, SenderCertificate, ServerCertificate } from "@signalapp/libsignal-client";
import { serviceId } from "../address.ts";
import type { CertificateSigner, SigningKeyPair } from "./api.ts";

/** Key ids that libsignal keeps for itself: 0xdeadc357 is revoked, the others name certificates it knows. */
const RESERVED_KEY_IDS: ReadonlySet<number> = new Set([2, 3, 0x7357c357, 0xdead_c357]);
const MAX_KEY_ID = 0xffff_ffff;

export function generateTrustRoot(): SigningKeyPair {
  const privateKey = PrivateKey.generate();
  return { privateKey: privateKey.serialize(), publicKey: privateKey.getPublicKey().serialize() };
}

export function generateCertificateSigner(trustRootPrivateKey: Bytes, keyId: number): CertificateSigner {
  const valid = Number.isInteger(keyId) && keyId >= 1 && keyId <= MAX_KEY_ID && !RESERVED_KEY_IDS.has(keyId);
  if (!valid) throw new UsageError("certificates/bad-key-id");
  const key = PrivateKey.generate();
  const root = PrivateKey.deserialize(trustRootPrivateKey);
  return {
    serverCertificate: ServerCertificate.new(keyId, key.getPublicKey(), root).serialize(),
    privateKey: key.serialize(),
  };
}

export function issueSenderCertificate(
  signer: CertificateSigner,
  device: { readonly address: DeviceAddress; readonly identityKey: Bytes },
  expiresAtMs: number,
): Bytes {
  const { accountId, deviceId } = device.address;
  return SenderCertificate.new(
    serviceId(accountId),
    null,
    deviceId,
    PublicKey.deserialize(device.identityKey),
    expiresAtMs,
    ServerCertificate.deserialize(signer.serverCertificate),
    PrivateKey.deserialize(signer.privateKey),
  ).serialize();
}

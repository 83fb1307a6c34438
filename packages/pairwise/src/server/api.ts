import type { Bytes } from "@murmuration/base";
import type { AccountId, DeviceAddress, DeviceList, PreKeyUpload } from "../api.ts";

/**
 * What the delivery service needs of libsignal: no stores, no clock. Implemented by the functions of
 * `@murmuration/pairwise/server` with these names; refusals are RejectionErrors with the codes given here.
 */

/** A signing key pair: private 32 bytes, public 33 bytes. */
export interface SigningKeyPair {
  readonly privateKey: Bytes;
  readonly publicKey: Bytes;
}

/** The key that signs sender certificates, itself certified by the trust root. The root can stay offline. */
export interface CertificateSigner {
  /** Serialized server certificate, part of every sender certificate. */
  readonly serverCertificate: Bytes;
  readonly privateKey: Bytes;
}

/** A new trust root; clients pin the public key. */
export type GenerateTrustRoot = () => SigningKeyPair;

/** Certifies a new signing key. `keyId` is 1..2^32-1; the few that libsignal reserves are refused. */
export type GenerateCertificateSigner = (trustRootPrivateKey: Bytes, keyId: number) => CertificateSigner;

/** Issues a SenderCertificate. Pure: what it says of the device, the caller has checked. About 0.1 ms. */
export type IssueSenderCertificate = (
  signer: CertificateSigner,
  device: { readonly address: DeviceAddress; readonly identityKey: Bytes },
  expiresAtMs: number,
) => Bytes;

/**
 * Checks an upload before it is stored: `keys/bad-upload-id`, `keys/bad-key`, `keys/bad-id`,
 * `keys/bad-signature`, `keys/duplicate-id`, `keys/too-many`. About 0.15 ms for each signed key.
 */
export type ValidatePreKeyUpload = (identityKey: Bytes, upload: PreKeyUpload) => void;

/**
 * Checks a device list that an account uploads, against the one stored (undefined: none yet). Returns the
 * decoded list. Codes as for DeviceListOutcome, and `device-list/account-key-changed`. The very same bytes
 * again are accepted.
 */
export type ValidateDeviceListUpload = (
  accountId: AccountId,
  next: Bytes,
  stored: Bytes | undefined,
) => DeviceList;

/** Decodes and verifies one list by itself: form, limits, every signature. */
export type VerifyDeviceList = (deviceList: Bytes) => DeviceList;

/** Verifies a signature of PairwiseEngine.signWithDeviceKey. False for a malformed key or signature. */
export type VerifyDeviceSignature = (
  identityKey: Uint8Array,
  label: string,
  content: Uint8Array,
  signature: Uint8Array,
) => boolean;

/** Verifies that an account identity key vouches for a device's (signAlternateIdentity). False for malformed input. */
export type VerifyAlternateIdentity = (
  accountKey: Uint8Array,
  deviceKey: Uint8Array,
  signature: Uint8Array,
) => boolean;

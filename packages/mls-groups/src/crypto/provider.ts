import type { Bytes } from "@murmuration/base";
import type { XEdDsaVerifier } from "./ed25519-as-xeddsa.ts";
import type { CipherSuite } from "./suites.ts";

/** Returns `length` unpredictable bytes that the caller owns. Tests inject a seeded source. */
export type RandomSource = (length: number) => Bytes;

/** A KEM key pair in the encodings of RFC 9180 section 7.1 (SerializePublicKey, SerializePrivateKey). */
export interface HpkeKeyPair {
  readonly publicKey: Bytes;
  readonly privateKey: Bytes;
}

/** A signature key pair: EdDSA keys raw, ECDSA public keys uncompressed points and private keys scalars. */
export interface SignatureKeyPair {
  readonly publicKey: Bytes;
  readonly privateKey: Bytes;
}

/** One signature to check in a batch. */
export interface VerifyJob {
  readonly publicKey: Uint8Array;
  readonly data: Uint8Array;
  readonly signature: Uint8Array;
}

/** Output of SealBase (RFC 9180 section 6.1). */
export interface HpkeCiphertext {
  readonly kemOutput: Bytes;
  readonly ciphertext: Bytes;
}

/** Output of SendExportBase (RFC 9180 section 6.2). */
export interface HpkeExport {
  readonly kemOutput: Bytes;
  readonly exported: Bytes;
}

export interface CryptoOptions {
  /**
   * Source of every random byte, ephemeral keys included. With a seeded source all outputs repeat, except
   * ECDSA signatures of the native provider: OpenSSL draws their nonces itself.
   */
  readonly random?: RandomSource;
  /**
   * Verifies XEdDSA signatures, by which Ed25519 is verified then ({@link Ed25519AsXEdDsa}); of the native provider,
   * which leaves it to OpenSSL otherwise. Arguments: a Montgomery public key of 32 bytes, what is signed, a signature of 64.
   */
  readonly verifyXEdDsa?: XEdDsaVerifier;
}

/**
 * The cryptographic operations of one cipher suite (RFC 9420 section 5.1). Synchronous, on raw bytes in
 * the encodings of the RFCs. A provider keeps no state that decides a result.
 *
 * Arguments that come from foreign bytes (public keys, ciphertexts, signatures) may hold anything: a
 * failure is a RejectionError with a stable code and never an error of the platform. Codes:
 * `mls/decryption-failed` (AEAD tag wrong or ciphertext shorter than a tag; HPKE opening, whatever the
 * cause), `mls/invalid-public-key` (wrong length, point not on the curve, small order). Arguments that only
 * the caller can get wrong (lengths of keys it derived) are a UsageError `mls/bad-argument`.
 */
export interface CryptoProvider {
  readonly suite: CipherSuite;

  /** Random bytes from the injected source. */
  random(length: number): Bytes;
  /** Hash of the concatenation of its arguments. */
  hash(data: Uint8Array, ...more: readonly Uint8Array[]): Bytes;
  /** HMAC with the suite's hash (RFC 9420 section 5.1, MAC). */
  mac(key: Uint8Array, data: Uint8Array): Bytes;
  /** KDF.Extract: HKDF-Extract (RFC 5869 section 2.2), Nh bytes. */
  extract(salt: Uint8Array, ikm: Uint8Array): Bytes;
  /** KDF.Expand: HKDF-Expand (RFC 5869 section 2.3). At most 255 Nh bytes. */
  expand(prk: Uint8Array, info: Uint8Array, length: number): Bytes;

  /** AEAD.Seal: ciphertext followed by the tag. */
  seal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Bytes;
  /** AEAD.Open. Throws RejectionError `mls/decryption-failed`. */
  open(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, ciphertext: Uint8Array): Bytes;

  generateSignatureKeyPair(): SignatureKeyPair;
  /** A signature over the bytes: EdDSA as in RFC 8032, ECDSA DER-encoded (RFC 9420 section 5.1). */
  sign(privateKey: Uint8Array, data: Uint8Array): Bytes;
  /** True if the signature is valid; an unusable public key or signature is false and never an error. */
  verify(publicKey: Uint8Array, data: Uint8Array, signature: Uint8Array): boolean;
  /** The same for many signatures, off the main thread where the platform has a pool. Results in order. */
  verifyBatch?(jobs: readonly VerifyJob[]): Promise<boolean[]>;
  /**
   * Signatures by these keys come next, with {@link verify}: what is derived of a key is derived for all of them at once
   * where that costs less. Says nothing of their validity.
   */
  expectSigners?(publicKeys: readonly Uint8Array[]): void;
  /** False for a wrong length, a point that is not on the curve, and the small-order points of the Edwards curves. */
  isValidSignaturePublicKey(publicKey: Uint8Array): boolean;

  generateHpkeKeyPair(): HpkeKeyPair;
  /** DeriveKeyPair (RFC 9180 section 7.1.3). */
  deriveHpkeKeyPair(ikm: Uint8Array): HpkeKeyPair;
  /** False for a wrong length, a point that is not on the curve, and the small-order points of X25519 and X448. */
  isValidHpkePublicKey(publicKey: Uint8Array): boolean;

  /** SealBase (RFC 9180 section 6.1). Throws RejectionError `mls/invalid-public-key`. */
  hpkeSeal(publicKey: Uint8Array, info: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): HpkeCiphertext;
  /**
   * OpenBase. `publicKey` is the recipient's own and saves one scalar multiplication; leave it out where it
   * is not at hand. Throws RejectionError `mls/decryption-failed`.
   */
  hpkeOpen(
    privateKey: Uint8Array,
    publicKey: Uint8Array | undefined,
    kemOutput: Uint8Array,
    info: Uint8Array,
    aad: Uint8Array,
    ciphertext: Uint8Array,
  ): Bytes;
  /** SendExportBase, for external initialisation (RFC 9420 section 8.3). Throws RejectionError `mls/invalid-public-key`. */
  hpkeExportSend(
    publicKey: Uint8Array,
    info: Uint8Array,
    exporterContext: Uint8Array,
    length: number,
  ): HpkeExport;
  /** ReceiveExportBase. Throws RejectionError `mls/decryption-failed`. */
  hpkeExportReceive(
    privateKey: Uint8Array,
    publicKey: Uint8Array | undefined,
    kemOutput: Uint8Array,
    info: Uint8Array,
    exporterContext: Uint8Array,
    length: number,
  ): Bytes;
}

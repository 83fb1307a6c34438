import { RejectionError, UsageError } from "@murmuration/base";

/** The seven cipher suites of RFC 9420 section 17.1. */
export type CipherSuiteId = 1 | 2 | 3 | 4 | 5 | 6 | 7;

export type HashName = "sha256" | "sha384" | "sha512";
export type AeadName = "aes-128-gcm" | "aes-256-gcm" | "chacha20-poly1305";
export type KemName = "x25519" | "x448" | "p256" | "p384" | "p521";
export type SignatureName = "ed25519" | "ed448" | "p256" | "p384" | "p521";

/**
 * The KEM of a suite (RFC 9180 section 7.1). All lengths in bytes. In each of the seven suites the hash of
 * the KEM's own KDF is the suite's hash, so that HPKE needs no second one.
 */
export interface Kem {
  readonly name: KemName;
  /** Code point of the IANA registry "HPKE KEM Identifiers". */
  readonly id: 0x0010 | 0x0011 | 0x0012 | 0x0020 | 0x0021;
  /** Nsecret. */
  readonly secretLength: number;
  /** Npk. NIST points are uncompressed. */
  readonly publicKeyLength: number;
  /** Nsk. */
  readonly privateKeyLength: number;
  /** Nenc. */
  readonly encLength: number;
}

/** Everything that a cipher suite fixes. All lengths in bytes. */
export interface CipherSuite {
  readonly id: CipherSuiteId;
  /** The name in the registry of RFC 9420 section 17.1. */
  readonly name: string;
  readonly hash: HashName;
  /** Nh, also KDF.Nh. */
  readonly hashLength: number;
  readonly aead: AeadName;
  /** AEAD.Nk. */
  readonly keyLength: number;
  /** AEAD.Nn. */
  readonly nonceLength: number;
  /** Bytes by which a ciphertext is longer than its plaintext. */
  readonly tagLength: number;
  readonly kem: Kem;
  /** HPKE KDF identifier (RFC 9180 section 7.2). */
  readonly kdfId: 1 | 2 | 3;
  /** HPKE AEAD identifier (RFC 9180 section 7.3). */
  readonly aeadId: 1 | 2 | 3;
  readonly signature: SignatureName;
}

const hashes = {
  sha256: { hash: "sha256", hashLength: 32, kdfId: 1 },
  sha384: { hash: "sha384", hashLength: 48, kdfId: 2 },
  sha512: { hash: "sha512", hashLength: 64, kdfId: 3 },
} as const;

const aeads = {
  aes128: { aead: "aes-128-gcm", keyLength: 16, nonceLength: 12, tagLength: 16, aeadId: 1 },
  aes256: { aead: "aes-256-gcm", keyLength: 32, nonceLength: 12, tagLength: 16, aeadId: 2 },
  chacha: { aead: "chacha20-poly1305", keyLength: 32, nonceLength: 12, tagLength: 16, aeadId: 3 },
} as const;

function kem(name: KemName, id: Kem["id"], secret: number, pub: number, priv: number): Kem {
  return {
    name,
    id,
    secretLength: secret,
    publicKeyLength: pub,
    privateKeyLength: priv,
    encLength: pub,
  };
}

const kems = {
  p256: kem("p256", 0x0010, 32, 65, 32),
  p384: kem("p384", 0x0011, 48, 97, 48),
  p521: kem("p521", 0x0012, 64, 133, 66),
  x25519: kem("x25519", 0x0020, 32, 32, 32),
  x448: kem("x448", 0x0021, 64, 56, 56),
} as const;

const suites: Readonly<Record<CipherSuiteId, CipherSuite>> = {
  1: {
    id: 1,
    name: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519",
    ...hashes.sha256,
    ...aeads.aes128,
    kem: kems.x25519,
    signature: "ed25519",
  },
  2: {
    id: 2,
    name: "MLS_128_DHKEMP256_AES128GCM_SHA256_P256",
    ...hashes.sha256,
    ...aeads.aes128,
    kem: kems.p256,
    signature: "p256",
  },
  3: {
    id: 3,
    name: "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519",
    ...hashes.sha256,
    ...aeads.chacha,
    kem: kems.x25519,
    signature: "ed25519",
  },
  4: {
    id: 4,
    name: "MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448",
    ...hashes.sha512,
    ...aeads.aes256,
    kem: kems.x448,
    signature: "ed448",
  },
  5: {
    id: 5,
    name: "MLS_256_DHKEMP521_AES256GCM_SHA512_P521",
    ...hashes.sha512,
    ...aeads.aes256,
    kem: kems.p521,
    signature: "p521",
  },
  6: {
    id: 6,
    name: "MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448",
    ...hashes.sha512,
    ...aeads.chacha,
    kem: kems.x448,
    signature: "ed448",
  },
  7: {
    id: 7,
    name: "MLS_256_DHKEMP384_AES256GCM_SHA384_P384",
    ...hashes.sha384,
    ...aeads.aes256,
    kem: kems.p384,
    signature: "p384",
  },
};

/** The identifiers of all suites, in ascending order. */
export const cipherSuiteIds: readonly CipherSuiteId[] = [1, 2, 3, 4, 5, 6, 7];

/** True for a suite that this engine implements; a code read from bytes is narrowed by it. */
export function isCipherSuiteId(code: number): code is CipherSuiteId {
  return Number.isInteger(code) && code >= 1 && code <= 7;
}

/** The suite of an identifier that the caller chose. Throws UsageError `mls/unknown-cipher-suite`. */
export function cipherSuite(id: CipherSuiteId): CipherSuite {
  if (!isCipherSuiteId(id)) throw new UsageError("mls/unknown-cipher-suite");
  return suites[id];
}

/** The suite of a code found in foreign bytes. Throws RejectionError `mls/unsupported-cipher-suite`. */
export function requireCipherSuite(code: number): CipherSuite {
  if (!isCipherSuiteId(code)) throw new RejectionError("mls/unsupported-cipher-suite");
  return suites[code];
}

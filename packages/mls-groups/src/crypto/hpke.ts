import {
  type Bytes,
  compareBytes,
  concatBytes,
  fromHex,
  InvariantError,
  RejectionError,
  UsageError,
  utf8,
  zeroize,
} from "@murmuration/base";
import type { HpkeCiphertext, HpkeExport, HpkeKeyPair } from "./provider.ts";
import type { CipherSuite, KemName } from "./suites.ts";

/**
 * What HPKE needs from a platform. `Key` is its private key: an imported handle where imports are costly.
 * No function here lets an error of the platform out.
 */
export interface HpkePlatform<Key> {
  readonly suite: CipherSuite;
  extract(salt: Uint8Array, ikm: Uint8Array): Bytes;
  expand(prk: Uint8Array, info: Uint8Array, length: number): Bytes;
  seal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Bytes;
  open(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, ciphertext: Uint8Array): Bytes;
  /** A fresh ephemeral key. */
  generate(): { key: Key; publicKey: Uint8Array };
  importPrivate(privateKey: Uint8Array): Key;
  publicOf(key: Key): Bytes;
  /** Encap (section 4.1) in one call, where the platform has it; errors as `exchange`. */
  encapsulate?(publicKey: Uint8Array): { sharedSecret: Bytes; kemOutput: Bytes };
  /** Decap (section 4.1) in one call, where the platform has it; errors as `exchange`. */
  decapsulate?(privateKey: Uint8Array, kemOutput: Uint8Array): Bytes;
  /** Raw Diffie-Hellman. Throws RejectionError `mls/invalid-public-key` for an unusable point or a zero result. */
  exchange(key: Key, publicKey: Uint8Array): Bytes;
}

const VERSION = utf8("HPKE-v1");
const EMPTY = new Uint8Array(0);

/** Orders of the NIST curves, big endian: private keys are 1 to order - 1. */
const orders: Partial<Readonly<Record<KemName, Uint8Array>>> = {
  p256: fromHex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"),
  p384: fromHex(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
  ),
  p521: fromHex(`01ff${"ff".repeat(31)}fa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409`),
};

/**
 * Draws private keys from `candidate` until one is in range: any string for X25519 and X448, for the NIST
 * curves a scalar from 1 to order - 1 after masking (RFC 9180 section 7.1.3; one try in 2^32 fails at most).
 */
export function drawPrivateKey(curve: KemName, candidate: (attempt: number) => Bytes): Bytes {
  const order = orders[curve];
  for (let attempt = 0; attempt < 256; attempt++) {
    const key = candidate(attempt);
    if (order === undefined) return key;
    if (curve === "p521") key[0]! &= 0x01;
    if (compareBytes(key, order) < 0 && key.some((byte) => byte !== 0)) return key;
  }
  throw new InvariantError("mls/no-private-key", "256 candidates out of range");
}

/**
 * HPKE in base mode (RFC 9180) over DHKEM, composed from the platform's Diffie-Hellman, HKDF and AEAD. One
 * value per suite; the label prefixes and the hash of the empty PSK identifier are computed once.
 */
export class Hpke<Key> {
  readonly #platform: HpkePlatform<Key>;
  readonly #kemSuiteId: Bytes;
  readonly #suiteId: Bytes;
  #pskIdHash: Bytes | undefined;

  constructor(platform: HpkePlatform<Key>) {
    const { kem, kdfId, aeadId } = platform.suite;
    this.#platform = platform;
    this.#kemSuiteId = concatBytes(utf8("KEM"), uint16(kem.id));
    this.#suiteId = concatBytes(utf8("HPKE"), uint16(kem.id), uint16(kdfId), uint16(aeadId));
  }

  /** DeriveKeyPair (section 7.1.3). Two HMACs and a scalar multiplication. */
  deriveKeyPair(ikm: Uint8Array): HpkeKeyPair {
    const { name, privateKeyLength } = this.#platform.suite.kem;
    const prk = this.#extract(this.#kemSuiteId, EMPTY, "dkp_prk", ikm);
    const privateKey = drawPrivateKey(name, (attempt) =>
      name === "x25519" || name === "x448"
        ? this.#expand(this.#kemSuiteId, prk, "sk", EMPTY, privateKeyLength)
        : this.#expand(this.#kemSuiteId, prk, "candidate", Uint8Array.of(attempt), privateKeyLength),
    );
    zeroize(prk);
    return this.keyPairOf(privateKey);
  }

  /** The pair that belongs to a private key; keeps the array it is given. */
  keyPairOf(privateKey: Bytes): HpkeKeyPair {
    return { publicKey: this.#platform.publicOf(this.#platform.importPrivate(privateKey)), privateKey };
  }

  /** SealBase (section 6.1). Throws RejectionError `mls/invalid-public-key`. */
  seal(publicKey: Uint8Array, info: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): HpkeCiphertext {
    const { sharedSecret, kemOutput } = this.#encapsulate(publicKey);
    const { key, nonce } = this.#aeadKey(sharedSecret, info);
    try {
      return { kemOutput, ciphertext: this.#platform.seal(key, nonce, aad, plaintext) };
    } finally {
      zeroize(key, nonce);
    }
  }

  /** OpenBase (section 6.1). Throws RejectionError `mls/decryption-failed`. */
  open(
    privateKey: Uint8Array,
    publicKey: Uint8Array | undefined,
    kemOutput: Uint8Array,
    info: Uint8Array,
    aad: Uint8Array,
    ciphertext: Uint8Array,
  ): Bytes {
    const { key, nonce } = this.#aeadKey(this.#decapsulate(privateKey, publicKey, kemOutput), info);
    try {
      return this.#platform.open(key, nonce, aad, ciphertext);
    } finally {
      zeroize(key, nonce);
    }
  }

  /** SendExportBase (section 6.2). Throws RejectionError `mls/invalid-public-key`. */
  exportSend(publicKey: Uint8Array, info: Uint8Array, context: Uint8Array, length: number): HpkeExport {
    const { sharedSecret, kemOutput } = this.#encapsulate(publicKey);
    return { kemOutput, exported: this.#export(sharedSecret, info, context, length) };
  }

  /** ReceiveExportBase (section 6.2). Throws RejectionError `mls/decryption-failed`. */
  exportReceive(
    privateKey: Uint8Array,
    publicKey: Uint8Array | undefined,
    kemOutput: Uint8Array,
    info: Uint8Array,
    context: Uint8Array,
    length: number,
  ): Bytes {
    return this.#export(this.#decapsulate(privateKey, publicKey, kemOutput), info, context, length);
  }

  /** Encap (section 4.1). */
  #encapsulate(publicKey: Uint8Array): { sharedSecret: Bytes; kemOutput: Bytes } {
    requireLength(publicKey, this.#platform.suite.kem.publicKeyLength);
    if (this.#platform.encapsulate !== undefined) return this.#platform.encapsulate(publicKey);
    const ephemeral = this.#platform.generate();
    const dh = this.#platform.exchange(ephemeral.key, publicKey);
    const kemOutput = ephemeral.publicKey.slice() as Bytes;
    return { sharedSecret: this.#sharedSecret(dh, concatBytes(kemOutput, publicKey)), kemOutput };
  }

  /** Decap (section 4.1). A bad point and a bad tag give the same error: the sender learns nothing more. */
  #decapsulate(privateKey: Uint8Array, publicKey: Uint8Array | undefined, kemOutput: Uint8Array): Bytes {
    const { kem } = this.#platform.suite;
    if (privateKey.length !== kem.privateKeyLength) throw new UsageError("mls/bad-argument", "private key");
    try {
      requireLength(kemOutput, kem.encLength);
      if (this.#platform.decapsulate !== undefined) return this.#platform.decapsulate(privateKey, kemOutput);
      const key = this.#platform.importPrivate(privateKey);
      const context = concatBytes(kemOutput, publicKey ?? this.#platform.publicOf(key));
      return this.#sharedSecret(this.#platform.exchange(key, kemOutput), context);
    } catch (error) {
      if (error instanceof RejectionError) throw new RejectionError("mls/decryption-failed");
      throw error;
    }
  }

  /** ExtractAndExpand (section 4.1); spends `dh`. */
  #sharedSecret(dh: Bytes, kemContext: Uint8Array): Bytes {
    const prk = this.#extract(this.#kemSuiteId, EMPTY, "eae_prk", dh);
    const { secretLength } = this.#platform.suite.kem;
    const out = this.#expand(this.#kemSuiteId, prk, "shared_secret", kemContext, secretLength);
    zeroize(dh, prk);
    return out;
  }

  /** The part of KeySchedule (section 5.1) that all uses share; spends `sharedSecret`. */
  #schedule(sharedSecret: Bytes, info: Uint8Array): { secret: Bytes; context: Bytes } {
    this.#pskIdHash ??= this.#extract(this.#suiteId, EMPTY, "psk_id_hash", EMPTY);
    const infoHash = this.#extract(this.#suiteId, EMPTY, "info_hash", info);
    const secret = this.#extract(this.#suiteId, sharedSecret, "secret", EMPTY);
    zeroize(sharedSecret);
    return { secret, context: concatBytes(Uint8Array.of(0), this.#pskIdHash, infoHash) };
  }

  /** Key and nonce of the first message; MLS never sends a second one in a context. */
  #aeadKey(sharedSecret: Bytes, info: Uint8Array): { key: Bytes; nonce: Bytes } {
    const { keyLength, nonceLength } = this.#platform.suite;
    const { secret, context } = this.#schedule(sharedSecret, info);
    const key = this.#expand(this.#suiteId, secret, "key", context, keyLength);
    const nonce = this.#expand(this.#suiteId, secret, "base_nonce", context, nonceLength);
    zeroize(secret);
    return { key, nonce };
  }

  #export(sharedSecret: Bytes, info: Uint8Array, exporterContext: Uint8Array, length: number): Bytes {
    const { secret, context } = this.#schedule(sharedSecret, info);
    const exporter = this.#expand(this.#suiteId, secret, "exp", context, this.#platform.suite.hashLength);
    const exported = this.#expand(this.#suiteId, exporter, "sec", exporterContext, length);
    zeroize(secret, exporter);
    return exported;
  }

  /** LabeledExtract (section 4). */
  #extract(suiteId: Bytes, salt: Uint8Array, label: string, ikm: Uint8Array): Bytes {
    const labeled = concatBytes(VERSION, suiteId, labelBytes(label), ikm);
    const out = this.#platform.extract(salt, labeled);
    zeroize(labeled);
    return out;
  }

  /** LabeledExpand (section 4). */
  #expand(suiteId: Bytes, prk: Uint8Array, label: string, info: Uint8Array, length: number): Bytes {
    const labeled = concatBytes(uint16(length), VERSION, suiteId, labelBytes(label), info);
    return this.#platform.expand(prk, labeled, length);
  }
}

const labels = new Map<string, Bytes>();

/** The labels of this file are few and fixed, so each is encoded once. */
function labelBytes(label: string): Bytes {
  let bytes = labels.get(label);
  if (bytes === undefined) {
    bytes = utf8(label);
    labels.set(label, bytes);
  }
  return bytes;
}

function uint16(value: number): Bytes {
  return Uint8Array.of(value >> 8, value & 0xff);
}

function requireLength(publicKey: Uint8Array, length: number): void {
  if (publicKey.length !== length) throw new RejectionError("mls/invalid-public-key");
}

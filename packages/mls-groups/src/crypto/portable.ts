import { type Bytes, concatBytes, RejectionError, UsageError, zeroize } from "@murmuration/base";
import { gcm } from "@noble/ciphers/aes.js";
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { ed448, x448 } from "@noble/curves/ed448.js";
import { ed25519, x25519 } from "@noble/curves/ed25519.js";
import { p256, p384, p521 } from "@noble/curves/nist.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256, sha384, sha512 } from "@noble/hashes/sha2.js";
import { hkdfExpand } from "./hkdf.ts";
import { drawPrivateKey, Hpke, type HpkePlatform } from "./hpke.ts";
import type {
  CryptoOptions,
  CryptoProvider,
  HpkeCiphertext,
  HpkeExport,
  HpkeKeyPair,
  RandomSource,
  SignatureKeyPair,
} from "./provider.ts";
import { hasSmallOrder } from "./small-order.ts";
import { type CipherSuite, type CipherSuiteId, cipherSuite } from "./suites.ts";

const hashes = { sha256, sha384, sha512 } as const;
const nist = { p256, p384, p521 } as const;
const montgomery = { x25519, x448 } as const;
const edwards = { ed25519, ed448 } as const;

/** Strict verification (RFC 8032), as OpenSSL does, instead of ZIP 215; it refuses keys of small order too. */
const STRICT = { zip215: false } as const;
/** Both forms of an ECDSA signature are valid in RFC 9420; noble hashes with the suite's hash itself. */
const DER = { format: "der", lowS: false } as const;

/** The operations of a suite on @noble, for browsers and other runtimes, and the second opinion on the native ones. */
export function portableCrypto(suiteId: CipherSuiteId, options: CryptoOptions = {}): CryptoProvider {
  return new PortableCrypto(cipherSuite(suiteId), options.random ?? platformRandom);
}

/** WebCrypto fills at most 65,536 bytes at a time; nothing here asks for more. */
function platformRandom(length: number): Bytes {
  return globalThis.crypto.getRandomValues(new Uint8Array(length));
}

class PortableCrypto implements CryptoProvider, HpkePlatform<Uint8Array> {
  readonly suite: CipherSuite;
  readonly #random: RandomSource;
  readonly #hash: typeof sha256 | typeof sha384 | typeof sha512;
  readonly #hpke: Hpke<Uint8Array>;

  constructor(suite: CipherSuite, random: RandomSource) {
    this.suite = suite;
    this.#random = random;
    this.#hash = hashes[suite.hash];
    this.#hpke = new Hpke(this);
  }

  random(length: number): Bytes {
    return this.#random(length);
  }

  hash(data: Uint8Array, ...more: readonly Uint8Array[]): Bytes {
    const state = this.#hash.create().update(data);
    for (const part of more) state.update(part);
    return state.digest();
  }

  mac(key: Uint8Array, data: Uint8Array): Bytes {
    return hmac(this.#hash, key, data);
  }

  extract(salt: Uint8Array, ikm: Uint8Array): Bytes {
    return this.mac(salt, ikm);
  }

  expand(prk: Uint8Array, info: Uint8Array, length: number): Bytes {
    return hkdfExpand((key, data) => this.mac(key, data), this.suite.hashLength, prk, info, length);
  }

  seal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Bytes {
    return this.#aead(key, nonce, aad).encrypt(plaintext);
  }

  open(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, ciphertext: Uint8Array): Bytes {
    const aead = this.#aead(key, nonce, aad);
    if (ciphertext.length < this.suite.tagLength) throw new RejectionError("mls/decryption-failed");
    try {
      return aead.decrypt(ciphertext);
    } catch {
      throw new RejectionError("mls/decryption-failed");
    }
  }

  #aead(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array) {
    if (key.length !== this.suite.keyLength || nonce.length !== this.suite.nonceLength) {
      throw new UsageError("mls/bad-argument", "length of an AEAD key or nonce");
    }
    return this.suite.aead === "chacha20-poly1305" ? chacha20poly1305(key, nonce, aad) : gcm(key, nonce, aad);
  }

  generateSignatureKeyPair(): SignatureKeyPair {
    const { signature } = this.suite;
    if (signature === "ed25519" || signature === "ed448") {
      const privateKey = this.random(signature === "ed25519" ? 32 : 57);
      return { publicKey: edwards[signature].getPublicKey(privateKey), privateKey };
    }
    const privateKey = drawPrivateKey(signature, () => this.random(this.suite.kem.privateKeyLength));
    return { publicKey: nist[signature].getPublicKey(privateKey, false), privateKey };
  }

  sign(privateKey: Uint8Array, data: Uint8Array): Bytes {
    const { signature } = this.suite;
    try {
      return signature === "ed25519" || signature === "ed448"
        ? edwards[signature].sign(data, privateKey)
        : nist[signature].sign(data, privateKey, DER);
    } catch {
      throw new UsageError("mls/bad-argument", "private key");
    }
  }

  verify(publicKey: Uint8Array, data: Uint8Array, signature: Uint8Array): boolean {
    const { signature: curve } = this.suite;
    try {
      if (curve === "ed25519" || curve === "ed448") {
        return edwards[curve].verify(signature, data, publicKey, STRICT);
      }
      return publicKey[0] === 4 && nist[curve].verify(signature, data, publicKey, DER);
    } catch {
      return false;
    }
  }

  isValidSignaturePublicKey(publicKey: Uint8Array): boolean {
    const { signature } = this.suite;
    if (signature === "ed25519" || signature === "ed448") {
      const length = signature === "ed25519" ? 32 : 57;
      return publicKey.length === length && !hasSmallOrder(signature, publicKey);
    }
    return nist[signature].utils.isValidPublicKey(publicKey, false);
  }

  generateHpkeKeyPair(): HpkeKeyPair {
    return this.#hpke.keyPairOf(this.#drawKey());
  }

  #drawKey(): Bytes {
    const { name, privateKeyLength } = this.suite.kem;
    return drawPrivateKey(name, () => this.random(privateKeyLength));
  }

  deriveHpkeKeyPair(ikm: Uint8Array): HpkeKeyPair {
    return this.#hpke.deriveKeyPair(ikm);
  }

  isValidHpkePublicKey(publicKey: Uint8Array): boolean {
    const { name, publicKeyLength } = this.suite.kem;
    if (name === "x25519" || name === "x448") {
      return publicKey.length === publicKeyLength && !hasSmallOrder(name, publicKey);
    }
    return nist[name].utils.isValidPublicKey(publicKey, false);
  }

  hpkeSeal(publicKey: Uint8Array, info: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): HpkeCiphertext {
    return this.#hpke.seal(publicKey, info, aad, plaintext);
  }

  hpkeOpen(
    privateKey: Uint8Array,
    publicKey: Uint8Array | undefined,
    kemOutput: Uint8Array,
    info: Uint8Array,
    aad: Uint8Array,
    ciphertext: Uint8Array,
  ): Bytes {
    return this.#hpke.open(privateKey, publicKey, kemOutput, info, aad, ciphertext);
  }

  hpkeExportSend(publicKey: Uint8Array, info: Uint8Array, context: Uint8Array, length: number): HpkeExport {
    return this.#hpke.exportSend(publicKey, info, context, length);
  }

  hpkeExportReceive(
    privateKey: Uint8Array,
    publicKey: Uint8Array | undefined,
    kemOutput: Uint8Array,
    info: Uint8Array,
    context: Uint8Array,
    length: number,
  ): Bytes {
    return this.#hpke.exportReceive(privateKey, publicKey, kemOutput, info, context, length);
  }

  generate(): { key: Bytes; publicKey: Bytes } {
    const key = this.#drawKey();
    return { key, publicKey: this.publicOf(key) };
  }

  importPrivate(privateKey: Uint8Array): Uint8Array {
    if (privateKey.length !== this.suite.kem.privateKeyLength) {
      throw new UsageError("mls/bad-argument", "private key");
    }
    return privateKey;
  }

  publicOf(key: Uint8Array): Bytes {
    const { name } = this.suite.kem;
    if (name === "x25519" || name === "x448") return montgomery[name].getPublicKey(key);
    if (!nist[name].utils.isValidSecretKey(key)) throw new UsageError("mls/bad-argument", "private key");
    return nist[name].getPublicKey(key, false);
  }

  exchange(key: Uint8Array, publicKey: Uint8Array): Bytes {
    const { name } = this.suite.kem;
    if (!this.isValidHpkePublicKey(publicKey)) throw new RejectionError("mls/invalid-public-key");
    try {
      if (name === "x25519" || name === "x448") return montgomery[name].getSharedSecret(key, publicKey);
      // The x coordinate of the shared point, without the prefix byte of its compressed form.
      const point = nist[name].getSharedSecret(key, publicKey, true);
      const shared = concatBytes(point.subarray(1));
      zeroize(point);
      return shared;
    } catch {
      // noble refuses an all-zero result of X25519 and X448.
      throw new RejectionError("mls/invalid-public-key");
    }
  }
}

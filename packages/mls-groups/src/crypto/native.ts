import nodeCrypto, {
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  hash as nodeHash,
  sign as nodeSign,
  verify as nodeVerify,
  randomFillSync,
} from "node:crypto";
import { type Bytes, equalSecret, RejectionError, UsageError, zeroize } from "@murmuration/base";
import { Ed25519AsXEdDsa } from "./ed25519-as-xeddsa.ts";
import { hkdfExpand } from "./hkdf.ts";
import { drawPrivateKey, Hpke, type HpkePlatform } from "./hpke.ts";
import { KeptKeys } from "./kept-keys.ts";
import { exportPublic, importPrivate, importPublic, isUsablePublic } from "./key-objects.ts";
import type {
  CryptoOptions,
  CryptoProvider,
  HpkeCiphertext,
  HpkeExport,
  HpkeKeyPair,
  RandomSource,
  SignatureKeyPair,
  VerifyJob,
} from "./provider.ts";
import { type CipherSuite, type CipherSuiteId, cipherSuite, type HashName } from "./suites.ts";

/**
 * Jobs of a batch that wait on the libuv pool at a time: all of a large join at once would keep file access waiting
 * until the end, where these take 13 ms of one core.
 */
const POOL_WINDOW = 128;
const SCRATCH = 4096;
/** Random bytes that are drawn at a time for requests of up to {@link SMALL_RANDOM} bytes. */
const RANDOM_POOL = 256;
/** Reuse guards and seeds of tables, and no key: a key's bytes lie nowhere before the key is made. */
const SMALL_RANDOM = 8;

const generators = {
  x25519: () => generateKeyPairSync("x25519"),
  x448: () => generateKeyPairSync("x448"),
  p256: () => generateKeyPairSync("ec", { namedCurve: "P-256" }),
  p384: () => generateKeyPairSync("ec", { namedCurve: "P-384" }),
  p521: () => generateKeyPairSync("ec", { namedCurve: "P-521" }),
} as const;

/**
 * The operations of a suite on node:crypto, each by the quickest way that was measured (Node 24.21,
 * OpenSSL 3.5, suite 1, microseconds on a loaded two-core machine; the order matters, not the digits).
 * One provider per suite and process is enough: it holds no state of a group.
 */
export function nativeCrypto(suiteId: CipherSuiteId, options: CryptoOptions = {}): CryptoProvider {
  return new NativeCrypto(cipherSuite(suiteId), options);
}

class NativeCrypto implements CryptoProvider, HpkePlatform<KeyObject> {
  readonly suite: CipherSuite;
  readonly #random: RandomSource | undefined;
  readonly #hashName: HashName;
  readonly #blockLength: number;
  readonly #scratch = new Uint8Array(SCRATCH);
  readonly #randomPool = new Uint8Array(RANDOM_POOL);
  #randomLeft = 0;
  readonly #hpke: Hpke<KeyObject>;
  readonly encapsulate?: (publicKey: Uint8Array) => { sharedSecret: Bytes; kemOutput: Bytes };
  readonly decapsulate?: (privateKey: Uint8Array, kemOutput: Uint8Array) => Bytes;
  readonly #publicKeys = new KeptKeys<KeyObject>();
  readonly #xeddsa: Ed25519AsXEdDsa | undefined;
  /** Signature keys live as long as the caller's array; see {@link NativeCrypto.sign}. */
  readonly #signatureKeys = new WeakMap<Uint8Array, { fingerprint: Bytes; key: KeyObject }>();

  constructor(suite: CipherSuite, { random, verifyXEdDsa }: CryptoOptions) {
    this.suite = suite;
    if (verifyXEdDsa !== undefined && suite.signature === "ed25519")
      this.#xeddsa = new Ed25519AsXEdDsa(verifyXEdDsa);
    this.#random = random;
    this.#hashName = suite.hash;
    this.#blockLength = suite.hash === "sha256" ? 64 : 128;
    if (random === undefined && suite.kem.name === "x25519" && kemSupported) {
      this.encapsulate = (publicKey) => this.#encapsulate(publicKey);
      this.decapsulate = (privateKey, kemOutput) => this.#decapsulate(privateKey, kemOutput);
    }
    this.#hpke = new Hpke(this);
  }

  random(length: number): Bytes {
    if (this.#random !== undefined) return this.#random(length);
    return length <= SMALL_RANDOM ? this.#smallRandom(length) : randomFillSync(new Uint8Array(length));
  }

  /** A call for four bytes takes 2 to 7 us, which every message would pay. Each byte is given out once and wiped. */
  #smallRandom(length: number): Bytes {
    if (this.#randomLeft < length) {
      randomFillSync(this.#randomPool);
      this.#randomLeft = RANDOM_POOL;
    }
    const end = this.#randomLeft;
    this.#randomLeft = end - length;
    const out = this.#randomPool.slice(end - length, end);
    this.#randomPool.fill(0, end - length, end);
    return out;
  }

  /** `crypto.hash` in one shot: 1.3 us for 200 bytes. Several parts are gathered in a buffer of our own. */
  hash(data: Uint8Array, ...more: readonly Uint8Array[]): Bytes {
    if (more.length === 0) return plain(nodeHash(this.#hashName, data, "buffer"));
    let length = data.length;
    for (const part of more) length += part.length;
    const buffer = this.#buffer(length);
    buffer.set(data);
    let offset = data.length;
    for (const part of more) {
      buffer.set(part, offset);
      offset += part.length;
    }
    const out = plain(nodeHash(this.#hashName, buffer.subarray(0, length), "buffer"));
    buffer.fill(0, 0, length);
    return out;
  }

  /** HMAC as two one-shot hashes: 2 us, where `createHmac` takes 14 (5 with a KeyObject). */
  mac(key: Uint8Array, data: Uint8Array): Bytes {
    return this.#mac(key, data, undefined);
  }

  /** HMAC of the data and, if there is one, a byte behind it. */
  #mac(key: Uint8Array, data: Uint8Array, last: number | undefined): Bytes {
    const block = this.#blockLength;
    const length = block + data.length + Number(last !== undefined);
    const shortKey = key.length > block ? this.hash(key) : key;
    const buffer = this.#buffer(Math.max(length, block + this.suite.hashLength));
    for (let i = 0; i < block; i++) buffer[i] = 0x36;
    for (let i = 0; i < shortKey.length; i++) buffer[i] = 0x36 ^ shortKey[i]!;
    buffer.set(data, block);
    if (last !== undefined) buffer[length - 1] = last;
    const inner = nodeHash(this.#hashName, buffer.subarray(0, length), "buffer");
    // From the inner pad to the outer pad of RFC 2104: 0x36 ^ 0x5c.
    for (let i = 0; i < block; i++) buffer[i]! ^= 0x6a;
    buffer.set(inner, block);
    const end = block + inner.length;
    const out = plain(nodeHash(this.#hashName, buffer.subarray(0, end), "buffer"));
    buffer.fill(0, 0, Math.max(length, end));
    return out;
  }

  extract(salt: Uint8Array, ikm: Uint8Array): Bytes {
    return this.mac(salt, ikm);
  }

  /** Up to Nh bytes, which is all but a few uses in MLS, it is one HMAC, and its input is put together in place. */
  expand(prk: Uint8Array, info: Uint8Array, length: number): Bytes {
    const { hashLength } = this.suite;
    if (Number.isInteger(length) && length > 0 && length <= hashLength) {
      const block = this.#mac(prk, info, 1);
      if (length === hashLength) return block;
      const out = block.slice(0, length);
      zeroize(block);
      return out;
    }
    return hkdfExpand((key, data) => this.mac(key, data), this.suite.hashLength, prk, info, length);
  }

  /** With the key as a KeyObject: 8 us against 27 with raw bytes. */
  seal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Bytes {
    const { tagLength: authTagLength } = this.suite;
    this.#checkKey(key, nonce);
    const options = { authTagLength, plaintextLength: plaintext.length };
    const cipher = createCipheriv(this.suite.aead as "aes-128-gcm", createSecretKey(key), nonce, options);
    cipher.setAAD(aad, options);
    const out = new Uint8Array(plaintext.length + authTagLength);
    // Both AEADs are stream ciphers: update gives everything, final only settles the tag.
    out.set(cipher.update(plaintext));
    cipher.final();
    out.set(cipher.getAuthTag(), plaintext.length);
    return out;
  }

  open(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, ciphertext: Uint8Array): Bytes {
    const { tagLength: authTagLength } = this.suite;
    this.#checkKey(key, nonce);
    const plaintextLength = ciphertext.length - authTagLength;
    if (plaintextLength < 0) throw new RejectionError("mls/decryption-failed");
    const options = { authTagLength, plaintextLength };
    const decipher = createDecipheriv(this.suite.aead as "aes-128-gcm", createSecretKey(key), nonce, options);
    decipher.setAAD(aad, options);
    decipher.setAuthTag(ciphertext.subarray(plaintextLength));
    const plaintext = plain(decipher.update(ciphertext.subarray(0, plaintextLength)));
    try {
      decipher.final();
    } catch {
      zeroize(plaintext);
      throw new RejectionError("mls/decryption-failed");
    }
    return plaintext;
  }

  #checkKey(key: Uint8Array, nonce: Uint8Array): void {
    if (key.length !== this.suite.keyLength || nonce.length !== this.suite.nonceLength) {
      throw new UsageError("mls/bad-argument", "length of an AEAD key or nonce");
    }
  }

  generateSignatureKeyPair(): SignatureKeyPair {
    const { signature } = this.suite;
    const privateKey =
      signature === "ed25519" || signature === "ed448"
        ? this.random(signature === "ed25519" ? 32 : 57)
        : drawPrivateKey(signature, () => this.random(this.suite.kem.privateKeyLength));
    return { publicKey: exportPublic(importPrivate(signature, privateKey)), privateKey };
  }

  /**
   * An import of the private key costs as much as the signature, so the KeyObject is kept as
   * long as the caller's array lives. A fingerprint notices an array that was overwritten in between.
   */
  sign(privateKey: Uint8Array, data: Uint8Array): Bytes {
    const fingerprint = this.hash(privateKey);
    let kept = this.#signatureKeys.get(privateKey);
    if (kept === undefined || !equalSecret(kept.fingerprint, fingerprint)) {
      this.#signatureKeys.delete(privateKey);
      kept = { fingerprint, key: importPrivate(this.suite.signature, privateKey) };
      this.#signatureKeys.set(privateKey, kept);
    }
    return plain(nodeSign(this.#signatureHash(), data, kept.key));
  }

  /** Ed25519 by XEdDSA where that is given: 50 us where OpenSSL takes 92. */
  verify(publicKey: Uint8Array, data: Uint8Array, signature: Uint8Array): boolean {
    return this.#xeddsa?.verify(publicKey, data, signature) ?? this.#verify(publicKey, data, signature);
  }

  /** An import takes 6 us or more of a verification's 110: the public keys used last are kept. */
  #verify(publicKey: Uint8Array, data: Uint8Array, signature: Uint8Array): boolean {
    const key = this.#verificationKey(publicKey);
    if (key === undefined) return false;
    try {
      return nodeVerify(this.#signatureHash(), data, key, signature);
    } catch {
      // Node throws for some signatures that are not DER at all.
      return false;
    }
  }

  expectSigners(publicKeys: readonly Uint8Array[]): void {
    this.#xeddsa?.expect(publicKeys);
  }

  async verifyBatch(jobs: readonly VerifyJob[]): Promise<boolean[]> {
    if (this.#xeddsa === undefined) return this.#verifyAllOnPool(jobs);
    const results = this.#xeddsa
      .verifyBatch(jobs)
      .map((result, i) => result ?? this.#verify(jobs[i]!.publicKey, jobs[i]!.data, jobs[i]!.signature));
    // Whoever waits for batch after batch lets the event loop have its turn in between.
    await new Promise((resolve) => setImmediate(resolve));
    return results;
  }

  /**
   * On the libuv pool, {@link POOL_WINDOW} at a time: each that is done makes room for the next, so that the pool
   * never runs dry. The keys of a join are used once and not kept.
   */
  async #verifyAllOnPool(jobs: readonly VerifyJob[]): Promise<boolean[]> {
    const results = jobs.map(() => false);
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < jobs.length) {
        const place = next++;
        results[place] = await this.#verifyOnPool(jobs[place]!);
      }
    };
    await Promise.all(Array.from({ length: Math.min(POOL_WINDOW, jobs.length) }, worker));
    return results;
  }

  #verifyOnPool(job: VerifyJob): Promise<boolean> {
    return new Promise((resolve) => {
      try {
        const key = importPublic(this.suite.signature, job.publicKey);
        nodeVerify(this.#signatureHash(), job.data, key, job.signature, (error, valid) =>
          resolve(error === null && valid),
        );
      } catch {
        resolve(false);
      }
    });
  }

  #verificationKey(publicKey: Uint8Array): KeyObject | undefined {
    return this.#publicKeys.get(publicKey, () => {
      try {
        return importPublic(this.suite.signature, publicKey);
      } catch {
        return undefined;
      }
    });
  }

  /** EdDSA hashes by itself; ECDSA takes the suite's hash (RFC 9420 section 17.1). */
  #signatureHash(): HashName | null {
    const { signature } = this.suite;
    return signature === "ed25519" || signature === "ed448" ? null : this.#hashName;
  }

  isValidSignaturePublicKey(publicKey: Uint8Array): boolean {
    return isUsablePublic(this.suite.signature, publicKey);
  }

  generateHpkeKeyPair(): HpkeKeyPair {
    const { name, privateKeyLength } = this.suite.kem;
    return this.#hpke.keyPairOf(drawPrivateKey(name, () => this.random(privateKeyLength)));
  }

  deriveHpkeKeyPair(ikm: Uint8Array): HpkeKeyPair {
    return this.#hpke.deriveKeyPair(ikm);
  }

  isValidHpkePublicKey(publicKey: Uint8Array): boolean {
    return isUsablePublic(this.suite.kem.name, publicKey);
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

  /**
   * DHKEM of OpenSSL 3.2 in one call, which Node has from 24.7: with it a whole HPKE seal takes 15 percent less
   * than composed from Diffie-Hellman and HMACs, an opening 20 percent. Only with the platform's own
   * randomness, since OpenSSL draws the ephemeral key.
   */
  #encapsulate(publicKey: Uint8Array): { sharedSecret: Bytes; kemOutput: Bytes } {
    const key = importPublic(this.suite.kem.name, publicKey);
    const { sharedKey, ciphertext } = kemCall(() => nodeCrypto.encapsulate(key));
    return { sharedSecret: plain(sharedKey), kemOutput: plain(ciphertext) };
  }

  #decapsulate(privateKey: Uint8Array, kemOutput: Uint8Array): Bytes {
    if (!isUsablePublic(this.suite.kem.name, kemOutput)) throw new RejectionError("mls/invalid-public-key");
    const key = this.importPrivate(privateKey);
    return plain(kemCall(() => nodeCrypto.decapsulate(key, kemOutput)));
  }

  /**
   * The ephemeral key of HPKE. OpenSSL draws it itself (34 us and 2 for the public key; a private key of
   * our own would cost an import of 35 and the drawing) unless the source of randomness was injected.
   */
  generate(): { key: KeyObject; publicKey: Bytes } {
    const { name, privateKeyLength } = this.suite.kem;
    if (this.#random === undefined) {
      const { privateKey, publicKey } = generators[name]();
      return { key: privateKey, publicKey: exportPublic(publicKey) };
    }
    const privateKey = drawPrivateKey(name, () => this.random(privateKeyLength));
    const key = importPrivate(name, privateKey);
    zeroize(privateKey);
    return { key, publicKey: exportPublic(key) };
  }

  /** HPKE private keys are imported at each use: a kept KeyObject would outlive the deletion of its key. */
  importPrivate(privateKey: Uint8Array): KeyObject {
    return importPrivate(this.suite.kem.name, privateKey);
  }

  publicOf(key: KeyObject): Bytes {
    return exportPublic(key);
  }

  exchange(privateKey: KeyObject, publicKey: Uint8Array): Bytes {
    const imported = importPublic(this.suite.kem.name, publicKey);
    let shared: Bytes;
    try {
      shared = plain(diffieHellman({ privateKey, publicKey: imported }));
    } catch {
      // OpenSSL refuses an all-zero result of X25519 and X448.
      throw new RejectionError("mls/invalid-public-key");
    }
    if (shared.every((byte) => byte === 0)) throw new RejectionError("mls/invalid-public-key");
    return shared;
  }

  /** Scratch space, zero before and after use; a larger input gets an array of its own. */
  #buffer(length: number): Uint8Array {
    return length <= SCRATCH ? this.#scratch : new Uint8Array(length);
  }
}

/** The points were checked before, so OpenSSL refuses nothing more; if it ever does, it is the point's fault. */
function kemCall<T>(call: () => T): T {
  try {
    return call();
  } catch {
    throw new RejectionError("mls/invalid-public-key");
  }
}

const kemSupported = typeof nodeCrypto.encapsulate === "function";

/** The same memory without Buffer's own methods: `slice` of a Buffer would not copy. */
function plain(buffer: Uint8Array): Bytes {
  return new Uint8Array(buffer.buffer as ArrayBuffer, buffer.byteOffset, buffer.length);
}

/**
 * The seven cipher suites of RFC 9420 section 17.1 over @noble and @hpke/core: a second opinion that shares no
 * code with this project's engine. Slow and simple on purpose. Every random byte comes from a seeded stream,
 * and an HPKE ephemeral key is derived from what it encrypts, so that the output does not depend on the order
 * in which promises settle.
 */
import {
  type AeadInterface,
  Aes128Gcm,
  Aes256Gcm,
  CipherSuite,
  DhkemP256HkdfSha256,
  DhkemP384HkdfSha384,
  DhkemP521HkdfSha512,
  DhkemX448HkdfSha512,
  DhkemX25519HkdfSha256,
  HkdfSha256,
  HkdfSha384,
  HkdfSha512,
} from "@hpke/core";
import { gcm } from "@noble/ciphers/aes.js";
import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { ed448 } from "@noble/curves/ed448.js";
import { ed25519 } from "@noble/curves/ed25519.js";
import { p256, p384, p521 } from "@noble/curves/nist.js";
import { expand, extract } from "@noble/hashes/hkdf.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256, sha384, sha512 } from "@noble/hashes/sha2.js";

export type RandomBytes = (length: number) => Uint8Array;

/** SHA-256 in counter mode over a seed. */
export function seededRandom(seed: string): RandomBytes {
  let counter = 0;
  return (length) => {
    const out = new Uint8Array(length);
    for (let offset = 0; offset < length; offset += 32) {
      const block = sha256(new TextEncoder().encode(`${seed}/${counter++}`));
      out.set(block.subarray(0, Math.min(32, length - offset)), offset);
    }
    return out;
  };
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}

const buffer = (bytes: Uint8Array): ArrayBuffer => Uint8Array.from(bytes).buffer;
const array = (value: ArrayBufferLike | ArrayBufferView): Uint8Array =>
  ArrayBuffer.isView(value)
    ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
    : new Uint8Array(value);

/** @hpke/core has no ChaCha20-Poly1305 of its own; its interface takes one. */
const chacha: AeadInterface = {
  id: 0x0003,
  keySize: 32,
  nonceSize: 12,
  tagSize: 16,
  createEncryptionContext: (key) => ({
    seal: async (nonce, data, aad) =>
      buffer(chacha20poly1305(array(key), array(nonce), array(aad)).encrypt(array(data))),
    open: async (nonce, data, aad) =>
      buffer(chacha20poly1305(array(key), array(nonce), array(aad)).decrypt(array(data))),
  }),
};

interface SignatureScheme {
  keygen(random: RandomBytes): { readonly priv: Uint8Array; readonly pub: Uint8Array };
  sign(priv: Uint8Array, message: Uint8Array): Uint8Array;
  verify(pub: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;
}

function edwards(curve: typeof ed25519, length: number): SignatureScheme {
  return {
    keygen(random) {
      const priv = random(length);
      return { priv, pub: curve.getPublicKey(priv) };
    },
    sign: (priv, message) => curve.sign(message, priv),
    verify: (pub, message, signature) => curve.verify(signature, message, pub),
  };
}

/** ECDSA with the nonces of RFC 6979, uncompressed points and DER signatures (RFC 9420 section 5.1). */
function ecdsa(curve: typeof p256): SignatureScheme {
  const format = { prehash: true, format: "der", lowS: false } as const;
  return {
    keygen(random) {
      const priv = curve.utils.randomSecretKey(random(curve.lengths.seed ?? 96));
      return { priv, pub: curve.getPublicKey(priv, false) };
    },
    sign: (priv, message) => curve.sign(message, priv, format),
    verify: (pub, message, signature) => curve.verify(signature, message, pub, format),
  };
}

interface Parameters {
  readonly hash: typeof sha256 | typeof sha384 | typeof sha512;
  readonly aead: () => AeadInterface;
  readonly kem: () => ConstructorParameters<typeof CipherSuite>[0]["kem"];
  readonly kdf: () => ConstructorParameters<typeof CipherSuite>[0]["kdf"];
  readonly signature: SignatureScheme;
}

const parameters: Readonly<Record<number, Parameters>> = {
  1: {
    hash: sha256,
    aead: () => new Aes128Gcm(),
    kem: () => new DhkemX25519HkdfSha256(),
    kdf: () => new HkdfSha256(),
    signature: edwards(ed25519, 32),
  },
  2: {
    hash: sha256,
    aead: () => new Aes128Gcm(),
    kem: () => new DhkemP256HkdfSha256(),
    kdf: () => new HkdfSha256(),
    signature: ecdsa(p256),
  },
  3: {
    hash: sha256,
    aead: () => chacha,
    kem: () => new DhkemX25519HkdfSha256(),
    kdf: () => new HkdfSha256(),
    signature: edwards(ed25519, 32),
  },
  4: {
    hash: sha512,
    aead: () => new Aes256Gcm(),
    kem: () => new DhkemX448HkdfSha512(),
    kdf: () => new HkdfSha512(),
    signature: edwards(ed448, 57),
  },
  5: {
    hash: sha512,
    aead: () => new Aes256Gcm(),
    kem: () => new DhkemP521HkdfSha512(),
    kdf: () => new HkdfSha512(),
    signature: ecdsa(p521),
  },
  6: {
    hash: sha512,
    aead: () => chacha,
    kem: () => new DhkemX448HkdfSha512(),
    kdf: () => new HkdfSha512(),
    signature: edwards(ed448, 57),
  },
  7: {
    hash: sha384,
    aead: () => new Aes256Gcm(),
    kem: () => new DhkemP384HkdfSha384(),
    kdf: () => new HkdfSha384(),
    signature: ecdsa(p384),
  },
};

export const suiteIds = [1, 2, 3, 4, 5, 6, 7] as const;

export interface KeyPair {
  readonly priv: Uint8Array;
  readonly pub: Uint8Array;
}

/** One suite's operations on raw bytes. */
export type ReferenceSuite = ReturnType<typeof referenceSuite>;

export function referenceSuite(id: number, random: RandomBytes) {
  const chosen = parameters[id];
  if (chosen === undefined) throw new RangeError(`no cipher suite ${id}`);
  const aead = chosen.aead();
  const hpke = new CipherSuite({ kem: chosen.kem(), kdf: chosen.kdf(), aead });
  const cipher = (key: Uint8Array, nonce: Uint8Array, aad: Uint8Array) =>
    aead === chacha ? chacha20poly1305(key, nonce, aad) : gcm(key, nonce, aad);
  const raw = async (pair: Awaited<ReturnType<typeof hpke.kem.deriveKeyPair>>): Promise<KeyPair> => ({
    priv: array(await hpke.kem.serializePrivateKey(pair.privateKey)),
    pub: array(await hpke.kem.serializePublicKey(pair.publicKey)),
  });
  /** Ephemeral key material: distinct for each message, the same in each run. */
  const ephemeral = (...from: Uint8Array[]) => buffer(hmac(sha512, Uint8Array.of(id), concat(...from)));
  const sender = async (pub: Uint8Array, info: Uint8Array, ekm: ArrayBuffer) =>
    hpke.createSenderContext({
      recipientPublicKey: await hpke.kem.deserializePublicKey(buffer(pub)),
      info: buffer(info),
      ekm,
    });
  const recipient = async (priv: Uint8Array, enc: Uint8Array, info: Uint8Array) =>
    hpke.createRecipientContext({
      recipientKey: await hpke.kem.deserializePrivateKey(buffer(priv)),
      enc: buffer(enc),
      info: buffer(info),
    });
  return {
    id,
    random,
    hashLength: chosen.hash.outputLen,
    keyLength: aead.keySize,
    nonceLength: aead.nonceSize,
    signature: chosen.signature,
    hash: (data: Uint8Array) => chosen.hash(data),
    mac: (key: Uint8Array, data: Uint8Array) => hmac(chosen.hash, key, data),
    extract: (salt: Uint8Array, ikm: Uint8Array) => extract(chosen.hash, ikm, salt),
    expand: (prk: Uint8Array, info: Uint8Array, length: number) => expand(chosen.hash, prk, info, length),
    seal: (key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, text: Uint8Array) =>
      cipher(key, nonce, aad).encrypt(text),
    open: (key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, text: Uint8Array) =>
      cipher(key, nonce, aad).decrypt(text),
    deriveKeyPair: async (ikm: Uint8Array) => raw(await hpke.kem.deriveKeyPair(buffer(ikm))),
    async hpkeSeal(pub: Uint8Array, info: Uint8Array, aad: Uint8Array, text: Uint8Array) {
      const context = await sender(pub, info, ephemeral(pub, info, text));
      return { enc: array(context.enc), ct: array(await context.seal(buffer(text), buffer(aad))) };
    },
    async hpkeOpen(priv: Uint8Array, enc: Uint8Array, info: Uint8Array, aad: Uint8Array, text: Uint8Array) {
      return array(await (await recipient(priv, enc, info)).open(buffer(text), buffer(aad)));
    },
    async hpkeExportSend(pub: Uint8Array, info: Uint8Array, label: Uint8Array, length: number) {
      const context = await sender(pub, info, ephemeral(pub, info, random(32)));
      return { enc: array(context.enc), secret: array(await context.export(buffer(label), length)) };
    },
    async hpkeExportReceive(
      priv: Uint8Array,
      enc: Uint8Array,
      info: Uint8Array,
      label: Uint8Array,
      length: number,
    ) {
      return array(await (await recipient(priv, enc, info)).export(buffer(label), length));
    },
  };
}

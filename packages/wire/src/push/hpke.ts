import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
} from "node:crypto";
import { type Bytes, concatBytes, refuseUnless, utf8 } from "@murmuration/base";

/*
 * RFC 9180 in base mode, single shot: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305. Curve, hash and cipher are
 * OpenSSL's; here is only the order in which the RFC calls them.
 */

/** Raw X25519 keys, 32 bytes each. */
export interface KeyPair {
  readonly publicKey: Bytes;
  readonly privateKey: Bytes;
}

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** What sealing adds: the encapsulated key and the tag. */
export const SEAL_OVERHEAD = KEY_BYTES + TAG_BYTES;

const NONE: Bytes = new Uint8Array(0);
const KEM_SUITE = concatBytes(utf8("KEM"), Uint8Array.of(0x00, 0x20));
const HPKE_SUITE = concatBytes(utf8("HPKE"), Uint8Array.of(0x00, 0x20, 0x00, 0x01, 0x00, 0x03));
const CIPHER = "chacha20-poly1305";

/** A fresh X25519 key pair. */
export function generateKeyPair(): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync("x25519");
  const pair = {
    publicKey: new Uint8Array(publicKey.export({ format: "der", type: "spki" }).subarray(SPKI.length)),
    privateKey: new Uint8Array(privateKey.export({ format: "der", type: "pkcs8" }).subarray(PKCS8.length)),
  };
  imported.set(pair, privateKey);
  return pair;
}

/** Seals to a public key: 32 bytes of encapsulated key, then the ciphertext with its tag. RFC 9180, 6.1, SealBase. */
export function seal(publicKey: Bytes, info: Bytes, aad: Bytes, plaintext: Bytes): Bytes {
  const ephemeral = generateKeyPair();
  const dh = agree(ephemeral, publicKey);
  const { key, nonce } = schedule(sharedSecret(dh, ephemeral.publicKey, publicKey), info);
  const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(aad, { plaintextLength: plaintext.length });
  const ciphertext = concatBytes(cipher.update(plaintext), cipher.final());
  return concatBytes(ephemeral.publicKey, ciphertext, cipher.getAuthTag());
}

/** Opens what {@link seal} made. RFC 9180, 6.1, OpenBase. Throws RejectionError `handle/cannot-open`. */
export function open(recipient: KeyPair, info: Bytes, aad: Bytes, sealed: Bytes): Bytes {
  refuseUnless(sealed.length >= SEAL_OVERHEAD, "handle/cannot-open");
  const encapsulated = sealed.slice(0, KEY_BYTES);
  const ciphertext = sealed.slice(KEY_BYTES, sealed.length - TAG_BYTES);
  try {
    const dh = agree(recipient, encapsulated);
    const { key, nonce } = schedule(sharedSecret(dh, encapsulated, recipient.publicKey), info);
    const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAAD(aad, { plaintextLength: ciphertext.length });
    decipher.setAuthTag(sealed.slice(sealed.length - TAG_BYTES));
    return concatBytes(decipher.update(ciphertext), decipher.final());
  } catch {
    // A point of small order, another key, changed bytes: whoever sent them learns no more than that.
    refuseUnless(false, "handle/cannot-open");
  }
}

function agree(own: KeyPair, other: Bytes): Bytes {
  return new Uint8Array(diffieHellman({ privateKey: privateKeyOf(own), publicKey: publicKeyOf(other) }));
}

/** SubjectPublicKeyInfo of X25519 (RFC 8410) up to the key. */
const SPKI = Uint8Array.of(0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00);
/** PKCS #8 up to the key. */
const PKCS8 = Uint8Array.of(
  0x30,
  0x2e,
  2,
  1,
  0,
  0x30,
  0x05,
  0x06,
  0x03,
  0x2b,
  0x65,
  0x6e,
  0x04,
  0x22,
  0x04,
  0x20,
);

function publicKeyOf(raw: Bytes): KeyObject {
  return createPublicKey({ key: Buffer.concat([SPKI, raw]), format: "der", type: "spki" });
}

/** Of key pairs that are used again and again: the gateway's own. */
const imported = new WeakMap<KeyPair, KeyObject>();

function privateKeyOf(pair: KeyPair): KeyObject {
  let key = imported.get(pair);
  if (key === undefined) {
    key = createPrivateKey({ key: Buffer.concat([PKCS8, pair.privateKey]), format: "der", type: "pkcs8" });
    imported.set(pair, key);
  }
  return key;
}

/** 4.1, ExtractAndExpand. */
function sharedSecret(dh: Bytes, encapsulated: Bytes, publicKey: Bytes): Bytes {
  const prk = extract(KEM_SUITE, NONE, "eae_prk", dh);
  return expand(KEM_SUITE, prk, "shared_secret", concatBytes(encapsulated, publicKey), KEY_BYTES);
}

/** 5.1, KeySchedule with mode_base, and the nonce of the first message. */
function schedule(secret: Bytes, info: Bytes): { readonly key: Bytes; readonly nonce: Bytes } {
  const pskIdHash = extract(HPKE_SUITE, NONE, "psk_id_hash", NONE);
  const infoHash = extract(HPKE_SUITE, NONE, "info_hash", info);
  const context = concatBytes(Uint8Array.of(0), pskIdHash, infoHash);
  const prk = extract(HPKE_SUITE, secret, "secret", NONE);
  return {
    key: expand(HPKE_SUITE, prk, "key", context, KEY_BYTES),
    nonce: expand(HPKE_SUITE, prk, "base_nonce", context, NONCE_BYTES),
  };
}

/** 4, LabeledExtract. */
function extract(suite: Bytes, salt: Bytes, label: string, input: Bytes): Bytes {
  return hmac(salt, concatBytes(utf8("HPKE-v1"), suite, utf8(label), input));
}

/** 4, LabeledExpand, of at most one block of the hash. */
function expand(suite: Bytes, prk: Bytes, label: string, info: Bytes, length: number): Bytes {
  const labeled = concatBytes(Uint8Array.of(0, length), utf8("HPKE-v1"), suite, utf8(label), info);
  return hmac(prk, concatBytes(labeled, Uint8Array.of(1))).slice(0, length);
}

function hmac(key: Bytes, data: Bytes): Bytes {
  return new Uint8Array(createHmac("sha256", key).update(data).digest());
}

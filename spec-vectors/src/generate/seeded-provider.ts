/** The reference primitives as a ts-mls provider, so that whole groups of ts-mls come out the same each run. */
import type { CiphersuiteImpl, Hpke, PrivateKey, PublicKey } from "ts-mls";
import { type RandomBytes, type ReferenceSuite, referenceSuite } from "./suites.ts";

/** ts-mls passes its key objects through unopened, so raw bytes may take their place. */
const asPublic = (bytes: Uint8Array): PublicKey => bytes as unknown as PublicKey;
const asPrivate = (bytes: Uint8Array): PrivateKey => bytes as unknown as PrivateKey;
const raw = (key: PublicKey | PrivateKey): Uint8Array => key as unknown as Uint8Array;
const NONE = new Uint8Array();

function hpkeOf(suite: ReferenceSuite): Hpke {
  const pairOf = async (ikm: Uint8Array) => {
    const { priv, pub } = await suite.deriveKeyPair(ikm);
    return { privateKey: asPrivate(priv), publicKey: asPublic(pub) };
  };
  return {
    keyLength: suite.keyLength,
    nonceLength: suite.nonceLength,
    seal: (key, plaintext, info, aad = NONE) => suite.hpkeSeal(raw(key), info, aad, plaintext),
    open: (key, enc, ciphertext, info, aad = NONE) => suite.hpkeOpen(raw(key), enc, info, aad, ciphertext),
    importPrivateKey: async (key) => asPrivate(key),
    importPublicKey: async (key) => asPublic(key),
    exportPublicKey: async (key) => raw(key),
    exportPrivateKey: async (key) => raw(key),
    encryptAead: async (key, nonce, aad = NONE, plaintext) => suite.seal(key, nonce, aad, plaintext),
    decryptAead: async (key, nonce, aad = NONE, ciphertext) => suite.open(key, nonce, aad, ciphertext),
    exportSecret: (key, label, length, info) => suite.hpkeExportSend(raw(key), info, label, length),
    importSecret: (key, label, enc, length, info) =>
      suite.hpkeExportReceive(raw(key), enc, info, label, length),
    deriveKeyPair: pairOf,
    generateKeyPair: () => pairOf(suite.random(66)),
  };
}

/** A ts-mls cipher suite whose every output is decided by `random`. */
export function seededSuite(id: number, random: RandomBytes): CiphersuiteImpl {
  const suite = referenceSuite(id, random);
  return {
    id,
    hash: {
      digest: async (data) => suite.hash(data),
      mac: async (key, data) => suite.mac(key, data),
      verifyMac: async (key, mac, data) => Buffer.from(suite.mac(key, data)).equals(mac),
    },
    kdf: {
      size: suite.hashLength,
      extract: async (salt, ikm) => suite.extract(salt, ikm),
      expand: async (prk, info, length) => suite.expand(prk, info, length),
    },
    signature: {
      sign: async (key, message) => suite.signature.sign(key, message),
      verify: async (key, message, signature) => suite.signature.verify(key, message, signature),
      keygen: async () => {
        const { priv, pub } = suite.signature.keygen(random);
        return { signKey: priv, publicKey: pub };
      },
    },
    hpke: hpkeOf(suite),
    rng: { randomBytes: random },
  };
}

/** Two crypto providers for ts-mls: its default one, and this project's native one; both counted. */
import { type CryptoProvider, nativeCrypto } from "@murmuration/mls-groups";
import { type CiphersuiteImpl, getCiphersuiteImpl, type PrivateKey, type PublicKey } from "ts-mls";
import { SUITE } from "./key-material.ts";
import type { Counts } from "./rows.ts";

/** ts-mls passes its key objects through unopened, so raw bytes may take their place. */
const asPublic = (bytes: Uint8Array): PublicKey => bytes as unknown as PublicKey;
const asPrivate = (bytes: Uint8Array): PrivateKey => bytes as unknown as PrivateKey;
const raw = (key: PublicKey | PrivateKey): Uint8Array => key as unknown as Uint8Array;
const NONE = new Uint8Array();

/** The native provider of mls-groups behind the interface of ts-mls. */
export function nativeSuite(crypto: CryptoProvider = nativeCrypto(SUITE)): CiphersuiteImpl {
  const pair = ({ publicKey, privateKey }: { publicKey: Uint8Array; privateKey: Uint8Array }) => ({
    publicKey: asPublic(publicKey),
    privateKey: asPrivate(privateKey),
  });
  return {
    id: SUITE,
    hash: {
      digest: async (data) => crypto.hash(data),
      mac: async (key, data) => crypto.mac(key, data),
      verifyMac: async (key, mac, data) => Buffer.from(crypto.mac(key, data)).equals(mac),
    },
    kdf: {
      size: crypto.suite.hashLength,
      extract: async (salt, ikm) => crypto.extract(salt, ikm),
      expand: async (prk, info, length) => crypto.expand(prk, info, length),
    },
    signature: {
      sign: async (key, message) => crypto.sign(key, message),
      verify: async (key, message, signature) => crypto.verify(key, message, signature),
      keygen: async () => {
        const keys = crypto.generateSignatureKeyPair();
        return { signKey: keys.privateKey, publicKey: keys.publicKey };
      },
    },
    hpke: {
      keyLength: crypto.suite.keyLength,
      nonceLength: crypto.suite.nonceLength,
      seal: async (key, plaintext, info, aad = NONE) => {
        const { kemOutput, ciphertext } = crypto.hpkeSeal(raw(key), info, aad, plaintext);
        return { enc: kemOutput, ct: ciphertext };
      },
      open: async (key, enc, ciphertext, info, aad = NONE) =>
        crypto.hpkeOpen(raw(key), undefined, enc, info, aad, ciphertext),
      importPrivateKey: async (key) => asPrivate(key),
      importPublicKey: async (key) => asPublic(key),
      exportPublicKey: async (key) => raw(key),
      exportPrivateKey: async (key) => raw(key),
      encryptAead: async (key, nonce, aad = NONE, plaintext) => crypto.seal(key, nonce, aad, plaintext),
      decryptAead: async (key, nonce, aad = NONE, ciphertext) => crypto.open(key, nonce, aad, ciphertext),
      exportSecret: async (key, label, length, info) => {
        const { kemOutput, exported } = crypto.hpkeExportSend(raw(key), info, label, length);
        return { enc: kemOutput, secret: exported };
      },
      importSecret: async (key, label, enc, length, info) =>
        crypto.hpkeExportReceive(raw(key), undefined, enc, info, label, length),
      deriveKeyPair: async (ikm) => pair(crypto.deriveHpkeKeyPair(ikm)),
      generateKeyPair: async () => pair(crypto.generateHpkeKeyPair()),
    },
    rng: { randomBytes: (length) => crypto.random(length) },
  };
}

export function defaultSuite(): Promise<CiphersuiteImpl> {
  return getCiphersuiteImpl("MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519");
}

/** Counts calls by the names that this project's counting provider uses. */
export function countedSuite(inner: CiphersuiteImpl): {
  readonly suite: CiphersuiteImpl;
  take(): Counts;
} {
  let counts: Record<string, number> = {};
  const count = (name: string, amount = 1): void => {
    counts[name] = (counts[name] ?? 0) + amount;
  };
  const counted =
    <A extends unknown[], R>(name: string, operation: (...args: A) => R) =>
    (...args: A): R => {
      count(name);
      return operation(...args);
    };
  const { hash, kdf, signature, hpke } = inner;
  const suite: CiphersuiteImpl = {
    ...inner,
    hash: {
      digest(data) {
        count("hash");
        count("hashBytes", data.length);
        return hash.digest(data);
      },
      mac: counted("mac", (key, data) => hash.mac(key, data)),
      verifyMac: counted("mac", (key, mac, data) => hash.verifyMac(key, mac, data)),
    },
    kdf: {
      size: kdf.size,
      extract: counted("extract", (salt, ikm) => kdf.extract(salt, ikm)),
      expand: counted("expand", (prk, info, length) => kdf.expand(prk, info, length)),
    },
    signature: {
      sign: counted("sign", (key, message) => signature.sign(key, message)),
      verify: counted("verify", (key, message, signed) => signature.verify(key, message, signed)),
      keygen: counted("generateSignatureKeyPair", () => signature.keygen()),
    },
    hpke: {
      ...hpke,
      seal: counted("hpkeSeal", (...args: Parameters<typeof hpke.seal>) => hpke.seal(...args)),
      open: counted("hpkeOpen", (...args: Parameters<typeof hpke.open>) => hpke.open(...args)),
      encryptAead: counted("seal", (...args: Parameters<typeof hpke.encryptAead>) =>
        hpke.encryptAead(...args),
      ),
      decryptAead: counted("open", (...args: Parameters<typeof hpke.decryptAead>) =>
        hpke.decryptAead(...args),
      ),
      deriveKeyPair: counted("deriveHpkeKeyPair", (ikm) => hpke.deriveKeyPair(ikm)),
      generateKeyPair: counted("generateHpkeKeyPair", () => hpke.generateKeyPair()),
    },
  };
  return {
    suite,
    take() {
      const taken = counts;
      counts = {};
      return taken;
    },
  };
}

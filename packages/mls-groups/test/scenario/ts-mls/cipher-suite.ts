import { equalBytes } from "@murmuration/base";
import { type CiphersuiteImpl, getCiphersuiteImpl, type PrivateKey, type PublicKey } from "ts-mls";
import { portableCrypto } from "../../../src/crypto/portable.ts";
import type { CipherSuiteId } from "../../../src/index.ts";

/** ts-mls hands its key objects on unopened, so raw bytes may take their place. */
const key = <K extends PublicKey | PrivateKey>(bytes: Uint8Array): K => bytes as unknown as K;
const raw = (object: PublicKey | PrivateKey): Uint8Array => object as unknown as Uint8Array;
const NONE = new Uint8Array(0);

/**
 * The cryptography for ts-mls: in suite 1 its own, so that nothing is shared. The other suites need optional
 * packages of it that are not installed; there its protocol runs over the portable provider, and ours over the native one.
 */
export function tsMlsCipherSuite(id: CipherSuiteId): Promise<CiphersuiteImpl> {
  if (id === 1) return getCiphersuiteImpl("MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519");
  return Promise.resolve(portableSuite(id));
}

function portableSuite(id: CipherSuiteId): CiphersuiteImpl {
  const crypto = portableCrypto(id);
  const pair = (keys: { publicKey: Uint8Array; privateKey: Uint8Array }) => ({
    publicKey: key<PublicKey>(keys.publicKey),
    privateKey: key<PrivateKey>(keys.privateKey),
  });
  return {
    id,
    hash: {
      digest: async (data) => crypto.hash(data),
      mac: async (secret, data) => crypto.mac(secret, data),
      verifyMac: async (secret, mac, data) => equalBytes(crypto.mac(secret, data), mac),
    },
    kdf: {
      size: crypto.suite.hashLength,
      extract: async (salt, ikm) => crypto.extract(salt, ikm),
      expand: async (prk, info, length) => crypto.expand(prk, info, length),
    },
    signature: {
      sign: async (signKey, message) => crypto.sign(signKey, message),
      verify: async (publicKey, message, signature) => crypto.verify(publicKey, message, signature),
      keygen: async () => {
        const { privateKey, publicKey } = crypto.generateSignatureKeyPair();
        return { signKey: privateKey, publicKey };
      },
    },
    hpke: {
      keyLength: crypto.suite.keyLength,
      nonceLength: crypto.suite.nonceLength,
      seal: async (publicKey, plaintext, info, aad = NONE) => {
        const { kemOutput, ciphertext } = crypto.hpkeSeal(raw(publicKey), info, aad, plaintext);
        return { enc: kemOutput, ct: ciphertext };
      },
      open: async (privateKey, enc, ciphertext, info, aad = NONE) =>
        crypto.hpkeOpen(raw(privateKey), undefined, enc, info, aad, ciphertext),
      importPrivateKey: async (bytes) => key<PrivateKey>(bytes),
      importPublicKey: async (bytes) => key<PublicKey>(bytes),
      exportPublicKey: async (publicKey) => raw(publicKey),
      exportPrivateKey: async (privateKey) => raw(privateKey),
      encryptAead: async (secret, nonce, aad = NONE, plaintext) => crypto.seal(secret, nonce, aad, plaintext),
      decryptAead: async (secret, nonce, aad = NONE, ciphertext) =>
        crypto.open(secret, nonce, aad, ciphertext),
      exportSecret: async (publicKey, exporterContext, length, info) => {
        const { kemOutput, exported } = crypto.hpkeExportSend(raw(publicKey), info, exporterContext, length);
        return { enc: kemOutput, secret: exported };
      },
      importSecret: async (privateKey, exporterContext, enc, length, info) =>
        crypto.hpkeExportReceive(raw(privateKey), undefined, enc, info, exporterContext, length),
      deriveKeyPair: async (ikm) => pair(crypto.deriveHpkeKeyPair(ikm)),
      generateKeyPair: async () => pair(crypto.generateHpkeKeyPair()),
    },
    rng: { randomBytes: (length) => crypto.random(length) },
  };
}

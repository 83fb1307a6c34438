/**
 * Keys and labels for fixtures, on node:crypto: everything follows from a seed, so that each implementation
 * measures on the same group, and building one needs no protocol.
 */
import { createHmac, createPrivateKey, hash, type KeyObject, sign as platformSign } from "node:crypto";
import { type Bytes, encode, utf8, Writer } from "@murmuration/base";

export const SUITE = 1;
const HASH_LENGTH = 32;

export interface KeyPair {
  readonly publicKey: Bytes;
  readonly privateKey: Bytes;
}

export function sha256(data: Uint8Array): Bytes {
  return new Uint8Array(hash("sha256", data, "buffer"));
}

export function hmac(key: Uint8Array, data: Uint8Array): Bytes {
  return new Uint8Array(createHmac("sha256", key).update(data).digest());
}

/** Bytes that depend on the seed and the purpose alone. */
export function derived(seed: string, ...purpose: readonly (string | number)[]): Bytes {
  return sha256(utf8([seed, ...purpose].join("/")));
}

const ANY_PUBLIC_KEY = Buffer.alloc(32, 1).toString("base64url");
/** A leaf's key signs the leaf right after its public key was asked for. */
const imported = new WeakMap<Uint8Array, KeyObject>();

/**
 * The key object of a raw private key. The platform computes the public key and ignores the one it is given; without
 * stacks of errors, since it finds out what it was given by catching two.
 */
function privateKeyObject(curve: "X25519" | "Ed25519", privateKey: Uint8Array): KeyObject {
  const known = imported.get(privateKey);
  if (known !== undefined) return known;
  const d = Buffer.from(privateKey).toString("base64url");
  const jwk = { kty: "OKP", crv: curve, d, x: ANY_PUBLIC_KEY };
  const key = withoutStacks(() => createPrivateKey({ format: "jwk", key: jwk }));
  if (curve === "Ed25519") imported.set(privateKey, key);
  return key;
}

/** Runs something while errors record no stack. */
export function withoutStacks<T>(action: () => T): T {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 0;
  try {
    return action();
  } finally {
    Error.stackTraceLimit = limit;
  }
}

export function keyPairOf(curve: "X25519" | "Ed25519", privateKey: Bytes): KeyPair {
  const { x } = privateKeyObject(curve, privateKey).export({ format: "jwk" });
  return { publicKey: new Uint8Array(Buffer.from(x!, "base64url")), privateKey };
}

/** SignWithLabel (RFC 9420 section 5.1.2). */
export function signWithLabel(privateKey: Uint8Array, label: string, content: Uint8Array): Bytes {
  const signed = new Writer(content.length + 64)
    .bytes(utf8(`MLS 1.0 ${label}`))
    .bytes(content)
    .finish();
  return new Uint8Array(platformSign(null, signed, privateKeyObject("Ed25519", privateKey)));
}

/** ExpandWithLabel (RFC 9420 section 8) for outputs of one block. */
function expandWithLabel(secret: Uint8Array, label: string, context: Uint8Array): Bytes {
  const info = encode(undefined, (writer) =>
    writer
      .uint16(HASH_LENGTH)
      .bytes(utf8(`MLS 1.0 ${label}`))
      .bytes(context)
      .uint8(1),
  );
  return hmac(secret, info);
}

function deriveSecret(secret: Uint8Array, label: string): Bytes {
  return expandWithLabel(secret, label, new Uint8Array());
}

/** RefHash (RFC 9420 section 5.2). */
export function refHash(label: string, value: Uint8Array): Bytes {
  return sha256(
    new Writer(value.length + 64)
      .bytes(utf8(`MLS 1.0 ${label}`))
      .bytes(value)
      .finish(),
  );
}

export interface EpochSecrets {
  readonly initSecret: Bytes;
  readonly senderDataSecret: Bytes;
  readonly encryptionSecret: Bytes;
  readonly exporterSecret: Bytes;
  readonly epochAuthenticator: Bytes;
  readonly externalSecret: Bytes;
  readonly confirmationKey: Bytes;
  readonly membershipKey: Bytes;
  readonly resumptionPsk: Bytes;
}

/** The secrets of an epoch (RFC 9420 section 8, table 4). */
export function epochSecrets(epochSecret: Uint8Array): EpochSecrets {
  const derive = (label: string) => deriveSecret(epochSecret, label);
  return {
    initSecret: derive("init"),
    senderDataSecret: derive("sender data"),
    encryptionSecret: derive("encryption"),
    exporterSecret: derive("exporter"),
    epochAuthenticator: derive("authentication"),
    externalSecret: derive("external"),
    confirmationKey: derive("confirm"),
    membershipKey: derive("membership"),
    resumptionPsk: derive("resumption"),
  };
}

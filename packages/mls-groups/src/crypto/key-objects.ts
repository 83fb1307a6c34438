import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { type Bytes, concatBytes, fromHex, RejectionError, UsageError, zeroize } from "@murmuration/base";
import { hasSmallOrder } from "./small-order.ts";
import type { KemName, SignatureName } from "./suites.ts";

/*
 * Between raw keys and the KeyObjects of node:crypto.
 *
 * Public keys go in and out as JWK, which needs no ASN.1: X25519 in 6 us where DER takes 10, out in 1 us
 * (Node 24.21, a loaded two-core machine). Private keys never become a JWK, since its strings cannot be
 * overwritten: they go in as `raw-private` where Node has it (35 us for X25519, of which most is the public
 * key that OpenSSL derives) and as PKCS#8 or SEC 1 bytes before. All of it {@link withoutStackTraces}.
 */

/** Not so where a host froze the intrinsics of the language; then an import takes as long as it does. */
const traceLimitIsWritable =
  Object.getOwnPropertyDescriptor(Error, "stackTraceLimit")?.writable === true && Object.isExtensible(Error);

/**
 * Runs an import of a key while errors record no stack. Node finds out that its argument is a description of a key
 * and no KeyObject or CryptoKey by catching what native code throws, twice for each import; the two stack traces,
 * which nobody sees, are 16 us from a shallow stack and 40 from a deep one, where the import itself takes 6. What
 * the import throws for good is replaced by an error of our own, made outside. Synchronous, so nobody else's
 * errors are made in between.
 */
function withoutStackTraces<T>(importKey: () => T): T {
  if (!traceLimitIsWritable) return importKey();
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 0;
  try {
    return importKey();
  } finally {
    Error.stackTraceLimit = limit;
  }
}

export type Curve = KemName | SignatureName;

interface CurveInfo {
  /** `crv` of the JWK. */
  readonly jwk: string;
  readonly nist: boolean;
  /** Bytes of a coordinate, or of an EdDSA or X key. */
  readonly length: number;
  readonly privatePrefix: Bytes;
  readonly privateSuffix: Bytes;
}

function info(jwk: string, nist: boolean, length: number, prefix: string, suffix = ""): CurveInfo {
  return { jwk, nist, length, privatePrefix: fromHex(prefix), privateSuffix: fromHex(suffix) };
}

/** The prefixes are the constant bytes of OneAsymmetricKey (RFC 8410) and ECPrivateKey (RFC 5915). */
const curves: Readonly<Record<Curve, CurveInfo>> = {
  x25519: info("X25519", false, 32, "302e020100300506032b656e04220420"),
  x448: info("X448", false, 56, "3046020100300506032b656f043a0438"),
  ed25519: info("Ed25519", false, 32, "302e020100300506032b657004220420"),
  ed448: info("Ed448", false, 57, "3047020100300506032b6571043b0439"),
  p256: info("P-256", true, 32, "30310201010420", "a00a06082a8648ce3d030107"),
  p384: info("P-384", true, 48, "303e0201010430", "a00706052b81040022"),
  p521: info("P-521", true, 66, "30500201010442", "a00706052b81040023"),
};

/** Imports a raw public key. Throws RejectionError `mls/invalid-public-key` unless it is a usable point. */
export function importPublic(curve: Curve, publicKey: Uint8Array): KeyObject {
  const { jwk: crv, nist, length } = curves[curve];
  if (!hasPublicShape(curve, publicKey)) throw new RejectionError("mls/invalid-public-key");
  const key = nist
    ? {
        kty: "EC",
        crv,
        x: base64url(publicKey.subarray(1, 1 + length)),
        y: base64url(publicKey.subarray(1 + length)),
      }
    : { kty: "OKP", crv, x: base64url(publicKey) };
  try {
    return withoutStackTraces(() => createPublicKey({ key, format: "jwk" }));
  } catch {
    throw new RejectionError("mls/invalid-public-key");
  }
}

/** True for a usable public key. For the NIST curves this decides whether the point is on the curve. */
export function isUsablePublic(curve: Curve, publicKey: Uint8Array): boolean {
  if (!hasPublicShape(curve, publicKey)) return false;
  if (!curves[curve].nist) return true;
  try {
    importPublic(curve, publicKey);
    return true;
  } catch {
    return false;
  }
}

function hasPublicShape(curve: Curve, publicKey: Uint8Array): boolean {
  const { nist, length } = curves[curve];
  if (nist) return publicKey.length === 1 + 2 * length && publicKey[0] === 4;
  return publicKey.length === length && !hasSmallOrder(curve, publicKey);
}

/** The raw public key of a public or private KeyObject. */
export function exportPublic(key: KeyObject): Bytes {
  const publicKey = key.type === "private" ? createPublicKey(key) : key;
  const { x, y } = publicKey.export({ format: "jwk" }) as { x: string; y?: string };
  if (y === undefined) return new Uint8Array(Buffer.from(x, "base64url"));
  return concatBytes(Uint8Array.of(4), Buffer.from(x, "base64url"), Buffer.from(y, "base64url"));
}

/** Imports a raw private key. Throws UsageError `mls/bad-argument` for a wrong length or a scalar out of range. */
export function importPrivate(curve: Curve, privateKey: Uint8Array): KeyObject {
  if (privateKey.length !== curves[curve].length) throw new UsageError("mls/bad-argument", "private key");
  try {
    return withoutStackTraces(() =>
      rawPrivateSupported ? importRaw(curve, privateKey) : importPrivateDer(curve, privateKey),
    );
  } catch {
    // The error of the platform may describe the key.
    throw new UsageError("mls/bad-argument", "private key");
  }
}

function importRaw(curve: Curve, privateKey: Uint8Array): KeyObject {
  const { jwk, nist } = curves[curve];
  return createPrivateKey({
    key: Buffer.from(privateKey.buffer, privateKey.byteOffset, privateKey.length),
    format: "raw-private",
    ...(nist ? { asymmetricKeyType: "ec", namedCurve: jwk } : { asymmetricKeyType: curve }),
  } as Parameters<typeof createPrivateKey>[0]);
}

/** The import for a Node without raw formats; exported so that a test can hold the two against each other. */
export function importPrivateDer(curve: Curve, privateKey: Uint8Array): KeyObject {
  const { nist, privatePrefix, privateSuffix } = curves[curve];
  const der = concatBytes(privatePrefix, privateKey, privateSuffix);
  try {
    return createPrivateKey({ key: Buffer.from(der.buffer), format: "der", type: nist ? "sec1" : "pkcs8" });
  } finally {
    zeroize(der);
  }
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64url");
}

/** Node got raw key formats during the 24 line; asked once. */
const rawPrivateSupported = ((): boolean => {
  try {
    importRaw("x25519", new Uint8Array(32).fill(1));
    return true;
  } catch {
    return false;
  }
})();

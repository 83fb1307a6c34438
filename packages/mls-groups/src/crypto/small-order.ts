import { equalBytes, fromHex } from "@murmuration/base";
import type { KemName, SignatureName } from "./suites.ts";

/**
 * Encodings of the points of small order on the Edwards and Montgomery curves, the non-canonical ones that
 * decoders accept included. The sign bit (Ed25519, Ed448) or the unused top bit (X25519) is cleared before
 * the comparison. A Diffie-Hellman with such a point gives zero whatever the private key is, and anyone can
 * sign for such a verification key. RFC 7748 section 6 asks for the check on the result; this one is for
 * public keys that are stored long before they are used.
 */
const encodings: Readonly<Record<"x25519" | "x448" | "ed25519" | "ed448", readonly Uint8Array[]>> = {
  x25519: [
    // u = 0 and 1, the two of order 8, then p - 1, p, p + 1 for p = 2^255 - 19
    `00${"00".repeat(31)}`,
    `01${"00".repeat(31)}`,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    `ec${"ff".repeat(30)}7f`,
    `ed${"ff".repeat(30)}7f`,
    `ee${"ff".repeat(30)}7f`,
  ].map(fromHex),
  x448: [
    // u = 0 and 1, then p - 1, p, p + 1 for p = 2^448 - 2^224 - 1
    `00${"00".repeat(55)}`,
    `01${"00".repeat(55)}`,
    `fe${"ff".repeat(27)}fe${"ff".repeat(27)}`,
    `ff${"ff".repeat(27)}fe${"ff".repeat(27)}`,
    `${"00".repeat(28)}${"ff".repeat(28)}`,
  ].map(fromHex),
  ed25519: [
    // y = 0 and 1, the two of order 8, then p - 1, p, p + 1
    `00${"00".repeat(31)}`,
    `01${"00".repeat(31)}`,
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    `ec${"ff".repeat(30)}7f`,
    `ed${"ff".repeat(30)}7f`,
    `ee${"ff".repeat(30)}7f`,
  ].map(fromHex),
  ed448: [
    // y = 0 and 1, then p - 1, p, p + 1
    `00${"00".repeat(56)}`,
    `01${"00".repeat(56)}`,
    `fe${"ff".repeat(27)}fe${"ff".repeat(27)}00`,
    `ff${"ff".repeat(27)}fe${"ff".repeat(27)}00`,
    `${"00".repeat(28)}${"ff".repeat(28)}00`,
  ].map(fromHex),
};

/** True for a point of small order. The NIST curves have none but the point at infinity. O(length). */
export function hasSmallOrder(curve: KemName | SignatureName, publicKey: Uint8Array): boolean {
  if (curve === "p256" || curve === "p384" || curve === "p521") return false;
  const last = publicKey.length - 1;
  if (curve === "x448" || (publicKey[last]! & 0x80) === 0) return isListed(curve, publicKey);
  // Not slice(): that of a Buffer is a view, and the caller's bytes would change.
  const masked = Uint8Array.from(publicKey);
  masked[last]! &= 0x7f;
  return isListed(curve, masked);
}

function isListed(curve: keyof typeof encodings, publicKey: Uint8Array): boolean {
  return encodings[curve].some((point) => equalBytes(point, publicKey));
}

import type { Bytes } from "@murmuration/base";
import { Field } from "@noble/curves/abstract/modular.js";
import { KEPT, KeptKeys } from "./kept-keys.ts";
import type { VerifyJob } from "./provider.ts";
import { hasSmallOrder } from "./small-order.ts";

/**
 * Ed25519 (RFC 8032) verified by an implementation of XEdDSA, such as libsignal's, which takes half of the time that
 * OpenSSL takes.
 *
 * XEdDSA's verification (Signal, "The XEdDSA and VXEdDSA Signature Schemes", section 2.4, with the sign in the
 * signature as in libsignal) maps the Montgomery form of the public key to its Edwards form A, and then checks the
 * equation of RFC 8032 section 5.1.7 without the cofactor, as OpenSSL does: the encoding of sB - hA is R, for
 * h = SHA-512(R, A, M). So it says of a public key A what RFC 8032 says, given u = (1 + y) / (1 - y) as the key and
 * the sign bit of A in the highest bit of the signature, which s leaves free.
 *
 * Only canonical encodings of points that are no small order's are given to it: where y is not below p, or s not below
 * the order, or anybody can sign for the key, the answer is `undefined`, and the caller's own verification decides.
 */
export type XEdDsaVerifier = (montgomeryKey: Bytes, data: Uint8Array, signature: Bytes) => boolean;

const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;
const SIGN_BIT = 0x80;
const P = 2n ** 255n - 19n;
/** Order of the base point, RFC 8032 section 5.1. */
const ORDER = 2n ** 252n + 27_742_317_777_372_353_535_851_937_790_883_648_493n;
const Y_MASK = 2n ** 255n - 1n;
const fp = Field(P);

export class Ed25519AsXEdDsa {
  readonly #verifier: XEdDsaVerifier;
  /** A key's form takes half as long as its verification: those of members who speak are kept. */
  readonly #montgomery = new KeptKeys<Bytes>();

  constructor(verifier: XEdDsaVerifier) {
    this.#verifier = verifier;
  }

  verify(publicKey: Uint8Array, data: Uint8Array, signature: Uint8Array): boolean | undefined {
    const key = this.#montgomery.get(publicKey, () => montgomeryOf([publicKey])[0]);
    return this.#verifyConverted(key, publicKey, data, signature);
  }

  /** The forms of keys that are verified with next, with one inversion for all of them; as many as are kept. */
  expect(publicKeys: readonly Uint8Array[]): void {
    const next = publicKeys.slice(0, KEPT);
    const keys = montgomeryOf(next);
    for (const [i, publicKey] of next.entries()) this.#montgomery.get(publicKey, () => keys[i]);
  }

  /** With one inversion for all keys: 3 us for each instead of 25. The keys are used once and not kept. */
  verifyBatch(jobs: readonly VerifyJob[]): (boolean | undefined)[] {
    const keys = montgomeryOf(jobs.map(({ publicKey }) => publicKey));
    return jobs.map(({ data, publicKey, signature }, i) =>
      this.#verifyConverted(keys[i], publicKey, data, signature),
    );
  }

  #verifyConverted(
    key: Bytes | undefined,
    publicKey: Uint8Array,
    data: Uint8Array,
    signature: Uint8Array,
  ): boolean | undefined {
    if (key === undefined || signature.length !== SIGNATURE_BYTES) return undefined;
    if (numberOf(signature, KEY_BYTES) >= ORDER) return undefined;
    // Not slice(): that of a Buffer is a view, and the caller's bytes would change.
    const signed = Uint8Array.from(signature);
    signed[SIGNATURE_BYTES - 1]! |= publicKey[KEY_BYTES - 1]! & SIGN_BIT;
    return this.#verifier(key, data, signed);
  }
}

/** The u coordinates of Edwards keys, little-endian; undefined for one whose encoding is not for XEdDSA. */
function montgomeryOf(publicKeys: readonly Uint8Array[]): (Bytes | undefined)[] {
  const ys = publicKeys.map((key) =>
    key.length === KEY_BYTES && !hasSmallOrder("ed25519", key) ? numberOf(key, 0) & Y_MASK : P,
  );
  // y = 1 is of order 1, and has no u.
  const usable = ys.map((y) => y < P);
  // What is not usable has a denominator all the same, so that places stay.
  const inverses = fp.invertBatch(ys.map((y, i) => (usable[i] ? fp.sub(1n, y) : 1n)));
  return ys.map((y, i) => (usable[i] ? bytesOf(fp.mul(fp.add(1n, y), inverses[i]!)) : undefined));
}

/** 32 bytes, little-endian. */
function numberOf(bytes: Uint8Array, offset: number): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset + offset, KEY_BYTES);
  let value = 0n;
  for (let at = KEY_BYTES - 8; at >= 0; at -= 8) value = (value << 64n) | view.getBigUint64(at, true);
  return value;
}

function bytesOf(value: bigint): Bytes {
  const bytes = new Uint8Array(KEY_BYTES);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < KEY_BYTES; at += 8) {
    view.setBigUint64(at, BigInt.asUintN(64, value >> BigInt(8 * at)), true);
  }
  return bytes;
}

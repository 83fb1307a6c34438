import { type Bytes, utf8, varintSize, Writer } from "@murmuration/base";
import type { CryptoProvider, HpkeCiphertext } from "./provider.ts";

/*
 * The labelled operations of RFC 9420 section 5. A label is ASCII without the prefix "MLS 1.0 ", which is
 * added here, except for RefHash, whose labels carry it themselves.
 */

const EMPTY = new Uint8Array(0);
const prefixed = new Map<string, Bytes>();
const KEPT_LABELS = 64;

/** "MLS 1.0 " with the label. The protocol's own labels are kept; the map is bounded since exporters bring theirs. */
function mlsLabel(label: string): Bytes {
  let bytes = prefixed.get(label);
  if (bytes === undefined) {
    bytes = utf8(`MLS 1.0 ${label}`);
    if (prefixed.size < KEPT_LABELS) prefixed.set(label, bytes);
  }
  return bytes;
}

/** ExpandWithLabel (section 8): `struct { uint16 length; opaque label<V>; opaque context<V>; } KDFLabel`. One HMAC up to Nh bytes. */
export function expandWithLabel(
  crypto: CryptoProvider,
  secret: Uint8Array,
  label: string,
  context: Uint8Array,
  length: number,
): Bytes {
  return crypto.expand(secret, kdfLabel(mlsLabel(label), context, length), length);
}

/** Five of them are made for each message, so a short one is written into its own array at once. */
function kdfLabel(label: Bytes, context: Uint8Array, length: number): Bytes {
  if (varintSize(label.length) + varintSize(context.length) > 2) {
    return new Writer(2 + 8 + label.length + context.length)
      .uint16(length)
      .bytes(label)
      .bytes(context)
      .finish();
  }
  const out = new Uint8Array(4 + label.length + context.length);
  out[0] = length >>> 8;
  out[1] = length;
  out[2] = label.length;
  out.set(label, 3);
  out[3 + label.length] = context.length;
  out.set(context, 4 + label.length);
  return out;
}

/** DeriveSecret (section 8): ExpandWithLabel with an empty context to Nh bytes. */
export function deriveSecret(crypto: CryptoProvider, secret: Uint8Array, label: string): Bytes {
  return expandWithLabel(crypto, secret, label, EMPTY, crypto.suite.hashLength);
}

/** DeriveTreeSecret (section 9.1): ExpandWithLabel with the generation, a uint32, as context. */
export function deriveTreeSecret(
  crypto: CryptoProvider,
  secret: Uint8Array,
  label: string,
  generation: number,
  length: number,
): Bytes {
  const context = Uint8Array.of(generation >>> 24, generation >>> 16, generation >>> 8, generation);
  return expandWithLabel(crypto, secret, label, context, length);
}

/** `struct { opaque label<V>; opaque content<V>; }`: SignContent (5.1.2), and EncryptContext (5.1.3) of the same shape. */
function labeledContent(label: Bytes, content: Uint8Array): Bytes {
  return new Writer(label.length + content.length + 8).bytes(label).bytes(content).finish();
}

/** SignWithLabel (section 5.1.2). */
export function signWithLabel(
  crypto: CryptoProvider,
  privateKey: Uint8Array,
  label: string,
  content: Uint8Array,
): Bytes {
  return crypto.sign(privateKey, labeledContent(mlsLabel(label), content));
}

/** VerifyWithLabel (section 5.1.2). False for a bad signature and for an unusable public key. */
export function verifyWithLabel(
  crypto: CryptoProvider,
  publicKey: Uint8Array,
  label: string,
  content: Uint8Array,
  signature: Uint8Array,
): boolean {
  return crypto.verify(publicKey, signContent(label, content), signature);
}

/** The bytes that SignWithLabel signs, for {@link CryptoProvider.verifyBatch}. */
export function signContent(label: string, content: Uint8Array): Bytes {
  return labeledContent(mlsLabel(label), content);
}

/** EncryptWithLabel (section 5.1.3). Throws RejectionError `mls/invalid-public-key`. */
export function encryptWithLabel(
  crypto: CryptoProvider,
  publicKey: Uint8Array,
  label: string,
  context: Uint8Array,
  plaintext: Uint8Array,
): HpkeCiphertext {
  return crypto.hpkeSeal(publicKey, labeledContent(mlsLabel(label), context), EMPTY, plaintext);
}

/**
 * DecryptWithLabel (section 5.1.3). The recipient's public key saves a scalar multiplication where it is at
 * hand. Throws RejectionError `mls/decryption-failed`.
 */
export function decryptWithLabel(
  crypto: CryptoProvider,
  privateKey: Uint8Array,
  publicKey: Uint8Array | undefined,
  label: string,
  context: Uint8Array,
  kemOutput: Uint8Array,
  ciphertext: Uint8Array,
): Bytes {
  const info = labeledContent(mlsLabel(label), context);
  return crypto.hpkeOpen(privateKey, publicKey, kemOutput, info, EMPTY, ciphertext);
}

const KEY_PACKAGE_REFERENCE = utf8("MLS 1.0 KeyPackage Reference");
const PROPOSAL_REFERENCE = utf8("MLS 1.0 Proposal Reference");

/** RefHash (section 5.2): the hash of `struct { opaque label<V>; opaque value<V>; } RefHashInput`. */
export function refHash(crypto: CryptoProvider, label: string, value: Uint8Array): Bytes {
  return crypto.hash(labeledContent(utf8(label), value));
}

/** KeyPackageRef (section 5.2) of an encoded KeyPackage. */
export function makeKeyPackageRef(crypto: CryptoProvider, keyPackage: Uint8Array): Bytes {
  return crypto.hash(labeledContent(KEY_PACKAGE_REFERENCE, keyPackage));
}

/** ProposalRef (section 5.2) of an encoded AuthenticatedContent that holds the proposal. */
export function makeProposalRef(crypto: CryptoProvider, authenticatedContent: Uint8Array): Bytes {
  return crypto.hash(labeledContent(PROPOSAL_REFERENCE, authenticatedContent));
}

import { type Bytes, concatBytes, RejectionError, utf8 } from "@murmuration/base";
import { KEMPublicKey, type PrivateKey, PublicKey } from "@signalapp/libsignal-client";
import { classifyLibsignal } from "./libsignal-errors.ts";

/** A serialized EC public key: type byte 0x05 and 32 bytes. */
export const PUBLIC_KEY_BYTES = 33;
/** A serialized Kyber-1024 public key: type byte 0x08 and 1,568 bytes. */
const KYBER_PUBLIC_KEY_BYTES = 1_569;
export const SIGNATURE_BYTES = 64;

/** Parses an EC public key of another party. Throws RejectionError with the given code. */
export function decodePublicKey(bytes: Uint8Array, code: string): PublicKey {
  if (bytes.length !== PUBLIC_KEY_BYTES) throw new RejectionError(code);
  return parse(() => PublicKey.deserialize(new Uint8Array(bytes)), code);
}

/** Parses a Kyber public key of another party. Throws RejectionError with the given code. */
export function decodeKyberPublicKey(bytes: Uint8Array, code: string): KEMPublicKey {
  if (bytes.length !== KYBER_PUBLIC_KEY_BYTES) throw new RejectionError(code);
  return parse(() => KEMPublicKey.deserialize(new Uint8Array(bytes)), code);
}

function parse<T>(read: () => T, code: string): T {
  try {
    return read();
  } catch (error) {
    classifyLibsignal(error);
    throw new RejectionError(code);
  }
}

/** True only for a valid XEdDSA signature; false also for one of another length. */
export function verifySignature(key: PublicKey, content: Uint8Array, signature: Uint8Array): boolean {
  return (
    signature.length === SIGNATURE_BYTES && key.verify(new Uint8Array(content), new Uint8Array(signature))
  );
}

const EC_KEY_TYPE = 0x05;

/** The same for a bare Montgomery public key of 32 bytes: false also for one that libsignal does not take. */
export function verifyXEdDsa(montgomeryKey: Bytes, content: Uint8Array, signature: Bytes): boolean {
  const serialized = new Uint8Array(PUBLIC_KEY_BYTES);
  serialized[0] = EC_KEY_TYPE;
  serialized.set(montgomeryKey, 1);
  let key: PublicKey;
  try {
    key = PublicKey.deserialize(serialized);
  } catch {
    return false;
  }
  return verifySignature(key, content, signature);
}

/** `by` vouches for `other` (signAlternateIdentity). */
export function verifyAlternateIdentity(by: PublicKey, other: PublicKey, signature: Uint8Array): boolean {
  return signature.length === SIGNATURE_BYTES && by.verifyAlternateIdentity(other, new Uint8Array(signature));
}

/** Signed content never means two things: "Murmuration " label, a zero byte, then the content. */
function labelled(label: string, content: Uint8Array): Bytes {
  return concatBytes(utf8(`Murmuration ${label}\0`), content);
}

export function signWithLabel(key: PrivateKey, label: string, content: Uint8Array): Bytes {
  return key.sign(labelled(label, content));
}

export function verifyWithLabel(
  key: PublicKey,
  label: string,
  content: Uint8Array,
  signature: Uint8Array,
): boolean {
  return verifySignature(key, labelled(label, content), signature);
}

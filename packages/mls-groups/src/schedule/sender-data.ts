import type { Bytes } from "@murmuration/base";
import { expandWithLabel } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";

/** Bytes of the reuse guard (RFC 9420 section 6.3.1). */
export const REUSE_GUARD_LENGTH = 4;

/**
 * sender_data_key and sender_data_nonce (RFC 9420 section 6.3.2) for a PrivateMessage with this ciphertext.
 * The sample is the first Nh bytes, or all of a shorter ciphertext. Two HMACs.
 */
export function deriveSenderDataKey(
  crypto: CryptoProvider,
  senderDataSecret: Uint8Array,
  ciphertext: Uint8Array,
): { key: Bytes; nonce: Bytes } {
  const { hashLength, keyLength, nonceLength } = crypto.suite;
  const sample = ciphertext.subarray(0, hashLength);
  return {
    key: expandWithLabel(crypto, senderDataSecret, "key", sample, keyLength),
    nonce: expandWithLabel(crypto, senderDataSecret, "nonce", sample, nonceLength),
  };
}

/** The nonce of a message: the ratchet's nonce with its first four bytes XORed with the reuse guard (6.3.1). A new array. */
export function guardNonce(nonce: Uint8Array, reuseGuard: Uint8Array): Bytes {
  const guarded = new Uint8Array(nonce);
  for (let i = 0; i < REUSE_GUARD_LENGTH; i++) guarded[i]! ^= reuseGuard[i]!;
  return guarded;
}

import { createHmac } from "node:crypto";
import { type Bytes, concatBytes, equalSecret, Reader, RejectionError, Writer } from "@murmuration/base";

/**
 * Challenges that cost no memory until one is spent: 8 bytes expiry, 8 random bytes, 16 bytes of HMAC-SHA-256
 * under a key of the service. A flood of requests for challenges therefore stores nothing.
 */
const CHALLENGE_BYTES = 32;
const MAC_BYTES = 16;
const NONCE_BYTES = 8;

/** Creates a challenge; `nonce` is 8 random bytes. */
export function createChallenge(key: Uint8Array, nonce: Uint8Array, expiresAtMs: number): Bytes {
  const body = new Writer(CHALLENGE_BYTES)
    .uint64(BigInt(expiresAtMs))
    .fixed(nonce.subarray(0, NONCE_BYTES))
    .finish();
  return concatBytes(body, macOf(key, body));
}

/**
 * Accepts a challenge of ours that has not expired and returns when it does: until then it is to be remembered that it was
 * spent. Throws RejectionError `group/challenge-used`.
 */
export function openChallenge(key: Uint8Array, challenge: Uint8Array, now: number): number {
  if (challenge.length !== CHALLENGE_BYTES) throw new RejectionError("group/challenge-used");
  const body = challenge.subarray(0, CHALLENGE_BYTES - MAC_BYTES);
  if (!equalSecret(challenge.subarray(CHALLENGE_BYTES - MAC_BYTES), macOf(key, body))) {
    throw new RejectionError("group/challenge-used");
  }
  const expiresAtMs = Number(new Reader(body).uint64());
  if (now >= expiresAtMs) throw new RejectionError("group/challenge-used");
  return expiresAtMs;
}

/** The name under which a spent challenge is remembered. */
export function challengeName(challenge: Uint8Array): string {
  return Buffer.from(challenge).toString("hex");
}

function macOf(key: Uint8Array, body: Uint8Array): Bytes {
  return new Uint8Array(createHmac("sha256", key).update(body).digest().subarray(0, MAC_BYTES));
}

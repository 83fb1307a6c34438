import { type Bytes, UsageError } from "@murmuration/base";
import {
  chunkSizeInBytes,
  DigestingPassThrough,
  inferChunkSize,
  ValidatingPassThrough,
} from "@signalapp/libsignal-client/dist/incremental_mac.js";

/**
 * libsignal's incremental MAC: one HMAC-SHA-256 after each chunk, so that a download can be trusted chunk by
 * chunk while it arrives. The key and the digests travel in the attachment pointer; the encryption of the
 * attachment is the client's. Both are Node transforms that pass the ciphertext through.
 */
export const ATTACHMENT_MAC_KEY_BYTES = 32;

/** Bytes of one chunk for a ciphertext of this many bytes: at least 64 KiB, and few enough digests. */
export function attachmentChunkBytes(ciphertextBytes: number): number {
  return chunkSizeInBytes(inferChunkSize(ciphertextBytes));
}

/** Computes the digests of what passes; read them with `getFinalDigest()` after the stream ended. */
export function createAttachmentDigester(key: Bytes, ciphertextBytes: number): DigestingPassThrough {
  return new DigestingPassThrough(checkedKey(key), inferChunkSize(ciphertextBytes));
}

/**
 * Lets bytes pass only when their chunk's digest is right; destroys itself with libsignal's
 * IncrementalMacVerificationFailed before the first byte of a chunk that is not.
 */
export function createAttachmentValidator(
  key: Bytes,
  ciphertextBytes: number,
  digests: Bytes,
): ValidatingPassThrough {
  return new ValidatingPassThrough(checkedKey(key), inferChunkSize(ciphertextBytes), digests);
}

function checkedKey(key: Bytes): Bytes {
  if (key.length !== ATTACHMENT_MAC_KEY_BYTES) throw new UsageError("pairwise/bad-mac-key");
  return key;
}

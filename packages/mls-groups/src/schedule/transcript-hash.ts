import type { Bytes } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { interimTranscriptHashInput } from "../structs/authenticated-content.ts";

/** confirmed_transcript_hash_[0] and interim_transcript_hash_[0] (RFC 9420 section 8.2). */
export const EMPTY_TRANSCRIPT_HASH: Uint8Array = new Uint8Array(0);

/**
 * confirmed_transcript_hash of the epoch that a Commit starts (section 8.2). `confirmedInput` is the encoded
 * ConfirmedTranscriptHashInput: wire_format, FramedContent and signature of the Commit.
 */
export function confirmedTranscriptHash(
  crypto: CryptoProvider,
  interimTranscriptHash: Uint8Array,
  confirmedInput: Uint8Array,
): Bytes {
  return crypto.hash(interimTranscriptHash, confirmedInput);
}

/** interim_transcript_hash of an epoch, from its confirmed hash and the confirmation_tag of its Commit (section 8.2). */
export function interimTranscriptHash(
  crypto: CryptoProvider,
  confirmedHash: Uint8Array,
  confirmationTag: Uint8Array,
): Bytes {
  return crypto.hash(confirmedHash, interimTranscriptHashInput(confirmationTag));
}

import { fromHex } from "@murmuration/base";
import { isConfirmationTag } from "../schedule/key-schedule.ts";
import { confirmedTranscriptHash, interimTranscriptHash } from "../schedule/transcript-hash.ts";
import {
  confirmedTranscriptHashInput,
  decodeAuthenticatedContent,
} from "../structs/authenticated-content.ts";
import { expectBytes, expectTrue, type MakeProvider, providerOf, VectorMismatch } from "./expect.ts";

/** A case of transcript-hashes.json. */
export interface TranscriptHashesVector {
  readonly cipher_suite: number;
  readonly confirmation_key: string;
  readonly authenticated_content: string;
  readonly interim_transcript_hash_before: string;
  readonly confirmed_transcript_hash_after: string;
  readonly interim_transcript_hash_after: string;
}

/** Verifies one case of transcript-hashes (RFC 9420 section 8.2). Throws VectorMismatch. */
export function runTranscriptHashes(vector: TranscriptHashesVector, makeProvider: MakeProvider): void {
  const crypto = providerOf(vector, makeProvider);
  const authenticated = decodeAuthenticatedContent(fromHex(vector.authenticated_content));
  const { confirmationTag } = authenticated.auth;
  expectTrue("the content is a commit", authenticated.content.contentType === "commit");
  if (confirmationTag === undefined) throw new VectorMismatch("the commit has a confirmation tag");
  const before = fromHex(vector.interim_transcript_hash_before);
  const confirmed = confirmedTranscriptHash(crypto, before, confirmedTranscriptHashInput(authenticated));
  expectBytes("confirmed_transcript_hash_after", confirmed, vector.confirmed_transcript_hash_after);
  const key = fromHex(vector.confirmation_key);
  expectTrue("the confirmation tag", isConfirmationTag(crypto, key, confirmed, confirmationTag));
  const interim = interimTranscriptHash(crypto, confirmed, confirmationTag);
  expectBytes("interim_transcript_hash_after", interim, vector.interim_transcript_hash_after);
}

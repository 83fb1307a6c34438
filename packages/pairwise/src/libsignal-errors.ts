import { ErrorCode, LibSignalErrorBase } from "@signalapp/libsignal-client";

/**
 * The only place that interprets errors of libsignal. Most of them are `Generic` with nothing but a text, and
 * texts are no interface: test/unit/libsignal-errors.test.ts provokes each of these failures and pins the
 * classification to libsignal 0.103.0. A new version is taken only with that test passing.
 */
export type LibsignalFailure =
  /** The message key of this counter is gone: decrypted before, or skipped by more than 2,000 and dropped. */
  | "duplicate"
  /** isTrustedIdentity answered no. */
  | "untrusted-identity"
  /** No session, only an archived one, or one that was never acknowledged for 30 days. */
  | "session-missing"
  /** The ciphertext belongs to no session state that we have, or was changed on the way. */
  | "undecryptable"
  /** The bytes are not what they should be: nobody's message. */
  | "malformed"
  | "bad-signature"
  /** The sealed layer does not open with our identity key. */
  | "unseal-failed"
  /** A store of ours threw: the reason is in the store's `failure`. */
  | "store-refused"
  | "unclassified";

const TEXTS: readonly (readonly [RegExp, LibsignalFailure])[] = [
  [/^session with .+ not found: /, "session-missing"],
  [/^invalid (?:PreKey|Whisper) message: /, "undecryptable"],
  [/^invalid signature detected$/, "bad-signature"],
  [/^ciphertext (?:version was|serialized bytes were) /, "malformed"],
  [/^protobuf encoding was invalid$/, "malformed"],
  [/^unrecognized message version /, "malformed"],
  [/^unknown sealed sender message version /, "malformed"],
  [/^bad (?:KEM )?key (?:type|length) /, "malformed"],
  [/^no key type identifier$/, "malformed"],
  [/^invalid sealed sender message: /, "unseal-failed"],
  [/^error in method call '/, "store-refused"],
];

/** Thrown as a plain RangeError when a peer's 64-bit number has no exact JavaScript number. */
const NOT_A_NUMBER = /^(?:precision loss during conversion of |cannot convert )/;

/** What a failure of libsignal means; rethrows anything that libsignal did not throw. */
export function classifyLibsignal(error: unknown): LibsignalFailure {
  if (error instanceof RangeError && NOT_A_NUMBER.test(error.message)) return "malformed";
  if (!(error instanceof LibSignalErrorBase)) throw error;
  switch (error.code) {
    case ErrorCode.DuplicatedMessage:
      return "duplicate";
    case ErrorCode.UntrustedIdentity:
      return "untrusted-identity";
    case ErrorCode.InvalidSession:
      return "session-missing";
    default:
      return TEXTS.find(([text]) => text.test(error.message))?.[1] ?? "unclassified";
  }
}

import { type AccountId, type Bytes, RejectionError } from "@murmuration/base";
import { Fingerprint, PublicKey, ScannableFingerprint } from "@signalapp/libsignal-client";
import type { SafetyNumber } from "./api.ts";
import { classifyLibsignal } from "./libsignal-errors.ts";

/** As Signal's clients: version 2 takes the ids as bytes; the iterations slow down a search for look-alikes. */
const VERSION = 2;
const ITERATIONS = 5_200;

interface Party {
  readonly accountId: AccountId;
  readonly accountIdentityKey: Bytes;
}

/** Safety number of two accounts: over their account identity keys, so it outlives any change of devices. */
export function deriveSafetyNumber(local: Party, remote: Party): SafetyNumber {
  const fingerprint = deriveFingerprint(local, remote);
  return {
    digits: fingerprint.displayableFingerprint().toString(),
    scannable: fingerprint.scannableFingerprint().toBuffer(),
  };
}

function deriveFingerprint(local: Party, remote: Party): Fingerprint {
  return Fingerprint.new(
    ITERATIONS,
    VERSION,
    local.accountId,
    PublicKey.deserialize(local.accountIdentityKey),
    remote.accountId,
    PublicKey.deserialize(remote.accountIdentityKey),
  );
}

/** Compares in constant time a code scanned from the other side. RejectionError `pairwise/bad-safety-number`. */
export function matchesSafetyNumber(local: Party, remote: Party, scanned: Bytes): boolean {
  const ours = deriveFingerprint(local, remote).scannableFingerprint();
  try {
    return ours.compare(ScannableFingerprint._fromBuffer(scanned));
  } catch (error) {
    classifyLibsignal(error);
    throw new RejectionError("pairwise/bad-safety-number");
  }
}

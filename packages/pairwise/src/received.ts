import { createHash } from "node:crypto";
import { type Bytes, equalBytes } from "@murmuration/base";
import { addressKey } from "./address.ts";
import type { DeviceAddress } from "./api.ts";
import type { Overlay, Rows } from "./overlay.ts";
import { DIGEST_BYTES, type ReceivedRow, type RetryCount, receivedRow, resentRow } from "./rows.ts";

/** How often one message is asked for again, and sent again. */
export const MAX_RETRIES = 3;
/** Digests kept for each sender device: 512 bytes. A duplicate older than that costs one needless retry. */
const DIGESTS_KEPT = 64;
/** References counted for each peer device; a peer that names more of them only loses its older counts. */
const REFERENCES_KEPT = 32;

function readReceived(rows: Rows, sender: DeviceAddress): ReceivedRow {
  const bytes = rows.read("received", addressKey(sender));
  return bytes === undefined ? { digests: [], retries: [] } : receivedRow.decode(bytes);
}

/** Eight bytes of SHA-256 over a session ciphertext; it has to tell apart 64 messages, not to resist anybody. */
export function digestOf(message: Uint8Array): Bytes {
  return new Uint8Array(createHash("sha256").update(message).digest().subarray(0, DIGEST_BYTES));
}

/**
 * True if these very bytes were accepted lately. libsignal reports DuplicatedMessage also for a message that
 * was never read: when its key was skipped by more than 2,000, or when a sender restored from an old copy uses
 * a counter again. Those must be asked for again, not dropped.
 */
export function wasAccepted(rows: Rows, sender: DeviceAddress, digest: Bytes): boolean {
  return readReceived(rows, sender).digests.some((known) => equalBytes(known, digest));
}

/** Notes an accepted message, and forgets the retries for its reference. */
export function noteAccepted(
  overlay: Overlay,
  sender: DeviceAddress,
  digest: Bytes,
  reference: number,
): void {
  const { digests, retries } = readReceived(overlay, sender);
  const row = {
    digests: [...digests, digest].slice(-DIGESTS_KEPT),
    retries: retries.filter((retry) => retry.reference !== reference),
  };
  overlay.write("received", addressKey(sender), receivedRow.encode(row));
}

/** Counts one more failure of this reference; returns how many there were, this one included. */
export function countFailure(overlay: Overlay, sender: DeviceAddress, reference: number): number {
  const row = readReceived(overlay, sender);
  const { retries, count } = countUp(row.retries, reference);
  overlay.write("received", addressKey(sender), receivedRow.encode({ ...row, retries }));
  return count;
}

/** Counts one more request of this device to send this reference again. */
export function countResend(overlay: Overlay, requester: DeviceAddress, reference: number): number {
  const key = addressKey(requester);
  const bytes = overlay.read("resent", key);
  const { retries, count } = countUp(bytes === undefined ? [] : resentRow.decode(bytes), reference);
  overlay.write("resent", key, resentRow.encode(retries));
  return count;
}

/** The count stops at 255; the reference counted last stands last and is forgotten last. */
function countUp(before: readonly RetryCount[], reference: number): { retries: RetryCount[]; count: number } {
  const count = Math.min(255, (before.find((retry) => retry.reference === reference)?.count ?? 0) + 1);
  const others = before.filter((retry) => retry.reference !== reference);
  return { retries: [...others, { reference, count }].slice(-REFERENCES_KEPT), count };
}

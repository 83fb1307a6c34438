import { equalBytes, RejectionError, refuseUnless, rejected, zeroize } from "@murmuration/base";
import {
  CiphertextMessage,
  CiphertextMessageType,
  DecryptionErrorMessage,
  PlaintextContent,
  PreKeySignalMessage,
  SessionRecord,
  SignalMessage,
  signalDecrypt,
  signalDecryptPreKey,
} from "@signalapp/libsignal-client";
import { openDecision, readDeviceList } from "./accounts.ts";
import { accountKey, addressKey, protocolAddress } from "./address.ts";
import type { DecryptOutcome, DeviceAddress } from "./api.ts";
import { decodeDeviceList, listedDevice } from "./device-list.ts";
import { wrap } from "./encrypting.ts";
import { isReference } from "./envelope-format.ts";
import { classifyLibsignal } from "./libsignal-errors.ts";
import { LibsignalStores } from "./libsignal-stores.ts";
import type { OpenedEnvelope } from "./opening.ts";
import type { Overlay } from "./overlay.ts";
import { type OwnDevice, usableCertificate } from "./own-identity.ts";
import { decodePlaintext, type Plaintext } from "./plaintext.ts";
import { countFailure, countResend, digestOf, MAX_RETRIES, noteAccepted, wasAccepted } from "./received.ts";
import { accountRow } from "./rows.ts";

export interface Receiver {
  readonly own: OwnDevice;
  readonly nowMs: number;
  /** Keys of accounts whose list was just fetched. */
  readonly refreshed: ReadonlySet<string>;
}

/**
 * Decides what becomes of an opened envelope. What it changes goes into `overlay` as a whole or, when the
 * envelope is refused or has to wait, not at all.
 */
export async function decryptOpened(
  overlay: Overlay,
  receiver: Receiver,
  opened: OpenedEnvelope,
): Promise<DecryptOutcome> {
  const { sender } = opened;
  try {
    const waiting = decideTrust(overlay, receiver, opened);
    if (waiting !== undefined) return waiting;
    if (opened.type === CiphertextMessageType.Plaintext)
      return receiveRetryRequest(overlay, receiver, opened);
    return await decryptMessage(overlay, receiver, opened);
  } catch (error) {
    return { ...rejected(error), sender };
  }
}

/** Undefined when the newest list known has the sending device, with the key that was certified. */
function decideTrust(
  overlay: Overlay,
  receiver: Receiver,
  { sender, certifiedKey }: OpenedEnvelope,
): DecryptOutcome | undefined {
  const listed = listedDevice(readDeviceList(overlay, sender.accountId), sender.deviceId);
  const certified = certifiedKey?.serialize();
  if (listed !== undefined && (certified === undefined || equalBytes(listed.identityKey, certified))) {
    return undefined;
  }
  return untrusted(overlay, receiver, sender);
}

/** A device that is not on the newest list: on a list that awaits a decision, on one not fetched, or on none. */
function untrusted(overlay: Overlay, receiver: Receiver, sender: DeviceAddress): DecryptOutcome {
  const account = accountKey(sender.accountId);
  const bytes = overlay.read("account", account);
  const claim = bytes === undefined ? undefined : accountRow.decode(bytes).claim;
  if (claim !== undefined && listedDevice(decodeDeviceList(claim), sender.deviceId) !== undefined) {
    return openDecision(overlay, sender.accountId)!;
  }
  if (!receiver.refreshed.has(account)) return { kind: "device-list-needed", sender };
  throw new RejectionError("pairwise/device-not-listed");
}

async function decryptMessage(
  overlay: Overlay,
  receiver: Receiver,
  opened: OpenedEnvelope,
): Promise<DecryptOutcome> {
  const { sender, message } = opened;
  const digest = digestOf(message);
  if (wasAccepted(overlay, sender, digest)) return { kind: "duplicate", sender };
  const staged = overlay.child();
  const stores = new LibsignalStores(staged, receiver.own);
  let decrypted: Uint8Array;
  try {
    decrypted = await decryptSession(opened, receiver.own, stores);
  } catch (error) {
    return await decideFailure(overlay, receiver, opened, stores, error);
  }
  const plaintext = readAndZeroize(decrypted, sender, receiver.own.address);
  noteAccepted(staged, sender, digest, opened.marker.reference);
  overlay.absorb(staged);
  const version = (address: DeviceAddress) => readDeviceList(overlay, address.accountId)?.version ?? 0;
  return {
    kind: "message",
    sender,
    sealed: opened.certifiedKey !== undefined,
    body: plaintext.body,
    sentAtMs: plaintext.sentAtMs,
    senderListNewer: plaintext.senderListVersion > version(sender),
    ownListOlderAtSender: plaintext.recipientListVersion < version(receiver.own.address),
  };
}

function readAndZeroize(decrypted: Uint8Array, sender: DeviceAddress, recipient: DeviceAddress): Plaintext {
  try {
    return decodePlaintext(decrypted, sender, recipient);
  } finally {
    zeroize(decrypted);
  }
}

async function decryptSession(
  { type, message, sender }: OpenedEnvelope,
  own: OwnDevice,
  stores: LibsignalStores,
): Promise<Uint8Array> {
  const remote = protocolAddress(sender);
  const local = protocolAddress(own.address);
  const { sessions, identities, preKeys, signedPreKeys, kyberPreKeys } = stores;
  if (type === CiphertextMessageType.Whisper) {
    return signalDecrypt(SignalMessage.deserialize(message), remote, local, sessions, identities);
  }
  const first = PreKeySignalMessage.deserialize(message);
  return signalDecryptPreKey(
    first,
    remote,
    local,
    sessions,
    identities,
    preKeys,
    signedPreKeys,
    kyberPreKeys,
  );
}

/** What libsignal refused: nobody's message, a replay, an unlisted key, or a message to be asked for again. */
async function decideFailure(
  overlay: Overlay,
  receiver: Receiver,
  opened: OpenedEnvelope,
  stores: LibsignalStores,
  error: unknown,
): Promise<DecryptOutcome> {
  switch (classifyLibsignal(error)) {
    case "malformed":
      throw new RejectionError("pairwise/malformed");
    case "untrusted-identity":
      return untrusted(overlay, receiver, opened.sender);
    case "store-refused":
      if (stores.failure === undefined) throw error;
      if (stores.failure === "base-key-reused") throw new RejectionError("pairwise/base-key-reused");
      return requestRetry(overlay, receiver, opened);
    default:
      return requestRetry(overlay, receiver, opened);
  }
}

/** Asks the sender, at most three times for one reference, to send again on a new session. */
async function requestRetry(
  overlay: Overlay,
  receiver: Receiver,
  opened: OpenedEnvelope,
): Promise<DecryptOutcome> {
  const { sender, marker, type, message } = opened;
  const { reference } = marker;
  const sealed = opened.certifiedKey !== undefined;
  const certificate = sealed ? usableCertificate(overlay, receiver.nowMs) : undefined;
  if (sealed && certificate === undefined) return { kind: "certificate-needed", sender };
  const staged = overlay.child();
  const attempt = countFailure(staged, sender, reference);
  overlay.absorb(staged);
  if (attempt === MAX_RETRIES + 1) return { kind: "lost", sender, reference };
  refuseUnless(attempt <= MAX_RETRIES, "pairwise/too-many-retries");
  const failed = DecryptionErrorMessage.forOriginal(message, type, reference, sender.deviceId);
  const request = CiphertextMessage.from(PlaintextContent.from(failed));
  const own = { reference, registrationId: receiver.own.registrationId };
  const { identities } = new LibsignalStores(staged, receiver.own);
  const identified = await wrap(request, protocolAddress(sender), own, undefined, identities);
  return {
    kind: "retry",
    sender,
    attempt,
    reference,
    mode: sealed ? "sealed" : "identified",
    identified,
    request: {
      address: sender,
      registrationId: marker.registrationId,
      ciphertext: sealed
        ? await wrap(request, protocolAddress(sender), own, certificate, identities)
        : identified,
    },
  };
}

/** A peer could not decrypt a message of ours. If it came over our current session, that one is given up. */
function receiveRetryRequest(overlay: Overlay, receiver: Receiver, opened: OpenedEnvelope): DecryptOutcome {
  const { sender } = opened;
  const { failed, reference } = parseRetryRequest(opened);
  refuseUnless(failed.deviceId() === receiver.own.address.deviceId, "pairwise/wrong-recipient");
  const attempt = countResend(overlay, sender, reference);
  refuseUnless(attempt <= MAX_RETRIES, "pairwise/too-many-retries");
  const sessionArchived = archiveIfCurrent(overlay, sender, failed, receiver.nowMs);
  return { kind: "retry-requested", sender, reference, attempt, sessionArchived };
}

function parseRetryRequest({ message }: OpenedEnvelope): {
  failed: DecryptionErrorMessage;
  reference: number;
} {
  try {
    const body = PlaintextContent.deserialize(message).body();
    const failed = DecryptionErrorMessage.extractFromSerializedBody(body);
    const reference = failed.timestamp();
    if (isReference(reference)) return { failed, reference };
  } catch (error) {
    classifyLibsignal(error);
  }
  throw new RejectionError("pairwise/malformed");
}

function archiveIfCurrent(
  overlay: Overlay,
  sender: DeviceAddress,
  failed: DecryptionErrorMessage,
  nowMs: number,
): boolean {
  const key = addressKey(sender);
  const bytes = overlay.read("session", key);
  const ratchetKey = failed.ratchetKey();
  if (bytes === undefined || ratchetKey === undefined) return bytes === undefined;
  const record = SessionRecord.deserialize(bytes);
  if (!record.currentRatchetKeyMatches(ratchetKey)) return !record.hasCurrentState(new Date(nowMs));
  record.archiveCurrentState();
  overlay.write("session", key, record.serialize());
  return true;
}

import { type Bytes, invariant, UsageError } from "@murmuration/base";
import {
  type CiphertextMessage,
  ContentHint,
  type SenderCertificate,
  SessionRecord,
  sealedSenderEncrypt,
  signalEncrypt,
  UnidentifiedSenderMessageContent,
} from "@signalapp/libsignal-client";
import { openDecision, readDeviceList } from "./accounts.ts";
import { accountKey, addressKey, protocolAddress, sameAddress } from "./address.ts";
import {
  type AccountId,
  type DeviceAddress,
  type DeviceCiphertext,
  type DeviceList,
  type EncryptOutcome,
  type EncryptRequest,
  type IdentityDecision,
  MAX_BODY_BYTES,
  MAX_RECIPIENTS,
  type NotReady,
} from "./api.ts";
import { listedDevice } from "./device-list.ts";
import { encodeIdentified, encodeMarker, isReference, type Marker } from "./envelope-format.ts";
import { LibsignalStores } from "./libsignal-stores.ts";
import type { Overlay, Rows } from "./overlay.ts";
import { type OwnDevice, usableCertificate } from "./own-identity.ts";
import { encodePlaintext } from "./plaintext.ts";
import type { WorkMeter } from "./work-meter.ts";

/** Checks what the caller alone decides; the rest may depend on operations still in the queue. */
export function validateRequest(request: EncryptRequest): void {
  if (request.body.length > MAX_BODY_BYTES) throw new UsageError("pairwise/body-too-long");
  const { recipients, reference } = request;
  if (recipients.length === 0 || recipients.length > MAX_RECIPIENTS) {
    throw new UsageError("pairwise/recipient-count");
  }
  if (new Set(recipients.map(addressKey)).size !== recipients.length) {
    throw new UsageError("pairwise/recipient-twice");
  }
  if (reference !== undefined && !isReference(reference)) throw new UsageError("pairwise/bad-reference");
}

/**
 * Encrypts to all recipients or to none. Two passes: the first only reads, so that a missing session among 1,280
 * recipients costs no ratchet step of the others.
 */
export async function encryptToAll(
  overlay: Overlay,
  own: OwnDevice,
  request: EncryptRequest & { readonly reference: number },
  nowMs: number,
  meter: WorkMeter,
): Promise<EncryptOutcome> {
  const certificate = request.mode === "sealed" ? usableCertificate(overlay, nowMs) : undefined;
  const notReady = decideReadiness(overlay, own, request, certificate, nowMs);
  if (notReady !== undefined) return notReady;
  const sender = new Sender(overlay, own, certificate, request.reference, nowMs);
  const ciphertexts: DeviceCiphertext[] = [];
  for (const address of request.recipients) {
    await meter.step();
    ciphertexts.push(await sender.encrypt(address, request.body));
  }
  return { kind: "encrypted", reference: request.reference, ciphertexts };
}

/** Reads the session row of a device; undefined unless it can be used to send right now. */
export function usableSession(rows: Rows, address: DeviceAddress, nowMs: number): SessionRecord | undefined {
  const bytes = rows.read("session", addressKey(address));
  if (bytes === undefined) return undefined;
  const record = SessionRecord.deserialize(bytes);
  return record.hasCurrentState(new Date(nowMs)) ? record : undefined;
}

/** Undefined when every recipient can be reached. */
function decideReadiness(
  rows: Rows,
  own: OwnDevice,
  request: EncryptRequest,
  certificate: SenderCertificate | undefined,
  nowMs: number,
): NotReady | undefined {
  const sessionsNeeded: DeviceAddress[] = [];
  const lists = new Map<string, AccountId>();
  const decisions = new Map<string, IdentityDecision>();
  for (const address of request.recipients) {
    if (sameAddress(address, own.address)) throw new UsageError("pairwise/recipient-is-self");
    const account = accountKey(address.accountId);
    const decision = openDecision(rows, address.accountId);
    const list = readDeviceList(rows, address.accountId);
    if (decision !== undefined) decisions.set(account, decision);
    else if (listedDevice(list, address.deviceId) === undefined) lists.set(account, address.accountId);
    else if (usableSession(rows, address, nowMs) === undefined) sessionsNeeded.push(address);
  }
  const certificateNeeded = request.mode === "sealed" && certificate === undefined;
  if (sessionsNeeded.length + lists.size + decisions.size === 0 && !certificateNeeded) return undefined;
  return {
    kind: "not-ready",
    sessionsNeeded,
    deviceListsNeeded: [...lists.values()],
    decisionsNeeded: [...decisions.values()],
    certificateNeeded,
  };
}

/** Encrypts one message of this device for one device after another. */
class Sender {
  private readonly overlay: Overlay;
  private readonly own: OwnDevice;
  private readonly ownList: DeviceList;
  private readonly certificate: SenderCertificate | undefined;
  private readonly marker: Marker;
  private readonly stores: LibsignalStores;
  private readonly nowMs: number;

  constructor(
    overlay: Overlay,
    own: OwnDevice,
    certificate: SenderCertificate | undefined,
    reference: number,
    nowMs: number,
  ) {
    const ownList = readDeviceList(overlay, own.address.accountId);
    invariant(ownList !== undefined, "pairwise/own-list-missing");
    this.overlay = overlay;
    this.own = own;
    this.ownList = ownList;
    this.certificate = certificate;
    this.marker = { reference, registrationId: own.registrationId };
    this.stores = new LibsignalStores(overlay, own);
    this.nowMs = nowMs;
  }

  async encrypt(address: DeviceAddress, body: Bytes): Promise<DeviceCiphertext> {
    const plaintext = encodePlaintext({
      sender: this.own.address,
      senderListVersion: this.ownList.version,
      recipient: address,
      recipientListVersion: readDeviceList(this.overlay, address.accountId)!.version,
      sentAtMs: this.nowMs,
      body,
    });
    const { sessions, identities } = this.stores;
    const remote = protocolAddress(address);
    const local = protocolAddress(this.own.address);
    const now = new Date(this.nowMs);
    const message = await signalEncrypt(plaintext, remote, local, sessions, identities, now);
    plaintext.fill(0);
    const record = SessionRecord.deserialize(this.overlay.read("session", addressKey(address))!);
    return {
      address,
      registrationId: record.remoteRegistrationId(),
      ciphertext: await wrap(message, address, this.marker, this.certificate, this.stores),
    };
  }
}

/** Seals a session message with the certificate, or writes it openly without one. */
export async function wrap(
  message: CiphertextMessage,
  recipient: DeviceAddress,
  marker: Marker,
  certificate: SenderCertificate | undefined,
  stores: LibsignalStores,
): Promise<Bytes> {
  if (certificate === undefined) {
    return encodeIdentified({ type: message.type(), marker, message: message.serialize() });
  }
  const hint = ContentHint.Resendable;
  const content = UnidentifiedSenderMessageContent.new(message, certificate, hint, encodeMarker(marker));
  return sealedSenderEncrypt(content, protocolAddress(recipient), stores.identities);
}

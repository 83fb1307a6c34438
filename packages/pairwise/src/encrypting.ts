import { type Bytes, InvariantError, invariant, UsageError, zeroize } from "@murmuration/base";
import {
  type CiphertextMessage,
  ContentHint,
  type IdentityKeyStore,
  type ProtocolAddress,
  PublicKey,
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
  type EncryptOutcome,
  type EncryptRequest,
  type IdentityDecision,
  MAX_BODY_BYTES,
  MAX_RECIPIENTS,
  type NotReady,
} from "./api.ts";
import { listedDevice } from "./device-list.ts";
import { encodeIdentified, encodeMarker, isReference, type Marker } from "./envelope-format.ts";
import { classifyLibsignal } from "./libsignal-errors.ts";
import { RecipientStores } from "./libsignal-stores.ts";
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
  const ready = decideReadiness(overlay, own, request, certificate, nowMs);
  if ("kind" in ready) return ready;
  const marker = { reference: request.reference, registrationId: own.registrationId };
  const sender = new Sender(overlay, own, certificate, marker, nowMs);
  const ciphertexts: DeviceCiphertext[] = [];
  for (const recipient of ready) {
    await meter.step();
    ciphertexts.push(await sender.encrypt(recipient, request.body));
  }
  return { kind: "encrypted", reference: request.reference, ciphertexts };
}

/** A device that can be sent to. Everything is parsed once: a large group pays for every step 254 times. */
interface Recipient {
  readonly address: DeviceAddress;
  readonly identityKey: PublicKey;
  readonly listVersion: number;
  readonly session: SessionRecord;
}

/** The recipients as the rows have them, or why at least one of them cannot be reached. */
function decideReadiness(
  rows: Rows,
  own: OwnDevice,
  request: EncryptRequest,
  certificate: SenderCertificate | undefined,
  nowMs: number,
): readonly Recipient[] | NotReady {
  const now = new Date(nowMs);
  const recipients: Recipient[] = [];
  const sessionsNeeded: DeviceAddress[] = [];
  const lists = new Map<string, AccountId>();
  const decisions = new Map<string, IdentityDecision>();
  for (const address of request.recipients) {
    if (sameAddress(address, own.address)) throw new UsageError("pairwise/recipient-is-self");
    const account = accountKey(address.accountId);
    const decision = openDecision(rows, address.accountId);
    const list = readDeviceList(rows, address.accountId);
    const device = listedDevice(list, address.deviceId);
    const session = readSession(rows, address);
    if (decision !== undefined) decisions.set(account, decision);
    else if (list === undefined || device === undefined) lists.set(account, address.accountId);
    else if (!session?.hasCurrentState(now)) sessionsNeeded.push(address);
    else {
      const identityKey = PublicKey.deserialize(device.identityKey);
      recipients.push({ address, identityKey, listVersion: list.version, session });
    }
  }
  const certificateNeeded = request.mode === "sealed" && certificate === undefined;
  if (recipients.length === request.recipients.length && !certificateNeeded) return recipients;
  return {
    kind: "not-ready",
    sessionsNeeded,
    deviceListsNeeded: [...lists.values()],
    decisionsNeeded: [...decisions.values()],
    certificateNeeded,
  };
}

function readSession(rows: Rows, address: DeviceAddress): SessionRecord | undefined {
  const bytes = rows.read("session", addressKey(address));
  return bytes === undefined ? undefined : SessionRecord.deserialize(bytes);
}

/** Encrypts one message of this device for one device after another. */
class Sender {
  private readonly overlay: Overlay;
  private readonly own: OwnDevice;
  private readonly local: ProtocolAddress;
  private readonly ownListVersion: number;
  private readonly certificate: SenderCertificate | undefined;
  private readonly marker: Marker;
  private readonly nowMs: number;

  constructor(
    overlay: Overlay,
    own: OwnDevice,
    certificate: SenderCertificate | undefined,
    marker: Marker,
    nowMs: number,
  ) {
    const ownList = readDeviceList(overlay, own.address.accountId);
    invariant(ownList !== undefined, "pairwise/own-list-missing");
    this.overlay = overlay;
    this.own = own;
    this.local = protocolAddress(own.address);
    this.ownListVersion = ownList.version;
    this.certificate = certificate;
    this.marker = marker;
    this.nowMs = nowMs;
  }

  async encrypt(recipient: Recipient, body: Bytes): Promise<DeviceCiphertext> {
    const { address, session, listVersion } = recipient;
    const plaintext = encodePlaintext({
      sender: this.own.address,
      senderListVersion: this.ownListVersion,
      recipient: address,
      recipientListVersion: listVersion,
      sentAtMs: this.nowMs,
      body,
    });
    const stores = new RecipientStores(this.overlay, this.own, recipient);
    const remote = protocolAddress(address);
    const message = await this.encryptOn(stores, plaintext, remote);
    return {
      address,
      registrationId: session.remoteRegistrationId(),
      ciphertext: await wrap(message, remote, this.marker, this.certificate, stores.identities),
    };
  }

  /** Nothing that peers do can make this fail: readiness was decided on the same rows. */
  private async encryptOn(
    { sessions, identities }: RecipientStores,
    plaintext: Bytes,
    remote: ProtocolAddress,
  ): Promise<CiphertextMessage> {
    try {
      const now = new Date(this.nowMs);
      return await signalEncrypt(plaintext, remote, this.local, sessions, identities, now);
    } catch (error) {
      const failure = classifyLibsignal(error);
      invariant(failure !== "untrusted-identity", "pairwise/session-of-another-key");
      throw new InvariantError("pairwise/session-unusable");
    } finally {
      zeroize(plaintext);
    }
  }
}

/** Seals a session message with the certificate, or writes it openly without one. */
export async function wrap(
  message: CiphertextMessage,
  recipient: ProtocolAddress,
  marker: Marker,
  certificate: SenderCertificate | undefined,
  identities: IdentityKeyStore,
): Promise<Bytes> {
  if (certificate === undefined) {
    return encodeIdentified({ type: message.type(), marker, message: message.serialize() });
  }
  const hint = ContentHint.Resendable;
  const content = UnidentifiedSenderMessageContent.new(message, certificate, hint, encodeMarker(marker));
  return sealedSenderEncrypt(content, recipient, identities);
}

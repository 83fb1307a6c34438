import { type Bytes, InvariantError, invariant, UsageError, zeroize } from "@murmuration/base";
import {
  type CiphertextMessage,
  ContentHint,
  type IdentityKeyStore,
  type ProtocolAddress,
  type PublicKey,
  type SenderCertificate,
  SessionRecord,
  sealedSenderEncrypt,
  signalEncrypt,
  UnidentifiedSenderMessageContent,
} from "@signalapp/libsignal-client";
import { openDecisionOf, readDeviceList } from "./accounts.ts";
import { accountKey, addressKey, deviceKey, protocolAddress } from "./address.ts";
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
import { encodeIdentified, encodeMarker, isReference, type Marker } from "./envelope-format.ts";
import { classifyLibsignal } from "./libsignal-errors.ts";
import { RecipientStores } from "./libsignal-stores.ts";
import type { Overlay, Rows } from "./overlay.ts";
import { type OwnDevice, usableCertificate } from "./own-identity.ts";
import type { ParsedList, ParsedLists } from "./parsed-lists.ts";
import { AddressedPlaintext } from "./plaintext.ts";
import { OPERATIONS_PER_YIELD, type WorkMeter } from "./work-meter.ts";

/** A recipient with the names of its rows and its queue: made once, since each is text made of random bytes. */
export interface NamedRecipient {
  readonly address: DeviceAddress;
  /** Queue, and row key in the tables of accounts. */
  readonly account: string;
  /** Row key in the tables of devices. */
  readonly key: string;
}

/** Checks what the caller alone decides; the rest may depend on operations still in the queue. */
export function validateRequest(request: EncryptRequest): readonly NamedRecipient[] {
  if (request.body.length > MAX_BODY_BYTES) throw new UsageError("pairwise/body-too-long");
  const { recipients, reference } = request;
  if (recipients.length === 0 || recipients.length > MAX_RECIPIENTS) {
    throw new UsageError("pairwise/recipient-count");
  }
  const named = recipients.map((address) => {
    const account = accountKey(address.accountId);
    return { address, account, key: deviceKey(account, address.deviceId) };
  });
  if (new Set(named.map(({ key }) => key)).size !== recipients.length) {
    throw new UsageError("pairwise/recipient-twice");
  }
  if (reference !== undefined && !isReference(reference)) throw new UsageError("pairwise/bad-reference");
  return named;
}

/** What encrypting needs besides the rows. */
export interface EncryptTools {
  readonly lists: ParsedLists;
  readonly meter: WorkMeter;
  readonly nowMs: number;
}

/**
 * Encrypts to all recipients or to none. Two passes: the first only reads, so that a missing session among 1,280
 * recipients costs no ratchet step of the others. Three `readEach` and a constant number of `read`, however many
 * recipients there are. libsignal answers through the event loop: the few operations between two yields are begun
 * together, each on a session of its own, so that they share its turns, which is a tenth of the whole.
 */
export async function encryptToAll(
  overlay: Overlay,
  own: OwnDevice,
  request: Pick<EncryptRequest, "body" | "mode"> & { readonly reference: number },
  recipients: readonly NamedRecipient[],
  { lists, meter, nowMs }: EncryptTools,
): Promise<EncryptOutcome> {
  const certificate = request.mode === "sealed" ? usableCertificate(overlay, nowMs) : undefined;
  const certificateNeeded = request.mode === "sealed" && certificate === undefined;
  const ready = decideReadiness(overlay, own, recipients, certificateNeeded, lists, nowMs);
  if ("kind" in ready) return ready;
  const marker = { reference: request.reference, registrationId: own.registrationId };
  const sender = new Sender(overlay, own, certificate, marker, request.body, nowMs);
  try {
    const ciphertexts: DeviceCiphertext[] = [];
    for (let i = 0; i < ready.length; i += OPERATIONS_PER_YIELD) {
      const some = ready.slice(i, i + OPERATIONS_PER_YIELD);
      for (let counted = 0; counted < some.length; counted++) await meter.step();
      ciphertexts.push(...(await allOver(some.map((recipient) => sender.encrypt(recipient)))));
    }
    return { kind: "encrypted", reference: request.reference, ciphertexts };
  } finally {
    sender.zeroize();
  }
}

/** As Promise.all, but what fails is thrown when nothing is at work any more: the queues are left then. */
async function allOver<T>(begun: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(begun);
  return Promise.all(begun);
}

/** A device that can be sent to. Everything is parsed once: a large group pays for every step 254 times. */
export interface Recipient extends NamedRecipient {
  readonly protocolAddress: ProtocolAddress;
  readonly identityKey: PublicKey;
  readonly listVersion: number;
  readonly session: SessionRecord;
}

/** What the rows say of one account. */
interface AccountFacts {
  readonly decision: IdentityDecision | undefined;
  readonly list: ParsedList | undefined;
}

function readFacts(
  rows: Rows,
  recipients: readonly NamedRecipient[],
  parsed: ParsedLists,
): ReadonlyMap<string, AccountFacts> {
  const ids = new Map(recipients.map(({ account, address }) => [account, address.accountId]));
  const names = [...ids.keys()];
  const accounts = rows.readEach("account", names);
  const lists = rows.readEach("device-list", names);
  const facts = new Map<string, AccountFacts>();
  for (const [i, name] of names.entries()) {
    const encoded = lists[i];
    facts.set(name, {
      decision: openDecisionOf(ids.get(name)!, accounts[i]),
      list: encoded && parsed.parse(name, encoded),
    });
  }
  return facts;
}

/** The recipients as the rows have them, or why at least one of them cannot be reached. */
function decideReadiness(
  rows: Rows,
  own: OwnDevice,
  named: readonly NamedRecipient[],
  certificateNeeded: boolean,
  parsed: ParsedLists,
  nowMs: number,
): readonly Recipient[] | NotReady {
  const ownKey = addressKey(own.address);
  if (named.some(({ key }) => key === ownKey)) throw new UsageError("pairwise/recipient-is-self");
  const facts = readFacts(rows, named, parsed);
  const sessions = rows.readEach(
    "session",
    named.map(({ key }) => key),
  );
  const now = new Date(nowMs);
  const recipients: Recipient[] = [];
  const sessionsNeeded: DeviceAddress[] = [];
  const lists = new Map<string, AccountId>();
  const decisions = new Map<string, IdentityDecision>();
  for (const [i, { address, account, key }] of named.entries()) {
    const { decision, list } = facts.get(account)!;
    const device = list?.devices.get(address.deviceId);
    const encoded = sessions[i];
    const session = encoded && SessionRecord.deserialize(encoded);
    if (decision !== undefined) decisions.set(account, decision);
    else if (list === undefined || device === undefined) lists.set(account, address.accountId);
    else if (!session?.hasCurrentState(now)) sessionsNeeded.push(address);
    else {
      const { identityKey, protocolAddress } = device;
      recipients.push({
        address,
        account,
        key,
        protocolAddress,
        identityKey,
        listVersion: list.version,
        session,
      });
    }
  }
  if (recipients.length === named.length && !certificateNeeded) return recipients;
  return {
    kind: "not-ready",
    sessionsNeeded,
    deviceListsNeeded: [...lists.values()],
    decisionsNeeded: [...decisions.values()],
    certificateNeeded,
  };
}

/** Encrypts one message of this device for other devices, each at most once. */
class Sender {
  private readonly overlay: Overlay;
  private readonly own: OwnDevice;
  private readonly local: ProtocolAddress;
  private readonly plaintext: AddressedPlaintext;
  private readonly certificate: SenderCertificate | undefined;
  private readonly marker: Marker;
  private readonly now: Date;

  constructor(
    overlay: Overlay,
    own: OwnDevice,
    certificate: SenderCertificate | undefined,
    marker: Marker,
    body: Bytes,
    nowMs: number,
  ) {
    const ownList = readDeviceList(overlay, own.address.accountId);
    invariant(ownList !== undefined, "pairwise/own-list-missing");
    this.overlay = overlay;
    this.own = own;
    this.local = protocolAddress(own.address);
    this.plaintext = new AddressedPlaintext({
      sender: own.address,
      senderListVersion: ownList.version,
      sentAtMs: nowMs,
      body,
    });
    this.certificate = certificate;
    this.marker = marker;
    this.now = new Date(nowMs);
  }

  async encrypt(recipient: Recipient): Promise<DeviceCiphertext> {
    const { address, session, listVersion, protocolAddress: remote } = recipient;
    const plaintext = this.plaintext.for(address, listVersion);
    const stores = new RecipientStores(this.overlay, this.own, recipient);
    const message = await this.encryptOn(stores, plaintext, remote);
    return {
      address,
      registrationId: session.remoteRegistrationId(),
      ciphertext: await wrap(message, remote, this.marker, this.certificate, stores.identities),
    };
  }

  zeroize(): void {
    this.plaintext.zeroize();
  }

  /** Nothing that peers do can make this fail: readiness was decided on the same rows. */
  private async encryptOn(
    { sessions, identities }: RecipientStores,
    plaintext: Bytes,
    remote: ProtocolAddress,
  ): Promise<CiphertextMessage> {
    try {
      return await signalEncrypt(plaintext, remote, this.local, sessions, identities, this.now);
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

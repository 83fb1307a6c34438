import { RejectionError, refuseUnless } from "@murmuration/base";
import {
  CiphertextMessageType,
  type PublicKey,
  sealedSenderDecryptToUsmc,
  type UnidentifiedSenderMessageContent,
} from "@signalapp/libsignal-client";
import { addressFromCertificate, sameAddress } from "./address.ts";
import { type DeviceAddress, type IncomingEnvelope, MAX_CIPHERTEXT_BYTES } from "./api.ts";
import { decodeIdentified, decodeMarker, type IdentifiedCiphertext, type Marker } from "./envelope-format.ts";
import { classifyLibsignal } from "./libsignal-errors.ts";
import type { LibsignalStores } from "./libsignal-stores.ts";
import type { OwnDevice } from "./own-identity.ts";
import type { TrustedCertificates } from "./trusted-certificates.ts";

/** An envelope whose outer layer is off: who sent it and which session message it holds. */
export interface OpenedEnvelope extends IdentifiedCiphertext {
  readonly sender: DeviceAddress;
  /** The device key that the sender certificate vouches for; undefined for an identified envelope. */
  readonly certifiedKey: PublicKey | undefined;
}

/**
 * Sealed sender v1, as we send it. libsignal looks at the upper four bits only, and would take v2 as well: one
 * envelope has one encoding here.
 */
const SEALED_VERSION = 0x11;

const TYPES: ReadonlySet<number> = new Set([
  CiphertextMessageType.Whisper,
  CiphertextMessageType.PreKey,
  CiphertextMessageType.Plaintext,
]);

/**
 * Takes the outer layer off. Needs nothing but this device's identity key, which never changes, so it runs
 * before the sender's queue is known. Throws RejectionError: `pairwise/oversize`, `pairwise/unseal-failed`,
 * `pairwise/certificate-*`, `pairwise/malformed`, `pairwise/unsupported-type`, `pairwise/self-send`.
 */
export async function openEnvelope(
  envelope: IncomingEnvelope,
  own: OwnDevice,
  stores: LibsignalStores,
  certificates: TrustedCertificates,
): Promise<OpenedEnvelope> {
  refuseUnless(envelope.ciphertext.length <= MAX_CIPHERTEXT_BYTES, "pairwise/oversize");
  refuseUnless(
    Number.isSafeInteger(envelope.acceptedAtMs) && envelope.acceptedAtMs >= 0,
    "pairwise/malformed",
  );
  const opened =
    envelope.identifiedSender === undefined
      ? await unseal(envelope, stores, certificates)
      : openIdentified(envelope, envelope.identifiedSender);
  refuseUnless(TYPES.has(opened.type), "pairwise/unsupported-type");
  refuseUnless(!sameAddress(opened.sender, own.address), "pairwise/self-send");
  return opened;
}

function openIdentified(envelope: IncomingEnvelope, sender: DeviceAddress): OpenedEnvelope {
  return { ...malformedUnless(() => decodeIdentified(envelope.ciphertext)), sender, certifiedKey: undefined };
}

async function unseal(
  envelope: IncomingEnvelope,
  stores: LibsignalStores,
  certificates: TrustedCertificates,
): Promise<OpenedEnvelope> {
  const content = await unsealContent(envelope, stores);
  const certificate = content.senderCertificate();
  // sealedSenderDecryptToUsmc checks that the certified key sealed this, but not who certified it, or until when.
  certificates.validate(certificate, envelope.acceptedAtMs);
  const sender = addressFromCertificate(certificate.senderAci(), certificate.senderDeviceId());
  return {
    sender,
    certifiedKey: certificate.key(),
    type: content.msgType(),
    marker: malformedUnless(() => markerOf(content)),
    message: content.contents(),
  };
}

function markerOf(content: UnidentifiedSenderMessageContent): Marker {
  return decodeMarker(content.groupId() ?? new Uint8Array());
}

async function unsealContent(
  envelope: IncomingEnvelope,
  stores: LibsignalStores,
): Promise<UnidentifiedSenderMessageContent> {
  refuseUnless(envelope.ciphertext[0] === SEALED_VERSION, "pairwise/unseal-failed");
  try {
    return await sealedSenderDecryptToUsmc(envelope.ciphertext, stores.identities);
  } catch (error) {
    classifyLibsignal(error);
    throw new RejectionError("pairwise/unseal-failed");
  }
}

function malformedUnless<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof RejectionError) throw new RejectionError("pairwise/malformed");
    throw error;
  }
}

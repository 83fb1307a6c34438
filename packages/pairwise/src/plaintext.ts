import {
  accountId,
  type Bytes,
  deviceId,
  ID_BYTES,
  Reader,
  RejectionError,
  refuseUnless,
  UsageError,
  Writer,
} from "@murmuration/base";
import { sameAddress } from "./address.ts";
import { type DeviceAddress, MAX_BODY_BYTES } from "./api.ts";

/**
 * What a session encrypts. libsignal binds only the two identity keys: who sends to whom, by ids, stands in the
 * plaintext, and a device refuses what was not written for it.
 *
 *   struct { uint8 format = 1;
 *            opaque sender_account[16];    uint8 sender_device;    uint32 sender_list_version;
 *            opaque recipient_account[16]; uint8 recipient_device; uint32 recipient_list_version;
 *            uint64 sent_at_ms; opaque body<V>; } then one byte 0x80, then zeros up to the size class.
 */
const FORMAT = 1;
const PADDING_START = 0x80;
const SMALLEST_CLASS = 160;
/** 160 doubled eight times: holds the largest body, and sealed it fits one envelope. */
const LARGEST_CLASS = 40_960;

interface PlaintextHeader {
  readonly sender: DeviceAddress;
  /** Version of the sender's own device list, as the sender knows it. */
  readonly senderListVersion: number;
  readonly recipient: DeviceAddress;
  /** Version of the recipient's device list that the sender encrypted by. */
  readonly recipientListVersion: number;
  readonly sentAtMs: number;
}

export interface Plaintext extends PlaintextHeader {
  readonly body: Bytes;
}

/** The smallest of 160, 320, 640, 1,280 bytes, and so on by doubling, that holds `length`. */
export function paddedLength(length: number): number {
  let size = SMALLEST_CLASS;
  while (size < length) size *= 2;
  return size;
}

/** Encodes and pads. Throws UsageError `pairwise/body-too-long` beyond MAX_BODY_BYTES. */
export function encodePlaintext(plaintext: Plaintext): Bytes {
  if (plaintext.body.length > MAX_BODY_BYTES) throw new UsageError("pairwise/body-too-long");
  const writer = new Writer(paddedLength(plaintext.body.length + 64));
  writer.uint8(FORMAT);
  writeParty(writer, plaintext.sender, plaintext.senderListVersion);
  writeParty(writer, plaintext.recipient, plaintext.recipientListVersion);
  writer.uint64(BigInt(plaintext.sentAtMs)).bytes(plaintext.body).uint8(PADDING_START);
  const content = writer.finish();
  const padded = new Uint8Array(paddedLength(content.length));
  padded.set(content);
  content.fill(0);
  return padded;
}

/** Where the recipient stands: behind format and sender. */
const RECIPIENT_OFFSET = 1 + ID_BYTES + 1 + 4;

/** One plaintext for many recipients: encoded once, since only the address and the list version differ. */
export class AddressedPlaintext {
  private readonly bytes: Bytes;
  private readonly view: DataView;

  /** Throws like {@link encodePlaintext}. */
  constructor(plaintext: Omit<Plaintext, "recipient" | "recipientListVersion">) {
    this.bytes = encodePlaintext({ ...plaintext, recipient: plaintext.sender, recipientListVersion: 0 });
    this.view = new DataView(this.bytes.buffer);
  }

  /** A copy that the caller owns, and overwrites. */
  for(recipient: DeviceAddress, listVersion: number): Bytes {
    this.bytes.set(recipient.accountId, RECIPIENT_OFFSET);
    this.view.setUint8(RECIPIENT_OFFSET + ID_BYTES, recipient.deviceId);
    this.view.setUint32(RECIPIENT_OFFSET + ID_BYTES + 1, listVersion);
    return this.bytes.slice();
  }

  zeroize(): void {
    this.bytes.fill(0);
  }
}

function writeParty(writer: Writer, address: DeviceAddress, listVersion: number): void {
  writer.fixed(address.accountId).uint8(address.deviceId).uint32(listVersion);
}

function readParty(reader: Reader): { address: DeviceAddress; listVersion: number } {
  const address = { accountId: accountId(reader.fixed(ID_BYTES)), deviceId: deviceId(reader.uint8()) };
  return { address, listVersion: reader.uint32() };
}

/**
 * Decodes what a session decrypted, and validates that `sender` wrote it for `recipient`. RejectionErrors:
 * `pairwise/bad-plaintext`, `pairwise/wrong-sender`, `pairwise/wrong-recipient`.
 */
export function decodePlaintext(
  bytes: Uint8Array,
  sender: DeviceAddress,
  recipient: DeviceAddress,
): Plaintext {
  const plaintext = readPlaintext(bytes);
  refuseUnless(sameAddress(plaintext.sender, sender), "pairwise/wrong-sender");
  refuseUnless(sameAddress(plaintext.recipient, recipient), "pairwise/wrong-recipient");
  return plaintext;
}

function readPlaintext(bytes: Uint8Array): Plaintext {
  refuseUnless(
    bytes.length <= LARGEST_CLASS && paddedLength(bytes.length) === bytes.length,
    "pairwise/bad-plaintext",
  );
  try {
    const reader = new Reader(bytes);
    refuseUnless(reader.uint8() === FORMAT, "pairwise/bad-plaintext");
    const sender = readParty(reader);
    const recipient = readParty(reader);
    const sentAtMs = Number(reader.uint64());
    refuseUnless(Number.isSafeInteger(sentAtMs), "pairwise/bad-plaintext");
    const body = new Uint8Array(reader.bytes());
    refuseUnless(reader.uint8() === PADDING_START, "pairwise/bad-plaintext");
    const length = reader.offset;
    while (reader.remaining > 0) refuseUnless(reader.uint8() === 0, "pairwise/bad-plaintext");
    refuseUnless(paddedLength(length) === bytes.length, "pairwise/bad-plaintext");
    return {
      sender: sender.address,
      senderListVersion: sender.listVersion,
      recipient: recipient.address,
      recipientListVersion: recipient.listVersion,
      sentAtMs,
      body,
    };
  } catch (error) {
    if (error instanceof RejectionError) throw new RejectionError("pairwise/bad-plaintext");
    throw error;
  }
}

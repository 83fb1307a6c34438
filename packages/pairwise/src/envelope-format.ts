import { type Bytes, decodeWhole, encode, type Reader, refuseUnless, type Writer } from "@murmuration/base";

/**
 * What stands beside a session ciphertext, readable before (and without) decrypting it:
 *
 *   struct { uint64 reference; uint16 sender_registration_id; } Marker;
 *   struct { uint8 type; Marker marker; opaque message[rest]; } IdentifiedCiphertext;
 *
 * In a sealed ciphertext the marker travels inside the sealed layer, in the field libsignal calls group id, and
 * is authenticated with the sender. In an identified one the delivery service could change it, which can only
 * spoil a retry. A marker lets a device that cannot decrypt say which message it was, and answer at all.
 */
export interface Marker {
  /** Below 2^48, drawn at random: says nothing about the message but which one it is. */
  readonly reference: number;
  readonly registrationId: number;
}

export const REFERENCE_BYTES = 6;
const MAX_REFERENCE = 2 ** (8 * REFERENCE_BYTES) - 1;

export function isReference(reference: number): boolean {
  return Number.isInteger(reference) && reference >= 0 && reference <= MAX_REFERENCE;
}

export function referenceFrom(random: Bytes): number {
  let reference = 0;
  for (const byte of random) reference = reference * 256 + byte;
  return reference;
}

function writeMarker(writer: Writer, marker: Marker): void {
  writer.uint64(BigInt(marker.reference)).uint16(marker.registrationId);
}

function readMarker(reader: Reader): Marker {
  const reference = Number(reader.uint64());
  refuseUnless(isReference(reference), "pairwise/malformed");
  return { reference, registrationId: reader.uint16() };
}

export function encodeMarker(marker: Marker): Bytes {
  return encode(marker, writeMarker, 10);
}

/** Throws RejectionError `pairwise/malformed` or with a `coder/` code. */
export function decodeMarker(bytes: Uint8Array): Marker {
  return decodeWhole(bytes, readMarker);
}

export interface IdentifiedCiphertext {
  readonly type: number;
  readonly marker: Marker;
  readonly message: Bytes;
}

export function encodeIdentified(ciphertext: IdentifiedCiphertext): Bytes {
  return encode(
    ciphertext,
    (writer, item) => {
      writer.uint8(item.type);
      writeMarker(writer, item.marker);
      writer.fixed(item.message);
    },
    ciphertext.message.length + 11,
  );
}

/** Throws RejectionError `pairwise/malformed` or with a `coder/` code. */
export function decodeIdentified(bytes: Uint8Array): IdentifiedCiphertext {
  return decodeWhole(bytes, (reader) => ({
    type: reader.uint8(),
    marker: readMarker(reader),
    message: new Uint8Array(reader.fixed(reader.remaining)),
  }));
}

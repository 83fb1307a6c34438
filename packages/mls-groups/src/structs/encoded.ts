import { type Bytes, encode, type Reader, type Writer } from "@murmuration/base";

/**
 * The bytes that a value was decoded from. RFC 9420 signs and hashes encodings, so a receiver uses the
 * bytes it received and never encodes again. The bytes stand beside the object and not in it: a copy with a
 * changed field (`{ ...leafNode, signature }`) is a new object without them and gets encoded from its fields.
 */
const received = new WeakMap<object, Uint8Array>();

/** Reads a value and remembers the bytes it came from, as a view of the input. */
export function readKeepingBytes<T extends object>(reader: Reader, read: (reader: Reader) => T): T {
  const start = reader.offset;
  const value = read(reader);
  received.set(value, reader.input.subarray(start, reader.offset));
  return value;
}

/** The bytes that this very object was decoded from; undefined for an object made from its fields. */
export function receivedBytes(value: object): Uint8Array | undefined {
  return received.get(value);
}

/** The received bytes, or the encoding of the fields. Not to be written to. */
export function bytesOf<T extends object>(value: T, write: (writer: Writer, value: T) => void): Uint8Array {
  return received.get(value) ?? encode(value, write);
}

/** Writes the received bytes, or else the fields. */
export function writeBytesOr<T extends object>(
  writer: Writer,
  value: T,
  writeFields: (writer: Writer, value: T) => void,
): void {
  const bytes = received.get(value);
  if (bytes === undefined) writeFields(writer, value);
  else writer.fixed(bytes);
}

/** `bytes` without the opaque<V> field of `length` content bytes at its end: the signed part of a struct. */
export function withoutLastField(bytes: Uint8Array, length: number): Uint8Array {
  const header = length < 0x40 ? 1 : length < 0x4000 ? 2 : 4;
  return bytes.subarray(0, bytes.length - length - header);
}

/** Encodes with a first buffer of the given size; for the signed and hashed views. */
export function encodeParts(capacity: number, write: (writer: Writer) => void): Bytes {
  return encode(undefined, (writer) => write(writer), capacity);
}

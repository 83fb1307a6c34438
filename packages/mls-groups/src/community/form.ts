import { type Bytes, decodeWhole, type Reader, RejectionError, UsageError } from "@murmuration/base";

/** Decodes exactly one value. Whatever is wrong with its form is one RejectionError with this code. */
export function decodeForm<T>(bytes: Uint8Array, code: string, read: (reader: Reader) => T): T {
  try {
    return decodeWhole(bytes, read);
  } catch (error) {
    if (error instanceof RejectionError) throw new RejectionError(code, error.code);
    throw error;
  }
}

/** `length` bytes in an array of their own. */
export function readFixed(reader: Reader, length: number): Bytes {
  return new Uint8Array(reader.fixed(length));
}

/** A field that a caller gave has the length of its struct. Throws UsageError. */
export function requireLength(bytes: Uint8Array, length: number, code: string): void {
  if (bytes.length !== length) throw new UsageError(code);
}

import { equalBytes, fromHex, Reader, Writer } from "@murmuration/base";

/** A case of deserialization.json: a vector header (RFC 9420 section 2.1.2) and the length it stands for. */
export interface DeserializationVector {
  readonly vlbytes_header: string;
  readonly length: number;
}

/** Verifies one case of deserialization.json, both ways. Throws an Error on a mismatch. */
export function verifyDeserialization(vector: DeserializationVector): void {
  const header = fromHex(vector.vlbytes_header);
  const reader = new Reader(header);
  if (reader.varint() !== vector.length) throw new Error("vlbytes_header: other length");
  reader.finish();
  if (!equalBytes(new Writer().varint(vector.length).finish(), header)) {
    throw new Error("length: encoded to another header");
  }
}

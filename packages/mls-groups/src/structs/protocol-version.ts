import { type Reader, RejectionError, type Writer } from "@murmuration/base";
import { MLS10 } from "./code-points.ts";

/**
 * Reads a version that must be mls10, the only one whose structs are known (RFC 9420 section 6). Throws
 * RejectionError `mls/decode-unsupported-version`.
 */
export function readProtocolVersion(reader: Reader): void {
  if (reader.uint16() !== MLS10) throw new RejectionError("mls/decode-unsupported-version");
}

export function writeProtocolVersion(writer: Writer): void {
  writer.uint16(MLS10);
}

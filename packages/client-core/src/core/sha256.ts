import { hash } from "node:crypto";
import type { Bytes } from "@murmuration/base";

/** SHA-256 in one call: a third of the time of a Hash object. */
export function sha256(bytes: Uint8Array): Bytes {
  return new Uint8Array(hash("sha256", bytes, "buffer"));
}

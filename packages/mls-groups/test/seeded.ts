import { createHash } from "node:crypto";
import type { RandomSource } from "../src/crypto/provider.ts";

/** A random source that a seed decides: SHA-512 of the seed and a counter. For tests only. */
export function seededRandom(seed: string): RandomSource {
  let counter = 0;
  let left = new Uint8Array(0);
  return (length) => {
    const out = new Uint8Array(length);
    for (let at = 0; at < length; ) {
      if (left.length === 0)
        left = new Uint8Array(createHash("sha512").update(`${seed}/${counter++}`).digest());
      const taken = left.subarray(0, length - at);
      out.set(taken, at);
      at += taken.length;
      left = left.subarray(taken.length);
    }
    return out;
  };
}

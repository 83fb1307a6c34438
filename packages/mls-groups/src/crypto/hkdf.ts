import { type Bytes, concatBytes, UsageError, zeroize } from "@murmuration/base";

/**
 * HKDF-Expand (RFC 5869 section 2.3) over a given HMAC. Cost: ceil(length / hashLength) HMACs, which is one
 * for all but a few uses in MLS. Throws UsageError `mls/bad-argument` above 255 hash lengths.
 */
export function hkdfExpand(
  mac: (key: Uint8Array, data: Uint8Array) => Bytes,
  hashLength: number,
  prk: Uint8Array,
  info: Uint8Array,
  length: number,
): Bytes {
  if (!Number.isInteger(length) || length < 0 || length > 255 * hashLength) {
    throw new UsageError("mls/bad-argument", "length of an HKDF output");
  }
  const block = new Uint8Array(info.length + 1);
  block.set(info);
  block[info.length] = 1;
  let previous = mac(prk, block);
  if (length === hashLength) return previous;
  const out = new Uint8Array(length);
  for (let counter = 1, offset = 0; offset < length; counter++) {
    if (counter > 1) {
      const input = concatBytes(previous, info, Uint8Array.of(counter));
      zeroize(previous);
      previous = mac(prk, input);
      zeroize(input);
    }
    out.set(previous.subarray(0, Math.min(hashLength, length - offset)), offset);
    offset += hashLength;
  }
  zeroize(previous);
  return out;
}

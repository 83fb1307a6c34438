import type { Reader, Writer } from "@murmuration/base";
import { type ElementCodec, LazyVector } from "./lazy-vector.ts";

/**
 * RFC 9420 section 7.6.
 *
 *   struct {
 *     opaque kem_output<V>;
 *     opaque ciphertext<V>;
 *   } HPKECiphertext;
 */
export interface HpkeCiphertext {
  readonly kemOutput: Uint8Array;
  readonly ciphertext: Uint8Array;
}

export function readHpkeCiphertext(reader: Reader): HpkeCiphertext {
  return { kemOutput: reader.bytes(), ciphertext: reader.bytes() };
}

export function skipHpkeCiphertext(reader: Reader): void {
  reader.skipBytes();
  reader.skipBytes();
}

export function writeHpkeCiphertext(writer: Writer, value: HpkeCiphertext): void {
  writer.bytes(value.kemOutput).bytes(value.ciphertext);
}

export const hpkeCiphertextCodec: ElementCodec<HpkeCiphertext> = {
  skip: skipHpkeCiphertext,
  read: readHpkeCiphertext,
  write: writeHpkeCiphertext,
};

/** HPKECiphertext ciphertexts<V>, of which a receiver opens one. */
export type HpkeCiphertextVector = LazyVector<HpkeCiphertext>;

/** Encodes ciphertexts, in order, for an UpdatePathNode. */
export function hpkeCiphertextVector(ciphertexts: Iterable<HpkeCiphertext>): HpkeCiphertextVector {
  return LazyVector.from(ciphertexts, hpkeCiphertextCodec);
}

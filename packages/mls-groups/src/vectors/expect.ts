import { equalBytes, fromHex, toHex } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { type CipherSuiteId, requireCipherSuite } from "../crypto/suites.ts";

/** Makes the provider of a suite: native, portable, or one that counts. */
export type MakeProvider = (suite: CipherSuiteId) => CryptoProvider;

/** A test vector whose expected value was not reached. Vectors hold no secrets, so the message shows both. */
export class VectorMismatch extends Error {
  override readonly name = "VectorMismatch";
}

/** The provider of a case's suite. Throws RejectionError `mls/unsupported-cipher-suite`. */
export function providerOf(vector: { readonly cipher_suite: number }, make: MakeProvider): CryptoProvider {
  return make(requireCipherSuite(vector.cipher_suite).id);
}

/** Throws {@link VectorMismatch} unless the bytes are those of the hexadecimal text. */
export function expectBytes(what: string, actual: Uint8Array, expected: string): void {
  if (!equalBytes(actual, fromHex(expected))) {
    throw new VectorMismatch(`${what}: got ${toHex(actual)}, expected ${expected}`);
  }
}

/** Throws {@link VectorMismatch} unless the condition holds. */
export function expectTrue(what: string, condition: boolean): void {
  if (!condition) throw new VectorMismatch(what);
}

/** Throws {@link VectorMismatch} unless two numbers, strings or nulls are the same. */
export function expectEqual(
  what: string,
  actual: number | string | null | undefined,
  expected: number | string | null | undefined,
): void {
  if (actual !== expected) throw new VectorMismatch(`${what}: got ${actual}, expected ${expected}`);
}

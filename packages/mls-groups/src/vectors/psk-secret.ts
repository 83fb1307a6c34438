import { fromHex } from "@murmuration/base";
import { derivePskSecret } from "../schedule/psk.ts";
import { expectBytes, type MakeProvider, providerOf } from "./expect.ts";

/** A case of psk_secret.json. */
export interface PskSecretVector {
  readonly cipher_suite: number;
  readonly psks: readonly { readonly psk_id: string; readonly psk: string; readonly psk_nonce: string }[];
  readonly psk_secret: string;
}

/** Verifies one case of psk_secret (RFC 9420 section 8.4). Throws VectorMismatch. */
export function runPskSecret(vector: PskSecretVector, makeProvider: MakeProvider): void {
  const crypto = providerOf(vector, makeProvider);
  const psks = vector.psks.map(({ psk_id, psk, psk_nonce }) => ({
    id: { kind: "external" as const, pskId: fromHex(psk_id), pskNonce: fromHex(psk_nonce) },
    psk: fromHex(psk),
  }));
  expectBytes("psk_secret", derivePskSecret(crypto, psks), vector.psk_secret);
}

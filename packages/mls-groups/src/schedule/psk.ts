import { type Bytes, UsageError, zeroize } from "@murmuration/base";
import { expandWithLabel } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import { type PreSharedKeyId, pskLabel } from "../structs/psk-id.ts";
import { zeroSecret } from "./key-schedule.ts";

/** A pre-shared key with the identifier under which it is injected. */
export interface InjectedPsk {
  readonly id: PreSharedKeyId;
  readonly psk: Uint8Array;
}

/**
 * psk_secret (RFC 9420 section 8.4) of the keys in the order of the Commit or of GroupSecrets; Nh zero bytes
 * without any. Three HMACs a key. Throws UsageError `mls/bad-argument` for more than 65,535 keys, which a
 * PSKLabel cannot count.
 */
export function derivePskSecret(crypto: CryptoProvider, psks: readonly InjectedPsk[]): Bytes {
  if (psks.length > 0xffff) throw new UsageError("mls/bad-argument", "too many pre-shared keys");
  const zero = zeroSecret(crypto);
  let secret = zeroSecret(crypto);
  for (const [index, { id, psk }] of psks.entries()) {
    const extracted = crypto.extract(zero, psk);
    const label = pskLabel(id, index, psks.length);
    const input = expandWithLabel(crypto, extracted, "derived psk", label, crypto.suite.hashLength);
    const next = crypto.extract(input, secret);
    zeroize(extracted, input, secret);
    secret = next;
  }
  return secret;
}

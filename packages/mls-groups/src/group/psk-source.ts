import type { Bytes } from "@murmuration/base";
import { RejectionError } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { check } from "../rules.ts";
import { derivePskSecret } from "../schedule/psk.ts";
import type { PreSharedKeyId } from "../structs/psk-id.ts";

/** Finds the value of a pre-shared key (8.4); undefined when we do not have it. */
export type PskSource = (id: PreSharedKeyId) => Uint8Array | undefined;

/** The index of a PSKLabel is a uint16. */
const MAX_PSKS = 0xffff;

/** A list that no PSKLabel can count is invalid (8.4), and so it is for a follower, who has none of the keys. */
export function validatePskCount(ids: readonly PreSharedKeyId[]): void {
  check("psk/count", ids.length <= MAX_PSKS);
}

export const noPsks: PskSource = () => undefined;

/** psk_secret for the PSKs of a commit or a Welcome, in their order. Throws RejectionError `mls/psk/unavailable` (12.4.2). */
export function pskSecretFor(
  crypto: CryptoProvider,
  ids: readonly PreSharedKeyId[],
  source: PskSource,
): Bytes {
  validatePskCount(ids);
  const injected = ids.map((id) => {
    const psk = source(id);
    if (psk === undefined) throw new RejectionError("mls/psk/unavailable");
    return { id, psk };
  });
  return derivePskSecret(crypto, injected);
}

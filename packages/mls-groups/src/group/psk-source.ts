import type { Bytes } from "@murmuration/base";
import { RejectionError } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { derivePskSecret } from "../schedule/psk.ts";
import type { PreSharedKeyId } from "../structs/psk-id.ts";

/** Finds the value of a pre-shared key (8.4); undefined when we do not have it. */
export type PskSource = (id: PreSharedKeyId) => Uint8Array | undefined;

export const noPsks: PskSource = () => undefined;

/** psk_secret for the PSKs of a commit or a Welcome, in their order. Throws RejectionError `mls/psk/unavailable` (12.4.2). */
export function pskSecretFor(
  crypto: CryptoProvider,
  ids: readonly PreSharedKeyId[],
  source: PskSource,
): Bytes {
  const injected = ids.map((id) => {
    const psk = source(id);
    if (psk === undefined) throw new RejectionError("mls/psk/unavailable");
    return { id, psk };
  });
  return derivePskSecret(crypto, injected);
}

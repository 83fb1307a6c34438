import { type Bytes, encode } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { type GroupContext, writeGroupContext } from "../structs/group-context.ts";
import type { RatchetTree } from "../tree/ratchet-tree.ts";

/** What every participant knows about one epoch, a follower without secrets too. Immutable. */
export interface PublicEpoch {
  readonly crypto: CryptoProvider;
  readonly context: GroupContext;
  /** The encoded GroupContext: signed, hashed and sealed under many times, encoded once. */
  readonly contextBytes: Bytes;
  readonly tree: RatchetTree;
  /** Of the commit that made this epoch (6.1); goes into the GroupInfo and the interim transcript hash. */
  readonly confirmationTag: Bytes;
  /** Section 8.2. */
  readonly interimTranscriptHash: Bytes;
}

/** Encodes a GroupContext (8.1). */
export function encodeGroupContext(context: GroupContext): Bytes {
  return encode(context, writeGroupContext, 512);
}

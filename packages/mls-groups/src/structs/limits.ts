import { RejectionError } from "@murmuration/base";

/**
 * Upper bounds on what a decoder accepts, beside the bound that the input's own size sets. They keep one
 * message from making a receiver hold far more elements than a group of the supported size can need.
 */
export interface DecodeLimits {
  /** Bytes of one MLSMessage. */
  readonly messageBytes: number;
  /** Proposals in one Commit, by value or by reference. */
  readonly proposals: number;
  /** UpdatePathNodes of one UpdatePath: the height of the tree. Leaf indexes are uint32. */
  readonly pathNodes: number;
  /** Ciphertexts of one UpdatePathNode, entries of one Welcome, nodes of one ratchet_tree. */
  readonly elements: number;
}

/** Enough for 50,000 members whose leaves carry certificates, with room to grow. */
export const defaultLimits: DecodeLimits = {
  messageBytes: 0x0800_0000,
  proposals: 0x2_0000,
  pathNodes: 32,
  elements: 0x10_0000,
};

/** Throws RejectionError `mls/decode-limit-exceeded`. */
export function withinLimit(count: number, limit: number): void {
  if (count > limit) throw new RejectionError("mls/decode-limit-exceeded");
}

import { UsageError } from "@murmuration/base";

/**
 * How many zero bytes follow a PrivateMessageContent of `length` bytes (RFC 9420 section 6.3.1). Padding hides
 * the length of what was said, and only the length.
 */
export type PaddingPolicy = (length: number) => number;

/** No padding: the length of a message shows. */
export const noPadding: PaddingPolicy = () => 0;

/** Pads to the next multiple of `size` bytes. */
export function padToMultipleOf(size: number): PaddingPolicy {
  if (!Number.isSafeInteger(size) || size < 1) throw new UsageError("mls/framing-padding");
  return (length) => (size - (length % size)) % size;
}

/**
 * Padmé: the length keeps as many leading bits as its size needs, so it shows O(log log length) bits of itself
 * and grows by at most 12 percent.
 */
export const padme: PaddingPolicy = (length) => {
  if (length < 2) return 0;
  const exponent = 31 - Math.clz32(length);
  const kept = 32 - Math.clz32(exponent);
  const unit = 2 ** Math.max(0, exponent - kept);
  return (unit - (length % unit)) % unit;
};

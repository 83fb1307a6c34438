import type { Bytes } from "@murmuration/base";

/**
 * Pause before try number `attempt` (from 0): a random time below `min * 2^attempt`, at most `max`, so that
 * many clients that lost one service do not all come back at once. `random` is four random bytes.
 */
export function backoffMs(attempt: number, minMs: number, maxMs: number, random: Bytes): number {
  const ceiling = Math.min(maxMs, minMs * 2 ** Math.min(attempt, 30));
  const fraction = new DataView(random.buffer, random.byteOffset, 4).getUint32(0) / 2 ** 32;
  return Math.ceil(ceiling * fraction);
}

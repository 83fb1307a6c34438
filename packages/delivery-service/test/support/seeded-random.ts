import { randomInt } from "node:crypto";

/** Numbers in [0, 1) from a seed: SEED in the environment repeats a run. */
export function seededRandom(): { readonly seed: number; next(): number } {
  const seed = Number(process.env["SEED"] ?? randomInt(2 ** 31));
  let state = seed;
  return {
    seed,
    next() {
      // mulberry32
      state = (state + 0x6d2b79f5) | 0;
      let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    },
  };
}

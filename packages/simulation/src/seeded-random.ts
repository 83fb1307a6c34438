import { randomInt } from "node:crypto";

/** A small seeded generator for schedules of faults, so that a run can be repeated. No key ever comes from here. */
export interface SeededRandom {
  readonly seed: number;
  /** A number from 0 to below 1. */
  next(): number;
  /** A whole number from 0 to below `bound`. */
  below(bound: number): number;
}

/** mulberry32 over a 32-bit seed: a fresh one by default, or SEED of the environment, which repeats a run. */
export function seededRandom(seed = Number(process.env["SEED"] ?? randomInt(2 ** 31))): SeededRandom {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return { seed, next, below: (bound) => Math.floor(next() * bound) };
}

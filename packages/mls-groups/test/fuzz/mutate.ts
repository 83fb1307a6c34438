import type { Bytes } from "@murmuration/base";

/** Draws a whole number from 0 to below `limit`. */
export type Draw = (limit: number) => number;

/** Draws that a seed and the number of an input decide (mulberry32), so that any input can be made again. */
export function drawsFor(seed: number, input: number): Draw {
  let state = (seed ^ Math.imul(input + 1, 0x9e3779b1)) >>> 0;
  return (limit) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  };
}

/** Steps of the vector header (section 2.1.2), extremes, and small numbers that are types somewhere. */
const notable = [0, 1, 2, 3, 4, 5, 6, 7, 10, 0x3f, 0x40, 0x7f, 0x80, 0xbf, 0xc0, 0xff];

type Mutation = (bytes: Bytes, draw: Draw, other: Uint8Array) => Bytes;

function replaced(bytes: Bytes, from: number, to: number, by: Uint8Array): Bytes {
  const out = new Uint8Array(bytes.length - (to - from) + by.length);
  out.set(bytes.subarray(0, from));
  out.set(by, from);
  out.set(bytes.subarray(to), from + by.length);
  return out;
}

/** A stretch of up to 64 bytes. */
function stretch(bytes: Uint8Array, draw: Draw): { from: number; to: number } {
  const from = draw(bytes.length + 1);
  return { from, to: Math.min(bytes.length, from + draw(64)) };
}

function changed(bytes: Bytes, draw: Draw, change: (byte: number) => number): Bytes {
  if (bytes.length === 0) return bytes;
  const out = bytes.slice();
  const at = draw(out.length);
  out[at] = change(out[at]!);
  return out;
}

const mutations: readonly Mutation[] = [
  (bytes, draw) => changed(bytes, draw, (byte) => byte ^ (1 << draw(8))),
  (bytes, draw) => changed(bytes, draw, () => notable[draw(notable.length)]!),
  // A length, an index or a count that is off by a little.
  (bytes, draw) => changed(bytes, draw, (byte) => byte + [1, 255, 4, 252][draw(4)]!),
  // The same length in a longer form, or a huge one.
  (bytes, draw) => {
    const at = draw(bytes.length + 1);
    const length = bytes[at] ?? 0;
    const forms = [
      [0x40, length],
      [0x80, 0, 0, length],
      [0xbf, 0xff, 0xff, 0xff],
      [0x7f, 0xff],
    ];
    return replaced(bytes, at, Math.min(at + 1, bytes.length), Uint8Array.from(forms[draw(forms.length)]!));
  },
  (bytes, draw) => bytes.slice(0, draw(bytes.length + 1)),
  (bytes, draw) => {
    const { from, to } = stretch(bytes, draw);
    return replaced(bytes, from, to, new Uint8Array(0));
  },
  (bytes, draw) => {
    const { from, to } = stretch(bytes, draw);
    return replaced(bytes, to, to, bytes.slice(from, to));
  },
  (bytes, draw, other) => {
    const { from, to } = stretch(bytes, draw);
    const there = stretch(other, draw);
    return replaced(bytes, from, to, other.subarray(there.from, there.to));
  },
  (bytes, draw) => replaced(bytes, bytes.length, bytes.length, new Uint8Array(1 + draw(4)).fill(draw(256))),
];

/** One to four mutations of some bytes; `other` is what a splice takes from. */
export function mutate(bytes: Uint8Array, draw: Draw, other: Uint8Array): Bytes {
  let out = bytes.slice() as Bytes;
  for (let left = 1 + draw(4); left > 0; left--) out = mutations[draw(mutations.length)]!(out, draw, other);
  return out;
}

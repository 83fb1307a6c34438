import { UsageError } from "@murmuration/base";

/** Where the key of an entry stands. One object is filled again and again. */
export interface KeyRange {
  bytes: Uint8Array;
  start: number;
  end: number;
}

/** Points `range` at the key of an entry. */
export type LocateKey = (entry: number, range: KeyRange) => void;

/** Two random words: with them nobody who chooses keys can choose where they fall. */
export type TableSeed = readonly [number, number];

/**
 * HalfSipHash-1-3 with 32 bits of output, as a hash for tables: strangers choose the keys of a tree, and a
 * guessable hash would let them make every lookup O(N). Nothing cryptographic rests on it.
 */
export function tableHash(seed: TableSeed, bytes: Uint8Array, start: number, end: number): number {
  let v0 = seed[0];
  let v1 = seed[1];
  let v2 = 0x6c796765 ^ v0;
  let v3 = 0x74656462 ^ v1;
  let at = start;
  let rounds = 1;
  for (let last = false; ; ) {
    let word: number;
    if (rounds === 3) word = 0;
    else if (at + 4 <= end) {
      word = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
      at += 4;
    } else {
      word = (end - start) << 24;
      for (let shift = 0; at < end; shift += 8) word |= bytes[at++]! << shift;
      last = true;
    }
    v3 ^= word;
    for (let i = 0; i < rounds; i++) {
      v0 = (v0 + v1) | 0;
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
      v0 = (v0 << 16) | (v0 >>> 16);
      v2 = (v2 + v3) | 0;
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
      v2 = (v2 << 16) | (v2 >>> 16);
    }
    v0 ^= word;
    if (rounds === 3) return v1 ^ v3;
    if (last) {
      v2 ^= 0xff;
      rounds = 3;
    }
  }
}

function sameKey(a: KeyRange, b: KeyRange): boolean {
  const length = a.end - a.start;
  if (b.end - b.start !== length) return false;
  for (let i = 0; i < length; i++) if (a.bytes[a.start + i] !== b.bytes[b.start + i]) return false;
  return true;
}

/**
 * An index from keys that stand in the tree's own bytes to their entries (nodes or leaves): open addressing
 * with linear probing over one Int32Array, 4 bytes a slot, between 1.33 and 2.67 slots an entry. Deletion
 * shifts back, so there are no tombstones. Operations are O(1) in expectation over the seed.
 */
export class KeyTable {
  private slots: Int32Array<ArrayBuffer>; // entry + 1, 0 for an empty slot
  private count = 0;
  private readonly seed: TableSeed;
  private readonly locate: LocateKey;
  private readonly probe: KeyRange = { bytes: new Uint8Array(0), start: 0, end: 0 };
  private readonly wanted: KeyRange = { bytes: new Uint8Array(0), start: 0, end: 0 };

  constructor(seed: TableSeed, locate: LocateKey, expected = 0) {
    this.seed = seed;
    this.locate = locate;
    let capacity = 8;
    while (capacity * 3 < expected * 4) capacity *= 2;
    this.slots = new Int32Array(capacity);
  }

  /** Bytes of memory. */
  get memory(): number {
    return this.slots.byteLength;
  }

  private homeOf(range: KeyRange): number {
    return tableHash(this.seed, range.bytes, range.start, range.end) & (this.slots.length - 1);
  }

  /** The slot of an entry with this key, or the empty slot where it would go. */
  private slotFor(range: KeyRange): number {
    const mask = this.slots.length - 1;
    let slot = this.homeOf(range);
    for (;;) {
      const stored = this.slots[slot]!;
      if (stored === 0) return slot;
      this.locate(stored - 1, this.probe);
      if (sameKey(range, this.probe)) return slot;
      slot = (slot + 1) & mask;
    }
  }

  /** The entry with this key. */
  find(key: Uint8Array): number | undefined {
    this.wanted.bytes = key;
    this.wanted.start = 0;
    this.wanted.end = key.length;
    const stored = this.slots[this.slotFor(this.wanted)]!;
    return stored === 0 ? undefined : stored - 1;
  }

  /** Adds an entry unless another with its key is there; returns that other one. */
  insert(entry: number): number | undefined {
    if ((this.count + 1) * 4 > this.slots.length * 3) this.grow();
    this.locate(entry, this.wanted);
    const slot = this.slotFor(this.wanted);
    const stored = this.slots[slot]!;
    if (stored !== 0) return stored - 1;
    this.slots[slot] = entry + 1;
    this.count++;
    return undefined;
  }

  /** Puts `replacement`, which has the same key, in the place of `entry`. */
  replace(entry: number, replacement: number): void {
    this.slots[this.slotOf(entry)] = replacement + 1;
  }

  /** Takes an entry out; its key must still be where it was. False if another entry stands for that key. */
  delete(entry: number): boolean {
    this.locate(entry, this.wanted);
    let hole = this.slotFor(this.wanted);
    if (this.slots[hole] !== entry + 1) return false;
    const mask = this.slots.length - 1;
    for (let slot = (hole + 1) & mask; this.slots[slot] !== 0; slot = (slot + 1) & mask) {
      this.locate(this.slots[slot]! - 1, this.probe);
      // An entry may move into the hole only if that is not before its home.
      if (((slot - this.homeOf(this.probe)) & mask) < ((slot - hole) & mask)) continue;
      this.slots[hole] = this.slots[slot]!;
      hole = slot;
    }
    this.slots[hole] = 0;
    this.count--;
    return true;
  }

  /** True if this entry stands in the table. */
  has(entry: number): boolean {
    this.locate(entry, this.wanted);
    return this.slots[this.slotFor(this.wanted)] === entry + 1;
  }

  private slotOf(entry: number): number {
    this.locate(entry, this.wanted);
    const slot = this.slotFor(this.wanted);
    if (this.slots[slot] !== entry + 1) throw new UsageError("mls/key-table-entry-missing");
    return slot;
  }

  private grow(): void {
    const old = this.slots;
    this.slots = new Int32Array(old.length * 2);
    const mask = this.slots.length - 1;
    for (const stored of old) {
      if (stored === 0) continue;
      this.locate(stored - 1, this.wanted);
      let slot = this.homeOf(this.wanted);
      while (this.slots[slot] !== 0) slot = (slot + 1) & mask;
      this.slots[slot] = stored;
    }
  }
}

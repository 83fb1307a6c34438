import { type Bytes, invariant } from "@murmuration/base";
import { accountOfAddressKey } from "./address.ts";
import type { PairwiseStore, PairwiseTable, RowChange, WriteSet } from "./api.ts";

/** What an operation may read. */
export interface Rows {
  read(table: PairwiseTable, key: string): Bytes | undefined;
  /** What `read` gives for each key, in one access to the store. */
  readEach(table: PairwiseTable, keys: readonly string[]): readonly (Bytes | undefined)[];
  keys(table: PairwiseTable): readonly string[];
}

/** The queue of this device's own rows; every other queue is named after an account. */
export const OWN_QUEUE = "own";

/** The queue that owns a row. Two operations overlap only when they hold different queues. */
function queueOf(table: PairwiseTable, key: string): string {
  switch (table) {
    case "account":
    case "device-list":
      return key;
    case "session":
    case "received":
    case "resent":
      return accountOfAddressKey(key);
    default:
      return OWN_QUEUE;
  }
}

/**
 * Changes of one operation in memory, over rows that it does not touch. libsignal removes prekeys before it
 * saves the session and awaits every store call in between: on an overlay that order does not matter, because
 * the whole set is written at once or not at all.
 */
export class Overlay implements Rows {
  private readonly below: Rows;
  private readonly held: (queue: string) => boolean;
  private readonly changed = new Map<string, RowChange>();

  /** `held` tells whether the operation holds a queue: a write outside of them is our bug. */
  constructor(below: Rows, held: (queue: string) => boolean) {
    this.below = below;
    this.held = held;
  }

  read(table: PairwiseTable, key: string): Bytes | undefined {
    const change = this.changed.get(`${table}/${key}`);
    return change === undefined ? this.below.read(table, key) : change.value;
  }

  readEach(table: PairwiseTable, keys: readonly string[]): readonly (Bytes | undefined)[] {
    const below = this.below.readEach(table, keys);
    if (this.changed.size === 0) return below;
    return keys.map((key, i) => {
      const change = this.changed.get(`${table}/${key}`);
      return change === undefined ? below[i] : change.value;
    });
  }

  keys(table: PairwiseTable): readonly string[] {
    const keys = new Set(this.below.keys(table));
    for (const change of this.changed.values()) {
      if (change.table !== table) continue;
      if (change.value === undefined) keys.delete(change.key);
      else keys.add(change.key);
    }
    return [...keys];
  }

  write(table: PairwiseTable, key: string, value: Bytes | undefined): void {
    invariant(this.held(queueOf(table, key)), "pairwise/write-outside-queue");
    this.changed.set(`${table}/${key}`, { table, key, value });
  }

  /** An overlay over this one: dropped when a step fails, absorbed when it succeeds. */
  child(): Overlay {
    return new Overlay(this, this.held);
  }

  absorb(child: Overlay): void {
    for (const [name, change] of child.changed) this.changed.set(name, change);
  }

  writeSet(): WriteSet {
    return { changes: [...this.changed.values()] };
  }
}

/** The caller's store as what lies below the first overlay. */
export function rowsOf(store: PairwiseStore): Rows {
  return {
    read: (table, key) => store.read(table, key),
    readEach: (table, keys) => store.readEach(table, keys),
    keys: (table) => store.keys(table),
  };
}

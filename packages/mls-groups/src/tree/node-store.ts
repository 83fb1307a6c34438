import type { Bytes } from "@murmuration/base";
import type { NodeIndex } from "./math.ts";

/** Space lost in the arena before it is packed: this much and a sixteenth of what is alive. */
const TOLERATED_WASTE = 1 << 15;

/**
 * The encodings of all nodes in one byte array, with a start and a length for each node: no object per node.
 * A node of length 0 is blank. Views into `bytes` hold only until the next `set`.
 *
 * A changed node is written over the old one where it fits, else at the end. Waste is packed away once it
 * exceeds a sixteenth, so that a change costs O(its bytes) amortised.
 */
export class NodeStore {
  bytes: Bytes;
  private starts: Uint32Array<ArrayBuffer>;
  private lengths: Uint32Array<ArrayBuffer>;
  private used: number;
  private alive = 0;

  /** `bytes` becomes the arena; nodes are then placed in it with `place`. */
  constructor(nodes: number, bytes: Bytes) {
    this.bytes = bytes;
    this.used = bytes.length;
    this.starts = new Uint32Array(nodes);
    this.lengths = new Uint32Array(nodes);
  }

  /** Declares that a node stands in the initial arena. */
  place(node: NodeIndex, start: number, length: number): void {
    this.starts[node] = start;
    this.lengths[node] = length;
    this.alive += length;
  }

  ensureNodes(nodes: number): void {
    if (nodes <= this.starts.length) return;
    this.starts = enlarged(this.starts, nodes);
    this.lengths = enlarged(this.lengths, nodes);
  }

  /** Bytes of all nodes together. */
  get size(): number {
    return this.alive;
  }

  /** Bytes of memory. */
  get memory(): number {
    return this.bytes.length + this.starts.byteLength + this.lengths.byteLength;
  }

  isBlank(node: NodeIndex): boolean {
    return this.lengths[node] === 0;
  }

  start(node: NodeIndex): number {
    return this.starts[node]!;
  }

  length(node: NodeIndex): number {
    return this.lengths[node]!;
  }

  /** The encoding of a node, empty when blank; valid until the next `set`. */
  view(node: NodeIndex): Uint8Array {
    const start = this.starts[node]!;
    return this.bytes.subarray(start, start + this.lengths[node]!);
  }

  /** Replaces a node; an empty `value` blanks it. `value` is copied and must not be a view into `bytes`. */
  set(node: NodeIndex, value: Uint8Array): void {
    const old = this.lengths[node]!;
    if (value.length > old) this.starts[node] = this.append(value.length);
    // The start of a blank node means nothing, it may lie outside a packed arena.
    if (value.length > 0) this.bytes.set(value, this.starts[node]!);
    this.lengths[node] = value.length;
    this.alive += value.length - old;
    if (this.used - this.alive > TOLERATED_WASTE + (this.alive >>> 4)) this.pack();
  }

  private append(length: number): number {
    const at = this.used;
    if (at + length > this.bytes.length) {
      // A sixteenth more at a time: amortised O(1) a byte, and little unused memory in a large group.
      const larger = new Uint8Array(at + length + ((at + length) >>> 4) + 1024);
      larger.set(this.bytes.subarray(0, at));
      this.bytes = larger;
    }
    this.used = at + length;
    return at;
  }

  private pack(): void {
    const packed = new Uint8Array(this.alive + (this.alive >>> 6) + 1024);
    let at = 0;
    for (let node = 0; node < this.lengths.length; node++) {
      const length = this.lengths[node]!;
      if (length === 0) continue;
      packed.set(this.view(node), at);
      this.starts[node] = at;
      at += length;
    }
    this.bytes = packed;
    this.used = at;
  }
}

/** A longer copy, zero-filled at its end. */
export function enlarged<T extends Uint8Array | Uint32Array>(array: T, length: number): T {
  const larger = new (array.constructor as new (length: number) => T)(length);
  larger.set(array);
  return larger;
}

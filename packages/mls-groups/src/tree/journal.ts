import type { NodeIndex } from "./math.ts";
import { enlarged } from "./node-store.ts";

/** Notes of byte strings about nodes, packed into one buffer. */
class Notes {
  readonly nodes: NodeIndex[] = [];
  private readonly ends: number[] = [];
  private buffer = new Uint8Array(0);

  add(node: NodeIndex, value: Uint8Array): void {
    const start = this.ends.at(-1) ?? 0;
    const end = start + value.length;
    if (end > this.buffer.length) this.buffer = enlarged(this.buffer, end + (end >>> 1) + 1024);
    this.buffer.set(value, start);
    this.nodes.push(node);
    this.ends.push(end);
  }

  at(index: number): Uint8Array {
    return this.buffer.subarray(index === 0 ? 0 : this.ends[index - 1]!, this.ends[index]!);
  }
}

/**
 * What has to be undone to get from one epoch's tree to another: for each write the node's bytes as they were
 * before, for each hash that changed between up to date and dirty what it was before. O(path) notes for a
 * commit. It owns copies.
 */
export class Journal {
  private readonly written = new Notes();
  private readonly rehashed = new Notes();

  /** Notes the bytes that a node had before a write, empty for a blank node. */
  noteNode(node: NodeIndex, before: Uint8Array): void {
    this.written.add(node, before);
  }

  /** Notes the hash that a node had before it became dirty; empty when it was dirty and was computed. */
  noteHash(node: NodeIndex, before: Uint8Array): void {
    this.rehashed.add(node, before);
  }

  /** Number of notes. */
  get length(): number {
    return this.written.nodes.length + this.rehashed.nodes.length;
  }

  /** What a node was before the first write, as a view; undefined if it was not written. O(notes). */
  before(node: NodeIndex): Uint8Array | undefined {
    const first = this.written.nodes.indexOf(node);
    return first < 0 ? undefined : this.written.at(first);
  }

  /**
   * Replays the writes backwards, in which order no two nodes ever share a key, and then puts each hash to
   * what its first note says, empty for dirty.
   */
  undo(
    write: (node: NodeIndex, value: Uint8Array) => void,
    putHash: (node: NodeIndex, hash: Uint8Array) => void,
  ): void {
    for (let i = this.written.nodes.length - 1; i >= 0; i--) {
      write(this.written.nodes[i]!, this.written.at(i));
    }
    const seen = new Set<NodeIndex>();
    for (const [i, node] of this.rehashed.nodes.entries()) {
      if (seen.has(node)) continue;
      seen.add(node);
      putHash(node, this.rehashed.at(i));
    }
  }
}

import type { KeyTable } from "./key-table.ts";
import type { LeafIndex } from "./math.ts";
import { enlarged } from "./node-store.ts";

/**
 * An index in which many leaves may share a key: the table holds one leaf for each key and the others hang
 * behind it in a ring of leaf numbers. Insert and delete are O(1), even if all members share one credential.
 */
export class LeafChains {
  private readonly heads: KeyTable;
  private next: Uint32Array<ArrayBuffer>;
  private previous: Uint32Array<ArrayBuffer>;

  constructor(heads: KeyTable, leaves: number) {
    this.heads = heads;
    this.next = new Uint32Array(leaves);
    this.previous = new Uint32Array(leaves);
  }

  ensureLeaves(leaves: number): void {
    if (leaves <= this.next.length) return;
    this.next = enlarged(this.next, leaves);
    this.previous = enlarged(this.previous, leaves);
  }

  /** Bytes of memory. */
  get memory(): number {
    return this.heads.memory + this.next.byteLength + this.previous.byteLength;
  }

  insert(leaf: LeafIndex): void {
    const head = this.heads.insert(leaf);
    if (head === undefined) {
      this.next[leaf] = leaf;
      this.previous[leaf] = leaf;
      return;
    }
    const second = this.next[head]!;
    this.next[head] = leaf;
    this.previous[leaf] = head;
    this.next[leaf] = second;
    this.previous[second] = leaf;
  }

  /** Takes a leaf out; its bytes must still be those it was inserted with. */
  delete(leaf: LeafIndex): void {
    const next = this.next[leaf]!;
    if (next === leaf) {
      this.heads.delete(leaf);
      return;
    }
    if (this.heads.has(leaf)) this.heads.replace(leaf, next);
    const previous = this.previous[leaf]!;
    this.next[previous] = next;
    this.previous[next] = previous;
  }

  /** All leaves with this key, in no particular order. O(result). */
  find(key: Uint8Array): LeafIndex[] {
    const head = this.heads.find(key);
    if (head === undefined) return [];
    const leaves = [head];
    for (let leaf = this.next[head]!; leaf !== head; leaf = this.next[leaf]!) leaves.push(leaf);
    return leaves;
  }
}

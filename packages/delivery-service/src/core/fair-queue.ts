/**
 * Work that waits, taken in turn from everybody who has some: who brings much delays the own work only. Within one, first
 * in, first out. All O(1).
 */
export class FairQueue<T> {
  private readonly waiting = new Map<string, T[]>();
  private readonly maxPerKey: number;
  private readonly maxTotal: number;
  private count = 0;

  constructor(limits: { readonly perKey: number; readonly total: number }) {
    this.maxPerKey = limits.perKey;
    this.maxTotal = limits.total;
  }

  /** False when there is no room. */
  add(key: string, work: T): boolean {
    const own = this.waiting.get(key) ?? [];
    if (own.length >= this.maxPerKey || this.count >= this.maxTotal) return false;
    own.push(work);
    this.waiting.set(key, own);
    this.count++;
    return true;
  }

  take(): T | undefined {
    for (const [key, own] of this.waiting) {
      const work = own.shift()!;
      // Deleting first moves who has more to the end.
      this.waiting.delete(key);
      if (own.length > 0) this.waiting.set(key, own);
      this.count--;
      return work;
    }
    return undefined;
  }
}

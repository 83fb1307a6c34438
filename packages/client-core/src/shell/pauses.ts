/** What is tried ever less often as long as nothing comes of it, by key. In memory only. */
export class Pauses {
  private readonly now: () => number;
  private readonly firstMs: number;
  private readonly mostMs: number;
  private readonly pauses = new Map<string, { readonly endsAtMs: number; readonly pauseMs: number }>();

  /** The first pause and the longest one, ms; each is twice as long as the one before. */
  constructor(now: () => number, { first, most }: { readonly first: number; readonly most: number }) {
    this.now = now;
    this.firstMs = first;
    this.mostMs = most;
  }

  /** Whether it is not to be tried now. */
  has(key: string): boolean {
    const { endsAtMs = 0, pauseMs = 0 } = this.pauses.get(key) ?? {};
    const leftMs = endsAtMs - this.now();
    // A clock that was set back by more than the pause ends it.
    return leftMs > 0 && leftMs <= pauseMs;
  }

  /** Nothing came of it. */
  lengthen(key: string): void {
    const before = this.pauses.get(key)?.pauseMs ?? this.firstMs / 2;
    const pauseMs = Math.min(2 * before, this.mostMs);
    this.pauses.set(key, { endsAtMs: this.now() + pauseMs, pauseMs });
  }

  /** The next pause is the first again. */
  delete(key: string): void {
    this.pauses.delete(key);
  }

  clear(): void {
    this.pauses.clear();
  }
}

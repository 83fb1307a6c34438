/** A wake-up in its window: what to do when that is over, if something came meanwhile. */
interface Window {
  readonly untilMs: number;
  again: (() => void) | undefined;
}

/**
 * Lets each key through at most once in a window; what comes within one is let through once more at its end. Windows are all
 * of one length, so the map's order is the order in which they end.
 */
export class Paced {
  private readonly windowMs: number;
  private readonly maxKeys: number;
  private readonly windows = new Map<string, Window>();

  constructor(windowMs: number, maxKeys: number) {
    this.windowMs = windowMs;
    this.maxKeys = maxKeys;
  }

  /** True to go on now; false where `again` is called when the window is over. `full` where there is no room for the key. */
  enter(key: string, nowMs: number, again: () => void): boolean | "full" {
    const window = this.windows.get(key);
    if (window !== undefined && window.untilMs > nowMs) {
      window.again = again;
      return false;
    }
    this.windows.delete(key);
    if (this.windows.size >= this.maxKeys) return "full";
    this.windows.set(key, { untilMs: nowMs + this.windowMs, again: undefined });
    return true;
  }

  /** The window is over: whom the key stands for came by itself. */
  forget(key: string): void {
    this.windows.delete(key);
  }

  /** Ends the windows that are over by now. O(those). */
  tick(nowMs: number): void {
    for (const [key, { again, untilMs }] of this.windows) {
      if (untilMs > nowMs) return;
      this.windows.delete(key);
      again?.();
    }
  }

  get isEmpty(): boolean {
    return this.windows.size === 0;
  }
}

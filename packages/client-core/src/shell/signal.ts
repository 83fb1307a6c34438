/** Wakes everybody who waits: "look again", without content. */
export class Signal {
  private waiting: (() => void)[] = [];

  notify(): void {
    const woken = this.waiting;
    this.waiting = [];
    for (const resolve of woken) resolve();
  }

  /** Resolves at the next notify, or when the signal aborts. */
  wait(abort?: AbortSignal): Promise<void> {
    if (abort?.aborted === true) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        abort?.removeEventListener("abort", done);
        resolve();
      };
      abort?.addEventListener("abort", done, { once: true });
      this.waiting.push(done);
    });
  }
}

import type { Context } from "./context.ts";

/** Within so many ms after a quiet time devices erase, each at a moment of its own. */
const SPREAD_MS = 30_000;

/**
 * What was deleted lies in the write-ahead log until that is emptied into the database, which costs as much as the log is
 * long. That it is due is written down with what was deleted, so that a crash in between leaves nothing there for good.
 */
export class Erasure {
  private readonly context: Context;
  private wanted: "at-once" | "when-quiet" | undefined;
  private isWaiting = false;

  constructor(context: Context) {
    this.context = context;
  }

  /** Inside a transaction. `when-quiet`: all members do it for the same reason, while people talk. */
  want(when: "at-once" | "when-quiet"): void {
    this.context.meta.setNumber("erase-due", 1);
    if (this.wanted !== "at-once") this.wanted = when;
  }

  /** After each transaction. */
  transactionEnded(): void {
    const { wanted } = this;
    this.wanted = undefined;
    if (wanted === "at-once") this.erase();
    else if (wanted === "when-quiet") this.wait();
  }

  /** What a program that ended had still to erase. */
  takeUp(): void {
    if (this.isDue) this.erase();
  }

  private get isDue(): boolean {
    return this.context.meta.number("erase-due") === 1;
  }

  /** A disk that fails, or is full, keeps nobody from what was written: it is tried again until it is done. */
  private erase(): void {
    const { meta, storage } = this.context;
    try {
      storage.eraseDeleted();
      // Where this is forgotten it is done once more.
      storage.transaction(() => meta.delete("erase-due"), "with-the-next");
    } catch {
      this.wait();
    }
  }

  private wait(): void {
    if (this.isWaiting) return;
    this.isWaiting = true;
    const { closing, environment, failed, quietMs } = this.context;
    const luck = environment.random(1)[0]! / 255;
    environment
      .sleep(quietMs + SPREAD_MS * luck, closing.signal)
      .then(() => {
        this.isWaiting = false;
        if (!closing.signal.aborted) this.takeUp();
      })
      .catch(failed);
  }
}

import type { Context } from "./context.ts";

/** An application that is killed is shown what it acknowledged in the last so many ms once more, ms. */
const WRITE_WITHIN_MS = 1_000;

/**
 * How far the application has dealt with events. It says so after nearly every message: a transaction for each would cost a
 * member of a large group as much as the message. So it is written down with whatever is written next, after a while in any
 * case, and when the client closes; events come at least once.
 */
export class EventCursor {
  private readonly context: Context;
  /** Not written down yet. */
  private moved: number | undefined;
  private isWaiting = false;

  constructor(context: Context) {
    this.context = context;
  }

  get at(): number {
    return this.moved ?? this.context.meta.number("event-cursor");
  }

  /** Never back, and not behind the last event. */
  move(through: number): void {
    if (through <= this.at) return;
    this.moved = Math.min(through, this.context.events.lastId());
    if (this.context.closing.signal.aborted) this.keep();
    else if (!this.isWaiting) this.keepLater();
  }

  private keepLater(): void {
    this.isWaiting = true;
    const { closing, environment } = this.context;
    void environment.sleep(WRITE_WITHIN_MS, closing.signal).then(() => {
      this.isWaiting = false;
      if (!closing.signal.aborted) this.keep();
    });
  }

  /** Writes it down, if it is not yet. Does not throw: where that is forgotten the events come again. */
  keep(): void {
    if (this.moved === undefined) return;
    try {
      this.context.transaction(() => {}, "with-the-next");
    } catch (error) {
      this.context.failed(error);
    }
  }

  /** Inside each transaction. */
  write(): void {
    if (this.moved === undefined) return;
    this.context.meta.setNumber("event-cursor", this.moved);
    this.context.events.deleteThrough(this.moved);
  }

  /** After each transaction. */
  written(): void {
    this.moved = undefined;
  }
}

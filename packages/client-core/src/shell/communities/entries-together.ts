import { equalBytes } from "@murmuration/base";
import type { ServiceBody } from "@murmuration/wire";

type EntriesFrame = Extract<ServiceBody, { readonly kind: "groupEntries" }>;

/**
 * A service sends entries as they are made, each in a frame. A device that is behind, since it or its machine has much else
 * to do, reads several frames at once, and takes them together: in one transaction, which waits for the disk once. So the
 * further behind it is, the less each entry costs it.
 */
export class EntriesTogether {
  private readonly take: (frame: EntriesFrame) => void;
  private waiting: EntriesFrame | undefined;
  private entries: EntriesFrame["entries"][number][] = [];

  /** `take` is called with what came in one piece, in the order in which it came. */
  constructor(take: (frame: EntriesFrame) => void) {
    this.take = take;
  }

  /** Taken when nothing more has come in the same piece. */
  put(frame: EntriesFrame): void {
    if (this.waiting !== undefined && !equalBytes(this.waiting.groupId, frame.groupId)) this.flush();
    if (this.waiting === undefined) queueMicrotask(() => this.flush());
    this.waiting = frame;
    // One by one: a service decides how many there are, and a call takes no more arguments than the stack has room for.
    for (const entry of frame.entries) this.entries.push(entry);
  }

  /** Something else came behind them. */
  flush(): void {
    const { entries, waiting } = this;
    this.drop();
    if (waiting !== undefined) this.take({ ...waiting, entries });
  }

  /** The connection over which they came is gone. */
  drop(): void {
    this.waiting = undefined;
    this.entries = [];
  }
}

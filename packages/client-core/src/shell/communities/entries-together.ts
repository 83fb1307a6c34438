import { equalBytes } from "@murmuration/base";
import type { ServiceBody } from "@murmuration/wire";

type EntriesFrame = Extract<ServiceBody, { readonly kind: "groupEntries" }>;

/**
 * A service sends entries as they are made, each in a frame. A device that is behind, since it or its machine has much else
 * to do, reads several frames at once, and takes them together: in one transaction, which waits for the disk once. So the
 * further behind it is, the less each entry costs it.
 *
 * What does not follow on what waits is taken by itself. Where a group is opened again, the last entries of the stream before
 * may come in one piece with the first ones of the new stream: they are behind a gap, which says nothing of what follows them.
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
    if (this.waiting !== undefined && !this.follows(this.waiting, frame)) this.flush();
    if (this.waiting === undefined) queueMicrotask(() => this.flush());
    this.waiting = frame;
    // One by one: a service decides how many there are, and a call takes no more arguments than the stack has room for.
    for (const entry of frame.entries) this.entries.push(entry);
  }

  private follows({ groupId }: EntriesFrame, frame: EntriesFrame): boolean {
    const [last, next] = [this.entries.at(-1)?.sequence, frame.entries[0]?.sequence];
    return equalBytes(groupId, frame.groupId) && last !== undefined && next === last + 1;
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

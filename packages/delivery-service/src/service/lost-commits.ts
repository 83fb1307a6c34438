import { formatId, type GroupId } from "@murmuration/base";
import { dayOf } from "../core/days.ts";
import type { LostCommits as Counted } from "../ports/lost-commits.ts";
import type { ServiceContext } from "./context.ts";
import { toRefusal } from "./refusals.ts";

/**
 * Counts commits that lost their race, and writes the counts together: a group costs at most one write in
 * `cursorDelayMs`, however many lose. A crash loses that much, and nobody but a statistic misses it.
 */
export class LostCommits {
  private readonly context: ServiceContext;
  private readonly waiting = new Map<string, Counted>();
  private cancel: (() => void) | undefined;

  constructor(context: ServiceContext) {
    this.context = context;
  }

  /** Notes one more. O(1). */
  note(groupId: GroupId): void {
    const day = dayOf(this.context.clock.now());
    const key = `${formatId(groupId)} ${day}`;
    this.waiting.set(key, { groupId, day, count: 1 + (this.waiting.get(key)?.count ?? 0) });
    this.cancel ??= this.context.clock.after(this.context.limits.cursorDelayMs, () => void this.flush());
  }

  /** Writes what waits. Never rejects. */
  async flush(): Promise<void> {
    this.cancel?.();
    this.cancel = undefined;
    const counts = [...this.waiting.values()];
    this.waiting.clear();
    if (counts.length === 0) return;
    try {
      await this.context.stores.lostCommits.add(counts);
    } catch (error) {
      const { code } = toRefusal(error, this.context.log);
      this.context.log.warn("lost-commits-not-written", { code });
    }
  }
}

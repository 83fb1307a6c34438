import type { Bytes, GroupId } from "@murmuration/base";
import type { LeafCursor } from "../ports/mls-groups.ts";
import type { ServiceContext } from "./context.ts";
import { leafName } from "./group-delivery.ts";
import { toRefusal } from "./refusals.ts";

/**
 * Cursors of leaves, written together: a leaf costs at most one write in `cursorDelayMs`, however often it
 * acknowledges. A crash loses that much, and the leaf is then behind where it is.
 */
export class LeafCursors {
  private readonly context: ServiceContext;
  private readonly waiting = new Map<string, LeafCursor>();
  private cancel: (() => void) | undefined;

  constructor(context: ServiceContext) {
    this.context = context;
  }

  /** Notes how far a leaf is. O(1). */
  note(groupId: GroupId, signatureKey: Bytes, throughSequence: number): void {
    const key = `${Buffer.from(groupId).toString("latin1")} ${leafName(signatureKey)}`;
    const known = this.waiting.get(key);
    if (known !== undefined && known.throughSequence >= throughSequence) return;
    this.waiting.set(key, { groupId, signatureKey, throughSequence });
    this.cancel ??= this.context.clock.after(this.context.limits.cursorDelayMs, () => void this.flush());
  }

  /** Writes what waits. Never rejects: a cursor that could not be written is only older. */
  async flush(): Promise<void> {
    this.stop();
    const cursors = [...this.waiting.values()];
    this.waiting.clear();
    if (cursors.length === 0) return;
    try {
      await this.context.stores.mlsGroups.saveCursors(cursors);
      this.context.metrics.count("group_cursors_written", "", cursors.length);
    } catch (error) {
      this.context.log.warn("cursors-not-written", { code: toRefusal(error, this.context.log).code });
    }
  }

  stop(): void {
    this.cancel?.();
    this.cancel = undefined;
  }
}

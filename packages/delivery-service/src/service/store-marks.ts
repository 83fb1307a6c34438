import type { Bytes, StoreId } from "@murmuration/base";
import { openStoreMark, sealStoreMark } from "../core/store-marks.ts";
import type { ServiceContext } from "./context.ts";

/** A mark serves for this long, all connections alike, in milliseconds: what is younger would be lost unnoticed. */
const MARK_LIFETIME_MS = 2_000;

/**
 * Marks of the store's states. Devices keep the newest one and show it at Hello: so a store that was set back to an older
 * copy learns of it from the first device that has seen it further, and is another store to all of them from then on
 * (docs/wire-protocol.md 3.1, ADR 14).
 */
export class StoreMarks {
  private readonly context: ServiceContext;
  private made:
    | {
        readonly mark: Bytes;
        readonly store: StoreId;
        readonly count: number;
        readonly atMs: number;
      }
    | undefined;

  constructor(context: ServiceContext) {
    this.context = context;
  }

  /** The newest mark, the same object as long as it is the same. Undefined where the store has none. */
  current(): Bytes | undefined {
    const { clock, markKey, random, storeId, stores } = this.context;
    const state = stores.mailboxes.state();
    if (state === undefined) return undefined;
    const { made } = this;
    const { count } = state;
    const atMs = clock.now();
    if (made?.store === storeId) {
      const isYoung = Math.abs(atMs - made.atMs) < MARK_LIFETIME_MS;
      if (isYoung || made.count === count) return made.mark;
    }
    const mark = sealStoreMark(markKey, random.bytes(12), storeId, state);
    this.made = { mark, store: storeId, count, atMs };
    return mark;
  }

  /** A device shows what it was given. What is not ours, or of a store that was given up, says nothing. */
  async shown(mark: Bytes): Promise<void> {
    const { markKey, storeId, stores } = this.context;
    const state = openStoreMark(markKey, storeId, mark);
    if (state !== undefined) await stores.mailboxes.requireState(storeId, state);
  }
}

import { formatId, type GroupId } from "@murmuration/base";
import type { Context } from "../context.ts";

/** After somebody has said something, ms for each member: so long most of them have it, also where many share a machine. */
export const LULL_MS_PER_MEMBER = 2;
/** However many they are: those who waited for a move may be thousands, and are added a few at a time, ms. */
export const LONGEST_LULL_MS = 1_000;
/** Nothing waits longer than so many lulls: some groups never stop talking. */
export const MOST_LULLS = 5;

/**
 * A step of a move gives all members something to do in the same moment, as a word does that somebody says. On top of each
 * other both would keep the next word waiting for as long as the two take, so a step waits until nothing was said just now.
 * In memory only. Every question is O(1), beside look-ups by key.
 */
export class Lulls {
  private readonly context: Context;
  /** Since when the next step waits, by conversation. */
  private readonly sinceMs = new Map<string, number>();
  private nextAtMs = Number.POSITIVE_INFINITY;

  constructor(context: Context) {
    this.context = context;
  }

  /** Whether the next step has to wait. Where it need not, whoever asks takes it now. */
  mustWait(id: GroupId): boolean {
    return this.untilMs(id) !== undefined;
  }

  /** Until when the next step has to wait, as long as nothing more is said. */
  private untilMs(id: GroupId): number | undefined {
    const { conversations } = this.context;
    const key = formatId(id);
    const nowMs = this.context.now();
    const lullMs = Math.min(LULL_MS_PER_MEMBER * conversations.countMembers(id), LONGEST_LULL_MS);
    const longestMs = MOST_LULLS * lullMs;
    const sinceMs = this.sinceMs.get(key) ?? nowMs;
    const untilMs = Math.min(conversations.activeAtMs(id) + lullMs, sinceMs + longestMs);
    // A clock that was set back makes no wait longer.
    if (untilMs <= nowMs || untilMs > nowMs + longestMs) {
      this.sinceMs.delete(key);
      return undefined;
    }
    this.sinceMs.set(key, sinceMs);
    this.nextAtMs = Math.min(this.nextAtMs, untilMs);
    return untilMs;
  }

  /** When to look again at the steps that had to wait since this was asked last, ms since 1970. */
  takeNextAtMs(): number {
    const { nextAtMs } = this;
    this.nextAtMs = Number.POSITIVE_INFINITY;
    return nextAtMs;
  }

  /** Resolves when the next step need not wait, or the client closes. */
  async come(id: GroupId): Promise<void> {
    const { closing, environment } = this.context;
    for (let untilMs = this.untilMs(id); untilMs !== undefined; untilMs = this.untilMs(id)) {
      await environment.sleep(Math.max(1, untilMs - this.context.now()), closing.signal);
      if (closing.signal.aborted) return;
    }
  }
}

import { formatId, type GroupId, UnavailableError } from "@murmuration/base";
import type { Context } from "../context.ts";

/** Members beyond which nothing here grows: those who waited for a move may be thousands. */
const MOST_MEMBERS = 500;
/** So long after a word most members have begun with it, ms for each member. */
export const BEHIND_A_WORD_MS = 0.5;
/** The lull begins then, and lasts so long, ms for each member. */
export const LULL_MS = 1.25;
/** Nobody talks who has said nothing for so long, ms for each member. */
export const SILENCE_MS = 10;
/** A step waits no longer, ms for each member. */
export const LONGEST_MS = 15;
/** How often it is looked whether somebody has said something, ms. */
const LOOK_MS = 100;

/**
 * A step of a move gives all members something to do in the same moment, and whatever somebody says meanwhile waits for it. So
 * where people talk it comes right behind a word, when the next one is furthest away; and at once where nobody does. In memory
 * only. Every question is O(1), beside look-ups by key.
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

  /** When to look again whether the next step has to wait; undefined where it need not. */
  private untilMs(id: GroupId): number | undefined {
    const { conversations } = this.context;
    const key = formatId(id);
    const nowMs = this.context.now();
    const members = Math.min(conversations.countMembers(id), MOST_MEMBERS);
    const saidAtMs = conversations.activeAtMs(id);
    const sinceMs = Math.min(this.sinceMs.get(key) ?? nowMs, nowMs);
    const endMs = Math.min(saidAtMs + SILENCE_MS * members, sinceMs + LONGEST_MS * members);
    const lullAtMs = saidAtMs + BEHIND_A_WORD_MS * members;
    const isLull = lullAtMs <= nowMs && nowMs < lullAtMs + LULL_MS * members;
    if (isLull || endMs <= nowMs) {
      this.sinceMs.delete(key);
      return undefined;
    }
    this.sinceMs.set(key, sinceMs);
    const untilMs = Math.min(endMs, lullAtMs > nowMs ? lullAtMs : nowMs + LOOK_MS);
    this.nextAtMs = Math.min(this.nextAtMs, untilMs);
    return untilMs;
  }

  /** When to look again at the steps that had to wait since this was asked last, ms since 1970. */
  takeNextAtMs(): number {
    const { nextAtMs } = this;
    this.nextAtMs = Number.POSITIVE_INFINITY;
    return nextAtMs;
  }

  /** Resolves when the next step need not wait. UnavailableError when the client closes. */
  async come(id: GroupId): Promise<void> {
    const { closing, environment } = this.context;
    for (let untilMs = this.untilMs(id); untilMs !== undefined; untilMs = this.untilMs(id)) {
      await environment.sleep(Math.max(1, untilMs - this.context.now()), closing.signal);
      if (closing.signal.aborted) throw new UnavailableError("client/closing");
    }
  }
}

/** What time brings: disappearing messages, rows that nobody can ask for any more, keys that are old. */
import { limits } from "@murmuration/wire";
import type { HistoryRow } from "../store/history.ts";
import type { Context } from "./context.ts";
import { forgetTold } from "./forget-told.ts";

const DAY_MS = 86_400_000;
/** How long the newest commit of a community may be taken back. */
const UNDO_MS = 600_000;
const LONGEST_PAUSE_MS = 300_000;

export class Maintenance {
  private readonly context: Context;
  private readonly communities: { tend(): void };
  private pause = new AbortController();
  /** Until when it sleeps. */
  private untilMs = 0;
  private readonly done: Promise<void>;

  constructor(context: Context, communities: { tend(): void }) {
    this.context = context;
    this.communities = communities;
    this.done = this.run().catch(context.failed);
  }

  /** A timer was started, or a commit applied: looks again when it is due. Two look-ups in an index. */
  reschedule(): void {
    if (this.nextDue() < this.untilMs || this.context.now() >= this.untilMs) this.pause.abort();
  }

  stop(): Promise<void> {
    return this.done;
  }

  private async run(): Promise<void> {
    const { closing, environment } = this.context;
    while (!closing.signal.aborted) {
      this.pause = new AbortController();
      this.removeExpired();
      this.forgetOld();
      this.communities.tend();
      const nowMs = this.context.now();
      this.untilMs = Math.min(nowMs + LONGEST_PAUSE_MS, Math.max(nowMs, this.nextDue()));
      await environment.sleep(this.untilMs - nowMs, AbortSignal.any([this.pause.signal, closing.signal]));
    }
  }

  private nextDue(): number {
    const { history, mls } = this.context;
    const never = Number.POSITIVE_INFINITY;
    return Math.min(history.nextExpiry() ?? never, (mls.oldestUndo() ?? never) + UNDO_MS + 1);
  }

  /** Removes lines whose time has come, with every copy of their content, from the database and its log. */
  removeExpired(): void {
    for (;;) {
      const lines = this.context.history.expired(this.context.now());
      if (lines.length === 0) return;
      this.removeLines(lines);
    }
  }

  /** Removes lines for good. */
  removeLines(lines: readonly HistoryRow[]): void {
    const { context } = this;
    context.transaction(() => {
      context.eraseAfterwards();
      for (const line of lines) {
        forgetTold(context, line);
        context.history.remove(line.id);
        context.history.removeReceipts(line.messageId);
        context.events.append({
          kind: "line-removed",
          conversation: line.conversation,
          historyId: line.id,
          atMs: context.now(),
        });
      }
    });
    context.notifier.flush();
  }

  private forgetOld(): void {
    const { context } = this;
    const now = context.now();
    context.transaction(() => {
      // Receipts and the like are kept as long as a peer may ask for them again.
      context.mls.past.forgetOld(now - limits.refeedLifetimeMs);
      context.outbox.forgetSettled(now - context.settings.resendMemoryMs, now - 2 * DAY_MS);
      context.history.forgetOldChanges(now - 30 * DAY_MS);
      context.history.forgetOldSeen(now - 60 * DAY_MS);
      context.held.forgetOld(now - 30 * DAY_MS);
      context.heard.forgetStrangers(now);
      context.conversations.forgetPastKeys(now - 30 * DAY_MS);
      if (context.mls.dropOldUndo(now - UNDO_MS)) context.eraseAfterwards();
    });
  }
}

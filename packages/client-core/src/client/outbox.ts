import { parseMessageId, UnavailableError } from "@murmuration/base";
import type { MessageRef, Outbox } from "../api.ts";
import type { Context } from "../shell/context.ts";
import type { OutboxWorker } from "../shell/outbox-worker.ts";
import { withTimeout } from "../shell/with-timeout.ts";
import { callersId } from "./view.ts";

const SETTLE_TIMEOUT_MS = 30_000;

/** What the application sees of the outbox. */
export class ClientOutbox implements Outbox {
  private readonly context: Context;
  private readonly worker: OutboxWorker;

  constructor(context: Context, worker: OutboxWorker) {
    this.context = context;
    this.worker = worker;
  }

  get waiting(): number {
    return this.context.outbox.waiting();
  }

  async settled(
    options: { readonly messageId?: MessageRef; readonly timeoutMs?: number } = {},
  ): Promise<void> {
    const { messageId, timeoutMs = SETTLE_TIMEOUT_MS } = options;
    const message = messageId === undefined ? undefined : callersId(parseMessageId, messageId);
    const ids = this.context.outbox.waitingIds(message);
    await withTimeout(this.context, timeoutMs, "outbox/still-waiting", {
      done: () => !ids.some((id) => this.isWaiting(id)),
      change: (abort) => this.worker.settled.wait(abort),
    });
  }

  /**
   * Resolves when a row was accepted or failed, or is gone. UnavailableError when the client closes, and `late` after the time,
   * if one is given.
   */
  async whenSettled(
    rowId: number,
    within?: { readonly timeoutMs: number; readonly late: string },
  ): Promise<void> {
    if (within !== undefined) {
      await withTimeout(this.context, within.timeoutMs, within.late, {
        done: () => !this.isWaiting(rowId),
        change: (abort) => this.worker.settled.wait(abort),
      });
      return;
    }
    const { signal } = this.context.closing;
    while (this.isWaiting(rowId)) {
      await this.worker.settled.wait(signal);
      if (signal.aborted) throw new UnavailableError("client/closing");
    }
  }

  private isWaiting(rowId: number): boolean {
    const state = this.context.outbox.get(rowId)?.state;
    return state === "new" || state === "ready";
  }
}

import type { ClientEvent, Events } from "../api.ts";
import type { Context } from "../shell/context.ts";
import { viewEvent } from "./view.ts";

const PAGE = 100;

/** Stored events with their cursor, and listeners. */
export class ClientEvents implements Events {
  private readonly context: Context;

  constructor(context: Context) {
    this.context = context;
  }

  get acknowledged(): number {
    return this.context.meta.number("event-cursor");
  }

  read(after: number = this.acknowledged, limit: number = PAGE): readonly ClientEvent[] {
    return this.context.events.after(after, limit).map((event) => viewEvent(this.context, event));
  }

  async acknowledge(throughEventId: number): Promise<void> {
    const { context } = this;
    if (throughEventId <= this.acknowledged) return;
    context.transaction(() => {
      context.meta.setNumber("event-cursor", Math.min(throughEventId, context.events.lastId()));
      context.events.deleteThrough(throughEventId);
    });
  }

  on(listener: (event: ClientEvent) => void): () => void {
    return this.context.notifier.on((event) => viewEvent(this.context, event), listener);
  }

  async *listen(
    options: { readonly after?: number; readonly signal?: AbortSignal } = {},
  ): AsyncIterable<ClientEvent> {
    const { closing, notifier } = this.context;
    const abort =
      options.signal === undefined ? closing.signal : AbortSignal.any([closing.signal, options.signal]);
    let last = options.after ?? this.acknowledged;
    while (!abort.aborted) {
      const events = last < notifier.lastTold ? this.read(last) : [];
      for (const event of events) {
        last = event.eventId;
        yield event;
        if (abort.aborted) return;
      }
      if (events.length === 0) await notifier.stored.wait(abort);
    }
  }
}

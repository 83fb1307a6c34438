import type { ClientEvent, Events } from "../api.ts";
import type { Context } from "../shell/context.ts";
import type { PassingEvent } from "../shell/notifier.ts";
import type { StoredEvent } from "../store/events.ts";
import { viewEvent } from "./view.ts";

const PAGE = 100;

/** Stored events with their cursor, and listeners. */
export class ClientEvents implements Events {
  private readonly context: Context;
  /** What was read from the storage for events that were told last: several who look at one event pay once. */
  private readonly seen = new Map<number, ClientEvent>();

  constructor(context: Context) {
    this.context = context;
    context.notifier.beforeTelling = () => this.seen.clear();
  }

  get acknowledged(): number {
    return this.context.eventCursor.at;
  }

  read(after: number = this.acknowledged, limit: number = PAGE): readonly ClientEvent[] {
    const from = Math.max(after, this.acknowledged);
    return this.context.events.after(from, limit).map((event) => this.view(event));
  }

  private view(event: StoredEvent | PassingEvent): ClientEvent {
    if (!("id" in event)) return viewEvent(this.context, event);
    const known = this.seen.get(event.id);
    if (known !== undefined) return known;
    const view = viewEvent(this.context, event);
    if (event.id > this.context.notifier.lastTold - PAGE) this.seen.set(event.id, view);
    return view;
  }

  async acknowledge(throughEventId: number): Promise<void> {
    this.context.eventCursor.move(throughEventId);
  }

  on(listener: (event: ClientEvent) => void): () => void {
    return this.context.notifier.on((event) => this.view(event), listener);
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

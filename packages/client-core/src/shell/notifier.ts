import type { Connection, Migration } from "../api.ts";
import type { StoredEvent } from "../store/events.ts";
import { Signal } from "./signal.ts";

/** What is told and not kept. */
export type PassingEvent =
  | {
      readonly kind: "typing";
      readonly conversation: Uint8Array;
      readonly account: Uint8Array;
      readonly started: boolean;
    }
  | { readonly kind: "connection"; readonly state: Connection["state"] }
  | {
      readonly kind: "progress";
      readonly conversation: Uint8Array;
      readonly action: "add" | "remove";
      readonly done: number;
      readonly total: number;
    }
  | {
      readonly kind: "migration";
      readonly conversation: Uint8Array;
      readonly state: Migration["state"];
      readonly readyAccounts: number;
      readonly accounts: number;
    };

const PAGE = 256;

/**
 * Tells listeners what was persisted: called after a transaction, never inside. A listener that throws is the
 * application's bug and does not disturb the others.
 */
export class Notifier {
  /** Wakes whoever waits for new stored events. */
  readonly stored = new Signal();
  private readonly listeners = new Set<(event: StoredEvent | PassingEvent) => () => void>();
  private readonly after: (id: number, limit: number) => readonly StoredEvent[];
  private told: number;
  /** Called before something stored is told: what was read for what was told before may have changed since. */
  beforeTelling: () => void = () => {};

  /** The newest event that listeners were told; whoever has read as far need not ask the storage. */
  get lastTold(): number {
    return this.told;
  }

  constructor(after: (id: number, limit: number) => readonly StoredEvent[], lastId: number) {
    this.after = after;
    this.told = lastId;
  }

  /** `view`: what the listener is shown of an event, read from the storage. That it fails is no bug of the listener's. */
  on<T>(view: (event: StoredEvent | PassingEvent) => T, listener: (seen: T) => void): () => void {
    const prepare = (event: StoredEvent | PassingEvent) => {
      const seen = view(event);
      return () => listener(seen);
    };
    this.listeners.add(prepare);
    return () => this.listeners.delete(prepare);
  }

  /** Tells everything that was stored since the last call. */
  flush(): void {
    for (;;) {
      const events = this.after(this.told, PAGE);
      if (events.length > 0) this.beforeTelling();
      for (const event of events) {
        this.told = event.id;
        this.tell(event);
      }
      if (events.length < PAGE) break;
    }
    this.stored.notify();
  }

  tell(event: StoredEvent | PassingEvent): void {
    for (const prepare of this.listeners) {
      const tell = prepare(event);
      try {
        tell();
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

/** Turns to commit that the service has granted to this device. */
import { type Bytes, toBase64Url } from "@murmuration/base";
import { limits } from "@murmuration/wire";
import type { Context } from "../context.ts";
import { Signal } from "../signal.ts";

interface Turn {
  readonly turn: number;
  readonly untilMs: number;
}

export class Turns {
  private readonly context: Context;
  private readonly turns = new Map<string, Turn>();
  private readonly waiting = new Map<string, number>();
  private readonly changed = new Signal();

  constructor(context: Context) {
    this.context = context;
  }

  granted(id: Bytes, turn: number, expiresInMs: number): void {
    this.turns.set(toBase64Url(id), { turn, untilMs: this.context.now() + expiresInMs });
    this.changed.notify();
  }

  /** The turn that may be used now. */
  current(id: Bytes): number | undefined {
    const turn = this.turns.get(toBase64Url(id));
    return turn === undefined || turn.untilMs <= this.context.now() ? undefined : turn.turn;
  }

  /** The turn is spent; returns it where it was still good. */
  used(id: Bytes): number | undefined {
    const turn = this.current(id);
    this.turns.delete(toBase64Url(id));
    return turn;
  }

  /** Somebody waits for a turn of this group: a granted one is his. */
  isWanted(id: Bytes): boolean {
    return (this.waiting.get(toBase64Url(id)) ?? 0) > 0;
  }

  /** Waits for the turn behind `place` others; gives up when all of them had theirs, since then anybody may commit. */
  async wait(id: Bytes, place: number): Promise<void> {
    const key = toBase64Url(id);
    const over = new AbortController();
    const abort = AbortSignal.any([over.signal, this.context.closing.signal]);
    const timeout = this.context.environment.sleep((place + 1) * limits.turnMs, abort);
    this.waiting.set(key, (this.waiting.get(key) ?? 0) + 1);
    let waiting = true;
    void timeout.then(() => {
      waiting = false;
    });
    try {
      while (waiting && this.current(id) === undefined && !this.context.closing.signal.aborted) {
        await Promise.race([this.changed.wait(abort), timeout]);
      }
    } finally {
      over.abort();
      this.waiting.set(key, (this.waiting.get(key) ?? 1) - 1);
    }
  }

  /** A new connection: what was granted on the old one is void. */
  reset(): void {
    this.turns.clear();
    this.changed.notify();
  }
}

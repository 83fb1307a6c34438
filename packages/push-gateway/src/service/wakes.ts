import { type Bytes, fromHex, RejectionError, toHex } from "@murmuration/base";
import { type KeyPair, openWakeHandle } from "@murmuration/wire/push";
import { dayOf } from "../core/days.ts";
import { type RetryPace, retryAfter, type WakePace, wakeAt } from "../core/wake-pace.ts";
import type { Clock, Log, Random } from "../ports/environment.ts";
import type { PushOutcome, PushServices } from "../ports/push-service.ts";
import type { TokenStore } from "../ports/token-store.ts";
import type { Counts } from "./counts.ts";

/** One entry of a wake request. */
export interface Wake {
  readonly handle: Bytes;
  /** True where the message mentions the device. */
  readonly mentioned: boolean;
}

export interface WakeOptions {
  readonly pace: WakePace;
  readonly retry: RetryPace;
  /** Tokens that may wait for their wake-up; further ones are dropped and counted. */
  readonly maxWaiting: number;
  /** Requests to push services at a time. */
  readonly maxInFlight: number;
}

interface Parts {
  readonly store: TokenStore;
  readonly services: PushServices;
  readonly keys: readonly KeyPair[];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly counts: Counts;
}

/** A token that waits for its wake-up, or was woken a moment ago. */
interface Pending {
  waiting: boolean;
  lastMs: number | undefined;
}

/** A wake-up that is due, or is tried again. */
interface Due {
  readonly name: string;
  readonly sinceMs: number;
  readonly tried: number;
}

/** Handles between two turns of the event loop: a few milliseconds. */
const OPENED_AT_ONCE = 16;
const NOT_CONFIGURED: PushOutcome = { kind: "refused", reason: "not-configured" };

/**
 * Opens handles and wakes their tokens: each at most once in a window, spread over a moment, tried again where the push
 * service is busy. All of it is in memory and for a day at most: a wake-up that is lost costs time, and no message.
 */
export class Wakes {
  private readonly parts: Parts;
  private readonly options: WakeOptions;
  private readonly tokens = new Map<string, Pending>();
  private readonly timers = new Set<() => void>();
  private readonly due: Due[] = [];
  private readonly incoming: Wake[] = [];
  private opening = false;
  private inFlight = 0;
  private waiting = 0;
  private closed = false;
  private idle: (() => void) | undefined;

  constructor(parts: Parts, options: WakeOptions) {
    this.parts = parts;
    this.options = options;
  }

  /**
   * Takes wake-ups on, and returns before it has opened their handles, a few in each turn of the event loop. What is wrong with a handle is counted and not said: otherwise who holds handles could tell which
   * of them belong together by when they stop to work.
   */
  accept(wakes: readonly Wake[]): void {
    for (const wake of wakes) {
      if (this.incoming.length < this.options.maxWaiting) this.incoming.push(wake);
      else this.parts.counts.add("wakes", "dropped");
    }
    if (!this.opening) void this.open();
  }

  /** Waits for what is on its way, and forgets the rest. */
  async close(): Promise<void> {
    this.closed = true;
    for (const cancel of this.timers) cancel();
    this.timers.clear();
    this.due.length = 0;
    if (this.inFlight === 0) return;
    await new Promise<void>((resolve) => {
      this.idle = resolve;
    });
  }

  private async open(): Promise<void> {
    this.opening = true;
    while (this.incoming.length > 0 && !this.closed) {
      const some = this.incoming.splice(0, OPENED_AT_ONCE);
      for (const wake of some) this.parts.counts.add("wakes", this.acceptOne(wake));
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.opening = false;
  }

  private acceptOne({ handle, mentioned }: Wake): string {
    const { clock, keys, random } = this.parts;
    const now = clock.now();
    let name: string;
    try {
      const opened = openWakeHandle(keys, handle);
      if (opened.expiryDay <= dayOf(now)) return "expired";
      if (opened.mentionOnly && !mentioned) return "not-mentioned";
      name = toHex(opened.tokenId);
    } catch (error) {
      if (error instanceof RejectionError) return "unreadable";
      throw error;
    }
    const token = this.tokens.get(name) ?? { waiting: false, lastMs: undefined };
    if (token.waiting) return "coalesced";
    if (this.waiting >= this.options.maxWaiting) return "dropped";
    this.tokens.set(name, token);
    token.waiting = true;
    this.waiting++;
    const at = wakeAt(this.options.pace, token.lastMs, now, random.fraction());
    this.later(at - now, () => this.push({ name, sinceMs: now, tried: 0 }));
    return "accepted";
  }

  private later(delayMs: number, run: () => void): void {
    const cancel = this.parts.clock.after(delayMs, () => {
      this.timers.delete(cancel);
      run();
    });
    this.timers.add(cancel);
  }

  private push(due: Due): void {
    this.due.push(due);
    this.pump();
  }

  private pump(): void {
    while (!this.closed && this.inFlight < this.options.maxInFlight) {
      const due = this.due.shift();
      if (due === undefined) return;
      this.inFlight++;
      this.wake(due)
        .catch(() => {
          this.parts.counts.add("pushes", "failed");
          this.parts.log.error("wake-failed");
        })
        .finally(() => {
          this.inFlight--;
          if (this.inFlight === 0) this.idle?.();
          this.pump();
        });
    }
  }

  private async wake(due: Due): Promise<void> {
    const { clock, counts, log, services, store } = this.parts;
    const tokenId = fromHex(due.name);
    const now = clock.now();
    // From here on another message needs another wake-up: the device may look before that message comes.
    const pending = this.leave(due.name, now);
    const token = await store.load(tokenId);
    if (token === undefined) return;
    const { address, kind } = token;
    const ageMs = now - due.sinceMs;
    const ttlSeconds = Math.ceil((this.options.retry.lifetimeMs - ageMs) / 1000);
    const outcome = (await services[kind]?.wake(address, ttlSeconds)) ?? NOT_CONFIGURED;
    counts.add("pushes", `${kind}-${outcome.kind}`);
    switch (outcome.kind) {
      case "sent": {
        const today = dayOf(now);
        if (token.lastUsedDay < today) await store.touch(tokenId, today);
        return;
      }
      case "gone":
        return store.deleteAddress(tokenId, address);
      case "refused":
        return log.warn("push-refused", { kind, reason: outcome.reason });
      case "later":
        this.tryAgain(due, pending, ageMs, outcome.retryAfterMs);
    }
  }

  /** The token waits no longer, and is remembered for a window. */
  private leave(name: string, nowMs: number): Pending {
    const pending = this.tokens.get(name)!;
    pending.waiting = false;
    pending.lastMs = nowMs;
    this.waiting--;
    this.later(this.options.pace.windowMs, () => {
      if (!pending.waiting && pending.lastMs === nowMs) this.tokens.delete(name);
    });
    return pending;
  }

  private tryAgain(due: Due, pending: Pending, ageMs: number, askedMs: number | undefined): void {
    // A later message asked for its own meanwhile, which serves for both.
    if (pending.waiting || this.closed) return;
    const tried = due.tried + 1;
    const delayMs = retryAfter(this.options.retry, { tried, ageMs, askedMs }, this.parts.random.fraction());
    if (delayMs === undefined) {
      this.parts.counts.add("pushes", "given-up");
      return;
    }
    pending.waiting = true;
    this.waiting++;
    this.tokens.set(due.name, pending);
    this.later(delayMs, () => this.push({ ...due, tried }));
  }
}

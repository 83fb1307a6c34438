import { RejectionError } from "@murmuration/base";
import type { Clock, Log, Metrics, Random } from "../ports/environment.ts";
import type { PushGateway, PushWake } from "../ports/push.ts";

/** Wake-ups that wait for the gateway; further ones are dropped and counted. */
const MAX_WAITING = 50_000;
/** What comes within it goes out together, mixed: so the gateway sees no single message, but what a moment brought. */
const GATHER_MS = 250;
const FIRST_RETRY_MS = 1_000;
const MAX_RETRY_MS = 60_000;
/** Tries of one request before its wake-ups are given up. */
const MAX_TRIES = 8;

interface Parts {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
}

/**
 * Wake-ups on their way to the gateway. Nobody waits for them: a submit is answered whether or not the gateway is there. What
 * becomes of each is counted as `push_wakes`: `sent`, `dropped` (no room), `given-up`, `refused`.
 */
export class PushQueue {
  private readonly parts: Parts;
  private readonly gateway: PushGateway;
  private waiting: PushWake[] = [];
  private sending: Promise<void> | undefined;
  private cancel: () => void = () => {};
  private stopped = false;

  constructor(parts: Parts, gateway: PushGateway) {
    this.parts = parts;
    this.gateway = gateway;
  }

  add(wake: PushWake): void {
    if (this.stopped) return;
    if (this.waiting.length >= MAX_WAITING) {
      this.parts.metrics.count("push_wakes", "dropped");
      return;
    }
    this.waiting.push(wake);
    this.sending ??= this.send();
  }

  /** Wakes nobody any more; what has not been sent is lost. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.cancel();
    await this.sending;
  }

  private async send(): Promise<void> {
    await this.pause(GATHER_MS);
    while (this.waiting.length > 0 && !this.stopped) {
      const gathered = shuffled(this.waiting, this.parts.random);
      this.waiting = [];
      const { maxWakes } = this.gateway;
      for (let at = 0; at < gathered.length && !this.stopped; at += maxWakes) {
        await this.request(gathered.slice(at, at + maxWakes));
      }
      await this.pause(GATHER_MS);
    }
    // In the same turn as the look above: what is added next starts anew.
    this.sending = undefined;
  }

  private async request(wakes: readonly PushWake[]): Promise<void> {
    const { log, metrics } = this.parts;
    for (let tried = 1; !this.stopped; tried++) {
      try {
        await this.gateway.wake(wakes);
        metrics.count("push_wakes", "sent", wakes.length);
        return;
      } catch (error) {
        if (error instanceof RejectionError) {
          metrics.count("push_wakes", "refused", wakes.length);
          log.error("push-refused", { wakes: wakes.length });
          return;
        }
        if (tried === 1) log.warn("push-unavailable", { wakes: wakes.length });
        if (tried >= MAX_TRIES) {
          metrics.count("push_wakes", "given-up", wakes.length);
          return;
        }
        await this.pause(Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** (tried - 1)));
      }
    }
  }

  /** Ends early when the queue is stopped. */
  private pause(ms: number): Promise<void> {
    if (this.stopped) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.parts.clock.after(ms, resolve);
      this.cancel = () => {
        cancel();
        resolve();
      };
    });
  }
}

/** Fisher and Yates. Its chance decides what the gateway may conclude from the order, and no more. */
function shuffled<T>(items: readonly T[], random: Random): T[] {
  const out = [...items];
  const chance = new Uint32Array(random.bytes(out.length * 4).buffer);
  for (let i = out.length - 1; i > 0; i--) {
    const j = chance[i]! % (i + 1);
    [out[i], out[j]] = [out[j]!, out[i]!];
  }
  return out;
}

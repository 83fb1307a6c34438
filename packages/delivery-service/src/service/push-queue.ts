import { RejectionError } from "@murmuration/base";
import type { Clock, Log, Metrics, Random } from "../ports/environment.ts";
import { NODE_SILENCE_MS, type Presence } from "../ports/presence.ts";
import type { PushGateway, PushWake } from "../ports/push.ts";

/** Wake-ups that wait for the gateway; further ones are dropped and counted. */
const MAX_WAITING = 50_000;
/** What comes within it goes out together, mixed: so the gateway sees no single message, but what a moment brought. */
const GATHER_MS = 250;
const FIRST_RETRY_MS = 1_000;
const MAX_RETRY_MS = 60_000;
/** When it is looked whether a node on which we relied is alive: by then a dead one is known to be. */
const LOOK_AGAIN_MS = NODE_SILENCE_MS + 10_000;
/** Tries of one request before its wake-ups are given up. */
const MAX_TRIES = 8;

/** Who is to be woken, by the name that {@link Presence} knows. */
interface Waiting {
  readonly wake: PushWake;
  readonly name: string;
}

interface Parts {
  readonly presence: Presence;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly metrics: Metrics;
}

/**
 * Wake-ups on their way to the gateway. Nobody waits for them: a submit is answered whether or not the gateway is there. What
 * becomes of each is counted as `push_wakes`: `sent`, `dropped` (no room), `given-up`, `refused`, `elsewhere`.
 *
 * Whoever is connected to another node is not woken: that node wakes it if it goes before it acknowledged what came. Where
 * that node turns out to be dead, this one does.
 */
export class PushQueue {
  private readonly parts: Parts;
  private readonly gateway: PushGateway;
  private waiting: Waiting[] = [];
  /** Left to other nodes, a while ago at most. */
  private readonly left = new Map<Waiting, string>();
  private cancelLook: (() => void) | undefined;
  private sending: Promise<void> | undefined;
  private cancel: () => void = () => {};
  private stopped = false;

  constructor(parts: Parts, gateway: PushGateway) {
    this.parts = parts;
    this.gateway = gateway;
  }

  /** Wakes who has this name, unless it is connected to another node. */
  add(wake: PushWake, name: string): void {
    if (this.stopped) return;
    if (this.waiting.length >= MAX_WAITING) {
      this.parts.metrics.count("push_wakes", "dropped");
      return;
    }
    this.waiting.push({ wake, name });
    this.sending ??= this.send();
  }

  /** Wakes nobody any more; what has not been sent is lost. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.cancel();
    this.cancelLook?.();
    await this.sending;
  }

  private async send(): Promise<void> {
    await this.pause(GATHER_MS);
    while (this.waiting.length > 0 && !this.stopped) {
      const waiting = this.waiting;
      this.waiting = [];
      const gathered = shuffled(await this.absent(waiting), this.parts.random);
      const { maxWakes } = this.gateway;
      for (let at = 0; at < gathered.length && !this.stopped; at += maxWakes) {
        await this.request(gathered.slice(at, at + maxWakes));
      }
      await this.pause(GATHER_MS);
    }
    // In the same turn as the look above: what is added next starts anew.
    this.sending = undefined;
  }

  /** Those who are connected to no other node. */
  private async absent(waiting: readonly Waiting[]): Promise<PushWake[]> {
    const nodes = await this.parts.presence.elsewhere(waiting.map(({ name }) => name));
    const absent: PushWake[] = [];
    for (const [index, one] of waiting.entries()) {
      const node = nodes[index];
      if (node === undefined || this.left.size >= MAX_WAITING) absent.push(one.wake);
      else this.leaveTo(node, one);
    }
    const elsewhere = waiting.length - absent.length;
    if (elsewhere > 0) this.parts.metrics.count("push_wakes", "elsewhere", elsewhere);
    return absent;
  }

  private leaveTo(node: string, one: Waiting): void {
    this.left.set(one, node);
    this.cancelLook ??= this.parts.clock.after(LOOK_AGAIN_MS, () => {
      this.cancelLook = undefined;
      this.lookAgain();
    });
  }

  /** What was left to a node that is alive is its business; what came since the timer began is looked at with the rest. */
  private lookAgain(): void {
    const left = [...this.left];
    this.left.clear();
    for (const [{ name, wake }, node] of left) if (!this.parts.presence.isAlive(node)) this.add(wake, name);
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

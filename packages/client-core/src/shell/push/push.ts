/**
 * Keeps this device registered at the push gateway of the application's choice, and its handles at the service. It compares
 * what is wanted with what is persisted of what the others have, and does what differs, one thing after another; so a
 * crash, a lost answer, and a gateway that comes back after a day all end in the same way. Nobody waits for it.
 */
import { RejectionError, UnavailableError } from "@murmuration/base";
import type { PushToken } from "@murmuration/wire/push";
import { backoffMs } from "../../core/backoff.ts";
import { spread } from "../../core/push.ts";
import { isTemporary, ServiceRefusal } from "../../core/refusal.ts";
import type { PushGateways } from "../../ports/push-gateway.ts";
import type { RegistrationRow } from "../../store/push.ts";
import type { Context } from "../context.ts";
import { Signal } from "../signal.ts";
import { type DuePlace, type LeafHandles, Places } from "./places.ts";
import { Registrar } from "./registrar.ts";

const LONGEST_PAUSE_MS = 3600_000;

interface Retry {
  readonly attempt: number;
  readonly atMs: number;
}

export class Push {
  /** Notified after each step. */
  readonly changed = new Signal();
  private readonly context: Context;
  private readonly isConnected: () => boolean;
  private readonly registrar: Registrar;
  private readonly places: Places;
  /** What failed and when it is tried again, by the gateway's registration and by place. */
  private readonly retries = new Map<string, Retry>();
  /** Before that no further handle is set: see {@link ClientSettings.pushSpreadMs}. */
  private nextHandleAtMs = 0;
  private pause = new AbortController();
  private readonly done: Promise<void>;

  constructor(context: Context, gateways: PushGateways, isConnected: () => boolean, leaves: LeafHandles) {
    this.context = context;
    this.isConnected = isConnected;
    this.registrar = new Registrar(context, gateways);
    this.places = new Places(context, leaves);
    this.done = this.run().catch(context.failed);
  }

  /** From now on this device is to be woken through this gateway; undefined: through none. Persisted when it returns. */
  want(wanted: { readonly gateway: string; readonly token: PushToken } | undefined): void {
    this.registrar.want(wanted);
    this.retries.clear();
    this.wake();
  }

  /** Something may have changed of what is wanted. */
  readonly wake = (): void => {
    this.pause.abort();
  };

  /** A new connection: what failed on the one before may work on this. */
  connected(): void {
    for (const key of this.retries.keys()) if (key.startsWith(PLACE)) this.retries.delete(key);
    this.wake();
  }

  /** What the service and the gateway do not have yet, or have still. O(communities). */
  waiting(): { readonly gateway: boolean; readonly handles: number } {
    const { push } = this.context;
    const current = push.current();
    const isBehind = current !== undefined && (current.given === undefined || !current.told);
    return {
      gateway: isBehind || push.over().length > 0,
      handles: this.places.due(current?.given).length,
    };
  }

  /** The account is gone: tells the gateway, if it answers. */
  async end(): Promise<void> {
    const { context } = this;
    this.registrar.want(undefined);
    for (const row of context.push.over()) await this.attempt(keyOf(row), () => this.registrar.end(row));
  }

  stop(): Promise<void> {
    return this.done;
  }

  private async run(): Promise<void> {
    const { closing, environment } = this.context;
    while (!closing.signal.aborted) {
      this.pause = new AbortController();
      const pauseMs = this.isConnected() ? await this.step() : LONGEST_PAUSE_MS;
      this.changed.notify();
      await environment.sleep(pauseMs, AbortSignal.any([this.pause.signal, closing.signal]));
    }
  }

  /** Brings the gateway up to date, and one place. Returns how long there is nothing else to do, ms. */
  private async step(): Promise<number> {
    const { closing, push } = this.context;
    const startedAtMs = this.context.now();
    for (const row of push.over()) await this.attempt(keyOf(row), () => this.registrar.end(row));
    const registration = push.current();
    if (registration !== undefined && this.registrar.isDue(registration))
      await this.attempt(keyOf(registration), () => this.tell(registration));
    if (closing.signal.aborted) return 0;
    const pauseMs = this.nextHandleAtMs - this.context.now();
    if (pauseMs > 0) return Math.min(pauseMs, this.context.settings.pushSpreadMs);
    const given = push.current()?.given;
    const place = this.choose(this.places.due(given));
    if (place === undefined) return this.untilRetry(startedAtMs);
    await this.attempt(PLACE + placeKey(place), () => this.places.settle(place, given));
    this.nextHandleAtMs = this.context.now() + this.randomPause();
    return Math.max(0, this.nextHandleAtMs - this.context.now());
  }

  private async tell(registration: RegistrationRow): Promise<void> {
    const { context } = this;
    try {
      await this.registrar.tell(registration);
    } catch (error) {
      if (error instanceof RejectionError)
        context.transaction(() => context.push.setRefusal(registration.id, error.code));
      throw error;
    }
  }

  /** The mailbox before all else, of the others any: their order would say when this device came to know them. */
  private choose(due: readonly DuePlace[]): DuePlace | undefined {
    const nowMs = this.context.now();
    const open = due.filter(
      (place) => place.open && (this.retries.get(PLACE + placeKey(place))?.atMs ?? 0) <= nowMs,
    );
    const mailbox = open.find(({ place }) => place.length === 1);
    const at = spread({ from: 0, to: open.length }, this.context.environment.random(4));
    return mailbox ?? open[Math.floor(at)];
  }

  /** Does one thing, unless it has failed and its time has not come yet. What others do not let us do is tried again later. */
  private async attempt(key: string, work: () => Promise<void>): Promise<void> {
    const { context } = this;
    const before = this.retries.get(key);
    if (before !== undefined && before.atMs > context.now()) return;
    try {
      await work();
      this.retries.delete(key);
    } catch (error) {
      if (!(error instanceof UnavailableError || error instanceof RejectionError)) throw error;
      const attempt = before === undefined ? 0 : before.attempt + 1;
      this.retries.set(key, { attempt, atMs: context.now() + this.retryPauseMs(error, attempt) });
    }
  }

  private retryPauseMs(error: Error, attempt: number): number {
    const { environment, settings } = this.context;
    if (!isTemporary(error)) return LONGEST_PAUSE_MS;
    const asked = error instanceof ServiceRefusal ? (error.retryAfterMs ?? 0) : 0;
    const jitter = backoffMs(attempt, settings.reconnectMinMs, LONGEST_PAUSE_MS, environment.random(4));
    return asked + jitter;
  }

  /** What was due when the step began and is still there cannot be done now: a place that is not open, for one. */
  private untilRetry(startedAtMs: number): number {
    const nowMs = this.context.now();
    const times = [...this.retries.values()].filter(({ atMs }) => atMs > startedAtMs);
    return Math.max(1, Math.min(LONGEST_PAUSE_MS, ...times.map(({ atMs }) => atMs - nowMs)));
  }

  private randomPause(): number {
    const { environment, settings } = this.context;
    return Math.floor(spread({ from: 0, to: settings.pushSpreadMs }, environment.random(4)));
  }
}

const PLACE = "place ";
const placeKey = ({ place }: DuePlace): string => Buffer.from(place).toString("hex");
const keyOf = ({ id }: RegistrationRow): string => `registration ${id}`;

import { type DeviceAddress, formatAddress } from "@murmuration/base";
import { Paced } from "../core/paced.ts";
import type { KeyPackageStock } from "../ports/key-packages.ts";
import type { KeyCounts } from "../ports/keys.ts";
import type { EphemeralEnvelope, MailboxListener, MailboxSignals } from "../ports/mailbox-signals.ts";
import type { ServiceContext } from "./context.ts";
import type { PushQueue } from "./push-queue.ts";
import { toRefusal } from "./refusals.ts";

/** A device that does not come is woken for its mailbox at most this often. */
const WINDOW_MS = 15_000;
const MAX_PACED = 200_000;
const TICK_MS = 1_000;
/** Handles that are read at a time. */
const BATCH = 500;
/** Mailboxes whose handles wait to be read. */
const MAX_WAITING = 50_000;

/**
 * {@link MailboxSignals} that also wake: whoever is not connected to this node when its mailbox changes is looked up, and
 * woken if it left a handle. Costs a submit one entry in a list.
 */
export class WakingMailboxSignals implements MailboxSignals {
  private readonly context: ServiceContext;
  private readonly signals: MailboxSignals;
  private readonly queue: PushQueue;
  private readonly connected = new Map<string, number>();
  private readonly paced = new Paced(WINDOW_MS, MAX_PACED);
  private waiting = new Map<string, DeviceAddress>();
  private reading = false;
  private cancel: (() => void) | undefined;

  constructor(context: ServiceContext, queue: PushQueue) {
    this.context = context;
    this.signals = context.signals;
    this.queue = queue;
  }

  publish(addresses: readonly DeviceAddress[]): void {
    this.signals.publish(addresses);
    for (const address of addresses) this.wake(address);
  }

  subscribe(address: DeviceAddress, listener: MailboxListener): () => void {
    const name = formatAddress(address);
    this.connected.set(name, (this.connected.get(name) ?? 0) + 1);
    this.paced.forget(name);
    const unsubscribe = this.signals.subscribe(address, listener);
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      const left = this.connected.get(name)! - 1;
      if (left === 0) this.connected.delete(name);
      else this.connected.set(name, left);
      unsubscribe();
    };
  }

  stockLow(address: DeviceAddress, left: KeyCounts): void {
    this.signals.stockLow(address, left);
  }

  keyPackagesLow(address: DeviceAddress, left: KeyPackageStock): void {
    this.signals.keyPackagesLow(address, left);
  }

  forward(address: DeviceAddress, envelope: EphemeralEnvelope): void {
    this.signals.forward(address, envelope);
  }

  stop(): void {
    this.cancel?.();
    this.waiting.clear();
  }

  private readonly wake = (address: DeviceAddress): void => {
    const name = formatAddress(address);
    if (this.connected.has(name) || this.waiting.has(name)) return;
    const { clock, metrics } = this.context;
    const entered = this.paced.enter(name, clock.now(), () => this.wake(address));
    this.tickLater();
    if (entered === false) return;
    if (entered === "full" || this.waiting.size >= MAX_WAITING) {
      metrics.count("push_wakes", "dropped");
      return;
    }
    this.waiting.set(name, address);
    if (!this.reading) void this.read();
  };

  private async read(): Promise<void> {
    this.reading = true;
    try {
      // Behind what is being done for the submit.
      await new Promise((resolve) => setImmediate(resolve));
      while (this.waiting.size > 0) {
        const batch = [...this.waiting.values()].slice(0, BATCH);
        for (const address of batch) this.waiting.delete(formatAddress(address));
        const handles = await this.context.stores.pushHandles.mailboxes(batch);
        for (const [index, handle] of handles.entries()) {
          if (handle !== undefined) this.queue.add({ handle, mentioned: true });
          // Its first handle may come before the window is over.
          else this.paced.forget(formatAddress(batch[index]!));
        }
      }
    } catch (error) {
      const { code } = toRefusal(error, this.context.log);
      this.context.metrics.count("push_wakes", "unread");
      this.context.log.warn("push-handles-unread", { code });
    } finally {
      this.reading = false;
    }
  }

  private tickLater(): void {
    this.cancel ??= this.context.clock.after(TICK_MS, () => {
      this.cancel = undefined;
      this.paced.tick(this.context.clock.now());
      if (!this.paced.isEmpty) this.tickLater();
    });
  }
}

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

interface Presence {
  connections: number;
  /** Something came while it was connected. */
  told: boolean;
}

/**
 * {@link MailboxSignals} that also wake: whoever is not connected to this node when its mailbox changes is looked up, and
 * woken if it left a handle. So is a device whose connection ends before it acknowledged what came meanwhile: it may have been
 * gone long before anybody noticed. Costs a submit one entry in a list.
 */
export class WakingMailboxSignals implements MailboxSignals {
  private readonly context: ServiceContext;
  private readonly signals: MailboxSignals;
  private readonly queue: PushQueue;
  private readonly connected = new Map<string, Presence>();
  private readonly paced = new Paced(WINDOW_MS, MAX_PACED);
  private waiting = new Map<string, DeviceAddress>();
  private reading = false;
  private stopped = false;
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
    const presence = this.connected.get(name) ?? { connections: 0, told: false };
    presence.connections++;
    this.connected.set(name, presence);
    this.paced.forget(name);
    this.context.presence.came(name);
    const unsubscribe = this.signals.subscribe(address, {
      ephemeral: (envelope) => listener.ephemeral(envelope),
      stockLow: (left) => listener.stockLow(left),
      keyPackagesLow: (left) => listener.keyPackagesLow(left),
      lookAgain() {
        // Another node may have taken it, and left it to this one to wake.
        presence.told = true;
        listener.lookAgain();
      },
    });
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      unsubscribe();
      presence.connections--;
      if (presence.connections > 0) return;
      this.connected.delete(name);
      this.context.presence.went(name);
      if (presence.told && !this.stopped) void this.wakeIfLeft(address);
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
    this.stopped = true;
    this.cancel?.();
    this.waiting.clear();
  }

  private readonly wake = (address: DeviceAddress): void => {
    if (this.stopped) return;
    const name = formatAddress(address);
    const presence = this.connected.get(name);
    if (presence !== undefined) presence.told = true;
    if (presence !== undefined || this.waiting.has(name)) return;
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
          if (handle !== undefined) this.queue.add({ handle, mentioned: true }, formatAddress(batch[index]!));
          // Its first handle may come before the window is over.
          else this.paced.forget(formatAddress(batch[index]!));
        }
      }
    } catch (error) {
      this.failed(error);
    } finally {
      this.reading = false;
    }
  }

  private async wakeIfLeft(address: DeviceAddress): Promise<void> {
    try {
      const depth = await this.context.stores.mailboxes.depth(address);
      if (depth !== undefined && depth.envelopes > 0) this.wake(address);
    } catch (error) {
      this.failed(error);
    }
  }

  private failed(error: unknown): void {
    const { code } = toRefusal(error, this.context.log);
    this.context.metrics.count("push_wakes", "unread");
    this.context.log.warn("push-handles-unread", { code });
  }

  private tickLater(): void {
    this.cancel ??= this.context.clock.after(TICK_MS, () => {
      this.cancel = undefined;
      this.paced.tick(this.context.clock.now());
      if (!this.paced.isEmpty) this.tickLater();
    });
  }
}

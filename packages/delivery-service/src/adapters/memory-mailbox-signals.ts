import { type DeviceAddress, formatAddress } from "@murmuration/base";
import type { KeyPackageStock } from "../ports/key-packages.ts";
import type { KeyCounts } from "../ports/keys.ts";
import type { EphemeralEnvelope, MailboxListener, MailboxSignals } from "../ports/mailbox-signals.ts";

/** {@link MailboxSignals} within one process. */
export class MemoryMailboxSignals implements MailboxSignals {
  private readonly listeners = new Map<string, Set<MailboxListener>>();

  publish(addresses: readonly DeviceAddress[]): void {
    for (const address of addresses) {
      for (const listener of this.listeners.get(formatAddress(address)) ?? []) listener.lookAgain();
    }
  }

  subscribe(address: DeviceAddress, listener: MailboxListener): () => void {
    const name = formatAddress(address);
    const listeners = this.listeners.get(name) ?? new Set();
    this.listeners.set(name, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.listeners.get(name) === listeners) this.listeners.delete(name);
    };
  }

  stockLow(address: DeviceAddress, left: KeyCounts): void {
    for (const listener of this.listeners.get(formatAddress(address)) ?? []) listener.stockLow(left);
  }

  keyPackagesLow(address: DeviceAddress, left: KeyPackageStock): void {
    for (const listener of this.listeners.get(formatAddress(address)) ?? []) listener.keyPackagesLow(left);
  }

  forward(address: DeviceAddress, envelope: EphemeralEnvelope): void {
    for (const listener of this.listeners.get(formatAddress(address)) ?? []) listener.ephemeral(envelope);
  }
}

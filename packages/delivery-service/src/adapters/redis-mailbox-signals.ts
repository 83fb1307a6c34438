import { type DeviceAddress, formatAddress } from "@murmuration/base";
import type { KeyPackageStock } from "../ports/key-packages.ts";
import type { KeyCounts } from "../ports/keys.ts";
import type { EphemeralEnvelope, MailboxListener, MailboxSignals } from "../ports/mailbox-signals.ts";
import { MemoryMailboxSignals } from "./memory-mailbox-signals.ts";
import type { RedisBus } from "./redis-bus.ts";

/** First byte of a message; what follows is its content. */
const LOOK_AGAIN = 0;
/** When it was accepted, eight bytes; then the ciphertext. */
const EPHEMERAL = 1;
/** The counts as JSON. */
const STOCK_LOW = 2;
const KEY_PACKAGES_LOW = 3;

/**
 * {@link MailboxSignals} between all nodes: this process's listeners hear at once, those of others through Redis, on a
 * channel of each device that is connected somewhere. One PUBLISH for each address.
 */
export class RedisMailboxSignals implements MailboxSignals {
  private readonly bus: RedisBus;
  private readonly here = new MemoryMailboxSignals();

  constructor(bus: RedisBus) {
    this.bus = bus;
  }

  publish(addresses: readonly DeviceAddress[]): void {
    this.here.publish(addresses);
    const look = Buffer.of(LOOK_AGAIN);
    for (const address of addresses) this.bus.publish(this.channel(address), look, look);
  }

  subscribe(address: DeviceAddress, listener: MailboxListener): () => void {
    const end = this.here.subscribe(address, listener);
    const leave = this.bus.subscribe(this.channel(address), {
      message: (bytes) => tell(listener, bytes),
      resumed: () => listener.lookAgain(),
    });
    return () => {
      end();
      leave();
    };
  }

  stockLow(address: DeviceAddress, left: KeyCounts): void {
    this.here.stockLow(address, left);
    this.send(address, STOCK_LOW, Buffer.from(JSON.stringify(left)));
  }

  keyPackagesLow(address: DeviceAddress, left: KeyPackageStock): void {
    this.here.keyPackagesLow(address, left);
    this.send(address, KEY_PACKAGES_LOW, Buffer.from(JSON.stringify(left)));
  }

  forward(address: DeviceAddress, envelope: EphemeralEnvelope): void {
    this.here.forward(address, envelope);
    const acceptedAt = Buffer.alloc(8);
    acceptedAt.writeDoubleBE(envelope.acceptedAtMs);
    this.send(address, EPHEMERAL, acceptedAt, envelope.ciphertext);
  }

  private channel(address: DeviceAddress): string {
    return this.bus.channel("mailbox", formatAddress(address));
  }

  private send(address: DeviceAddress, kind: number, ...content: readonly Uint8Array[]): void {
    this.bus.publish(this.channel(address), Buffer.concat([Buffer.of(kind), ...content]));
  }
}

/** What a newer node says and this one does not understand is passed over. */
function tell(listener: MailboxListener, bytes: Buffer): void {
  const [kind] = bytes;
  const content = bytes.subarray(1);
  if (kind === LOOK_AGAIN) listener.lookAgain();
  if (kind === STOCK_LOW) listener.stockLow(JSON.parse(String(content)) as KeyCounts);
  if (kind === KEY_PACKAGES_LOW) listener.keyPackagesLow(JSON.parse(String(content)) as KeyPackageStock);
  if (kind === EPHEMERAL) {
    const acceptedAtMs = content.readDoubleBE(0);
    listener.ephemeral({ acceptedAtMs, ciphertext: new Uint8Array(content.subarray(8)) });
  }
}

import type { Bytes, DeviceAddress } from "@murmuration/base";
import type { KeyPackageStock } from "./key-packages.ts";
import type { KeyCounts } from "./keys.ts";

/** An envelope that is handed to a connected device now, or to nobody. */
export interface EphemeralEnvelope {
  readonly ciphertext: Bytes;
  readonly acceptedAtMs: number;
}

/** What a connected device hears. */
export interface MailboxListener {
  lookAgain(): void;
  ephemeral(envelope: EphemeralEnvelope): void;
  /** The device's one-time prekeys run out. */
  stockLow(left: KeyCounts): void;
  /** The device's KeyPackages run out. */
  keyPackagesLow(left: KeyPackageStock): void;
}

/** "Look again": says that a mailbox may have changed and carries nothing. A lost signal costs time, not data. */
export interface MailboxSignals {
  publish(addresses: readonly DeviceAddress[]): void;
  /** The returned function ends the subscription. */
  subscribe(address: DeviceAddress, listener: MailboxListener): () => void;
  /** Tells the device's connection, if there is one, that its one-time prekeys run out. */
  stockLow(address: DeviceAddress, left: KeyCounts): void;
  /** The same of its KeyPackages. */
  keyPackagesLow(address: DeviceAddress, left: KeyPackageStock): void;
  /** Hands an envelope to the device's connection if there is one. Nothing is stored. */
  forward(address: DeviceAddress, envelope: EphemeralEnvelope): void;
}

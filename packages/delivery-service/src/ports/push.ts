import type { Bytes } from "@murmuration/base";

/** One device to wake. The handle is opaque: which device it is only the push gateway can read. */
export interface PushWake {
  readonly handle: Bytes;
  /** True where the message mentions the leaf, as far as its sender said so. */
  readonly mentioned: boolean;
}

/** The push gateway, a process of its own. It is told handles and nothing else. */
export interface PushGateway {
  /** Wake-ups that one request may carry. */
  readonly maxWakes: number;
  /**
   * Asks for wake-ups, without an answer about any of them. Rejects with UnavailableError `push/unavailable` when it should
   * be asked again, with RejectionError `push/refused` when that is no use.
   */
  wake(wakes: readonly PushWake[]): Promise<void>;
}

import type { PushKind } from "@murmuration/wire/push";

export type PushOutcome =
  | { readonly kind: "sent" }
  /** The push service knows the token no longer and never will again. */
  | { readonly kind: "gone" }
  /** It answers later: 429, 5xx, no connection. `retryAfterMs` where it said when. */
  | { readonly kind: "later"; readonly retryAfterMs?: number }
  /** It does not want this, and would not want it again. The reason is a short code for the log. */
  | { readonly kind: "refused"; readonly reason: string };

/** One push service. */
export interface PushService {
  /** A reason why the push service could not have given out this address; undefined where it could. */
  refuses(address: string): string | undefined;
  /** Wakes a device: no payload, worth `ttlSeconds`. Never rejects. */
  wake(address: string, ttlSeconds: number): Promise<PushOutcome>;
  close(): Promise<void>;
}

export type PushServices = Readonly<Partial<Record<PushKind, PushService>>>;

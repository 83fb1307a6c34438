import apn from "@parse/node-apn";
import type { PushOutcome, PushService } from "../ports/push-service.ts";
import { outcomeOfStatus } from "./push-statuses.ts";

export interface ApnsOptions {
  /** The provider's signing key, PEM. */
  readonly key: string;
  readonly keyId: string;
  readonly teamId: string;
  /** The application's bundle id. */
  readonly topic: string;
  readonly address: string;
  readonly port: number;
  /** Certificate that is trusted instead of the system's; for an endpoint of one's own. */
  readonly certificateAuthority?: string;
}

const TOKEN = /^(?:[0-9a-f]{2}){16,100}$/;
const TIMEOUT_MS = 10_000;
/** Reasons for which no later push will reach the token either. */
const GONE = new Set(["BadDeviceToken", "DeviceTokenNotForTopic", "ExpiredToken", "Unregistered"]);
/** The library signs anew after it. */
const AGAIN = "ExpiredProviderToken";

/** Apple's push service over HTTP/2 with provider tokens: background notifications, which carry nothing. */
export function createApns(options: ApnsOptions): PushService {
  const { address, certificateAuthority, key, keyId, port, teamId, topic } = options;
  const provider = new apn.Provider({
    token: { key, keyId, teamId },
    address,
    port,
    requestTimeout: TIMEOUT_MS,
    // Whether and when it is tried again is decided in one place for all push services.
    connectionRetryLimit: 0,
    ...(certificateAuthority !== undefined && { ca: [certificateAuthority] }),
  });
  return {
    refuses: (token) => (TOKEN.test(token) ? undefined : "token-malformed"),
    async wake(token, ttlSeconds): Promise<PushOutcome> {
      const notification = new apn.Notification();
      notification.topic = topic;
      notification.pushType = "background";
      notification.priority = 5;
      notification.contentAvailable = true;
      notification.expiry = Math.floor(Date.now() / 1000) + ttlSeconds;
      const { failed } = await provider.send(notification, token);
      const [failure] = failed;
      if (failure === undefined) return { kind: "sent" };
      const { error, response, status } = failure;
      const reason = response?.reason ?? "";
      if (GONE.has(reason)) return { kind: "gone" };
      // Without a status there was no answer.
      if (typeof status !== "number" || error?.message === AGAIN) return { kind: "later" };
      const outcome = outcomeOfStatus(status, [410], undefined);
      return outcome.kind === "refused" && /^\w{1,64}$/.test(reason) ? { kind: "refused", reason } : outcome;
    },
    async close() {
      await provider.shutdown();
    },
  };
}

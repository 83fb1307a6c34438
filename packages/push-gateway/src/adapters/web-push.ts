import { Agent } from "node:https";
import webPush from "web-push";
import type { PushOutcome, PushService } from "../ports/push-service.ts";
import { outcomeOfStatus, retryAfterMs } from "./push-statuses.ts";

export interface WebPushOptions {
  /** mailto: or https: address of the operator, for the push services. */
  readonly subject: string;
  /** VAPID keys, base64url. */
  readonly publicKey: string;
  readonly privateKey: string;
  /**
   * Host names of push services, with `:port` where it is not 443; one that begins with a dot stands for all below it.
   * Others are refused: a subscription is a URL that a client chose, and the gateway shall not be sent anywhere.
   */
  readonly hosts: readonly string[];
  /** Certificate that is trusted instead of the system's; for a push service of one's own. */
  readonly certificateAuthority?: string;
}

const MAX_ENDPOINT = 2048;
const TIMEOUT_MS = 10_000;
/** Wake-ups that wait at the push service replace each other: one is as good as ten (RFC 8030, 5.4). */
const TOPIC = "wake";

/** Web Push (RFC 8030) with VAPID (RFC 8292). */
export function createWebPush(options: WebPushOptions): PushService {
  const { certificateAuthority: ca, hosts, privateKey, publicKey, subject } = options;
  const vapidDetails = { subject, publicKey, privateKey };
  const agent = new Agent({ keepAlive: true, maxSockets: 64, ...(ca !== undefined && { ca }) });
  // Throws where a key is wrong: better at the start than with the first wake-up.
  webPush.getVapidHeaders("https://localhost", subject, publicKey, privateKey, "aes128gcm");
  return {
    refuses(address) {
      if (address.length > MAX_ENDPOINT || !URL.canParse(address)) return "endpoint-malformed";
      const { host, protocol, username, password, hash } = new URL(address);
      if (protocol !== "https:" || username !== "" || password !== "" || hash !== "")
        return "endpoint-malformed";
      const known = hosts.some((name) => (name.startsWith(".") ? host.endsWith(name) : host === name));
      return known ? undefined : "endpoint-unknown";
    },
    async wake(address, ttlSeconds): Promise<PushOutcome> {
      // Without a payload nothing is encrypted: the subscription's keys are not asked for, nor kept.
      const subscription = { endpoint: address, keys: { p256dh: "", auth: "" } };
      const how = { TTL: ttlSeconds, topic: TOPIC, timeout: TIMEOUT_MS, urgency: "high" } as const;
      try {
        await webPush.sendNotification(subscription, null, { vapidDetails, agent, ...how });
        return { kind: "sent" };
      } catch (error) {
        if (!(error instanceof webPush.WebPushError)) return { kind: "later" };
        return outcomeOfStatus(error.statusCode, [404, 410], retryAfterMs(error.headers["retry-after"]));
      }
    },
    async close() {
      agent.destroy();
    },
  };
}

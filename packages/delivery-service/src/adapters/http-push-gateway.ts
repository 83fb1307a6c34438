import { RejectionError, toBase64Url, UnavailableError } from "@murmuration/base";
import type { PushGateway } from "../ports/push.ts";

export interface HttpPushGatewayOptions {
  /** Origin of the gateway, without a slash at its end. */
  readonly url: string;
  /** What both processes know. */
  readonly secret: string;
}

const TIMEOUT_MS = 10_000;
const MAX_WAKES = 256;

/** {@link PushGateway} over HTTP (docs/push-gateway.md). */
export function createHttpPushGateway({ secret, url }: HttpPushGatewayOptions): PushGateway {
  const headers = { authorization: `Bearer ${secret}`, "content-type": "application/json" };
  return {
    maxWakes: MAX_WAKES,
    async wake(wakes) {
      const entries = wakes.map(({ handle, mentioned }) => ({ handle: toBase64Url(handle), mentioned }));
      const body = JSON.stringify({ wakes: entries });
      let status: number;
      try {
        const signal = AbortSignal.timeout(TIMEOUT_MS);
        const response = await fetch(`${url}/v1/wake`, { method: "POST", headers, body, signal });
        await response.arrayBuffer();
        status = response.status;
      } catch {
        throw new UnavailableError("push/unavailable");
      }
      if (status === 202) return;
      if (status === 408 || status === 429 || status >= 500) throw new UnavailableError("push/unavailable");
      throw new RejectionError("push/refused");
    },
  };
}

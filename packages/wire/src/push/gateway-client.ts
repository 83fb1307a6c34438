import { type Bytes, fromBase64Url, RejectionError, toBase64Url, UnavailableError } from "@murmuration/base";
import type { PushToken } from "./push-token.ts";

/** What a device keeps of its registration, beside its other secrets. */
export interface PushRegistration {
  /** 16 bytes; goes into handles and nowhere else. */
  readonly tokenId: Bytes;
  /** Changes or deletes the token. */
  readonly secret: string;
}

export interface PushGatewayInfo {
  /** To which handles are sealed, 32 bytes. */
  readonly handleKey: Bytes;
  /** What a browser is given when it subscribes. */
  readonly vapidPublicKey: string | undefined;
  readonly services: readonly string[];
}

const TIMEOUT_MS = 10_000;

/**
 * The gateway as a device sees it. A device talks to it on a connection of its own and never names its account. Rejects
 * with RejectionError (the gateway's code) or UnavailableError `push/gateway-unavailable`.
 */
export class PushGatewayClient {
  private readonly base: string;
  private readonly abort: AbortSignal | undefined;

  /**
   * @param base origin of the gateway, without a slash at its end.
   * @param abort ends whatever is asked, as if the gateway did not answer.
   */
  constructor(base: string, abort?: AbortSignal) {
    this.base = base;
    this.abort = abort;
  }

  async info(): Promise<PushGatewayInfo> {
    const { handleKey, services, vapidPublicKey } = (await this.call("GET", "/v1/info")) as {
      handleKey: string;
      services: readonly string[];
      vapidPublicKey?: string;
    };
    return { handleKey: fromBase64Url(handleKey), services, vapidPublicKey };
  }

  /** Registers a push token. After a lost answer the device registers again; the first row is deleted unused. */
  async register(token: PushToken): Promise<PushRegistration> {
    const answer = (await this.call("POST", "/v1/tokens", token)) as { tokenId: string; secret: string };
    return { tokenId: fromBase64Url(answer.tokenId), secret: answer.secret };
  }

  /** The push service gave the device another token: handles stay valid. */
  async replace(registration: PushRegistration, token: PushToken): Promise<void> {
    await this.call("PUT", pathOf(registration), token, registration.secret);
  }

  /** From here on no handle of the token wakes anybody. */
  async delete(registration: PushRegistration): Promise<void> {
    await this.call("DELETE", pathOf(registration), undefined, registration.secret);
  }

  private async call(method: string, path: string, body?: object, secret?: string): Promise<unknown> {
    let response: Response;
    let text: string;
    try {
      response = await fetch(this.base + path, {
        method,
        headers: {
          ...(body !== undefined && { "content-type": "application/json" }),
          ...(secret !== undefined && { authorization: `Bearer ${secret}` }),
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.any([AbortSignal.timeout(TIMEOUT_MS), ...(this.abort ? [this.abort] : [])]),
      });
      text = await response.text();
    } catch {
      throw new UnavailableError("push/gateway-unavailable");
    }
    if (response.status === 429 || response.status >= 500)
      throw new UnavailableError("push/gateway-unavailable");
    if (!response.ok) throw new RejectionError(codeOf(text));
    return text === "" ? undefined : JSON.parse(text);
  }
}

function pathOf({ tokenId }: PushRegistration): string {
  return `/v1/tokens/${toBase64Url(tokenId)}`;
}

function codeOf(text: string): string {
  try {
    const { code } = JSON.parse(text) as { code?: unknown };
    if (typeof code === "string" && /^[a-z-]{1,32}\/[a-z-]{1,64}$/.test(code)) return code;
  } catch {
    // Not the gateway's words.
  }
  return "push/refused";
}

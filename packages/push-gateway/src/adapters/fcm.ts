import { gaxios, JWT } from "google-auth-library";
import type { PushOutcome, PushService } from "../ports/push-service.ts";
import { outcomeOfStatus, retryAfterMs } from "./push-statuses.ts";

export interface FcmOptions {
  readonly projectId: string;
  /** Of the service account. */
  readonly clientEmail: string;
  /** PEM. */
  readonly privateKey: string;
  /** Origin of the HTTP v1 API. */
  readonly endpoint: string;
  /** URL that gives out access tokens. */
  readonly tokenEndpoint: string;
}

const SCOPE = "https://www.googleapis.com/auth/firebase.messaging";
const TOKEN = /^[\w:.-]{16,4096}$/;
const TIMEOUT_MS = 10_000;
/** Wake-ups that wait at the push service replace each other. */
const COLLAPSE_KEY = "wake";

/** Firebase Cloud Messaging, HTTP v1: data messages without data. */
export function createFcm(options: FcmOptions): PushService {
  const { clientEmail, endpoint, privateKey, projectId, tokenEndpoint } = options;
  const client = new JWT({
    email: clientEmail,
    key: privateKey,
    scopes: [SCOPE],
    additionalClaims: { aud: tokenEndpoint },
    transporter: redirecting(tokenEndpoint),
  });
  const url = `${endpoint}/v1/projects/${encodeURIComponent(projectId)}/messages:send`;
  return {
    refuses: (token) => (TOKEN.test(token) ? undefined : "token-malformed"),
    async wake(token, ttlSeconds): Promise<PushOutcome> {
      const android = { priority: "HIGH", ttl: `${ttlSeconds}s`, collapse_key: COLLAPSE_KEY };
      const data = { message: { token, android } };
      try {
        await client.request({ url, method: "POST", data, timeout: TIMEOUT_MS, retry: false });
        return { kind: "sent" };
      } catch (error) {
        const response = error instanceof gaxios.GaxiosError ? error.response : undefined;
        // No answer, or none with an access token that was refused: the next try asks for a fresh one.
        if (response === undefined || response.status === 401) return { kind: "later" };
        if (isUnregistered(response.data)) return { kind: "gone" };
        return outcomeOfStatus(response.status, [], retryAfterMs(response.headers.get("retry-after")));
      }
    },
    async close() {},
  };
}

/** The library has Google's token URL built in; what it asks there is asked at the one that was configured. */
function redirecting(tokenEndpoint: string): gaxios.Gaxios {
  const transporter = new gaxios.Gaxios({ timeout: TIMEOUT_MS });
  transporter.interceptors.request.add({
    resolved: async (request) => {
      if (request.url.href === GOOGLE_TOKEN_URL) request.url = new URL(tokenEndpoint);
      return request;
    },
  });
  return transporter;
}

const GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token";

/** A 404 alone may be a wrong project: only this error code says that the token is no more. */
function isUnregistered(body: unknown): boolean {
  const { error } = (body ?? {}) as { error?: { details?: readonly { errorCode?: string }[] } };
  return Array.isArray(error?.details) && error.details.some(({ errorCode }) => errorCode === "UNREGISTERED");
}

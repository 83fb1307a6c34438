import { type Bytes, UsageError, utf8 } from "@murmuration/base";
import type { Rate } from "./core/token-bucket.ts";
import type { RetryPace, WakePace } from "./core/wake-pace.ts";

/** Everything an operator decides. A push service that is not configured takes no tokens. */
export interface PushGatewayConfig {
  /** Directory of the store; created when absent. */
  readonly dataDirectory: string;
  readonly host: string;
  /** 0 picks a free port. */
  readonly port: number;
  /** What the delivery service shows when it asks for wake-ups. */
  readonly wakeSecret: Bytes;
  readonly logLevel: "debug" | "info" | "warn" | "error" | "silent";
  /** Proxies in front whose X-Forwarded-For is believed. */
  readonly trustedProxies: number;
  readonly maxTokens: number;
  readonly pace: WakePace;
  readonly retry: RetryPace;
  readonly registrations: Rate;
  readonly wakes: Rate;
  /** PEM file of certificates that are trusted instead of the system's, for Web Push and APNs. */
  readonly certificateFile: string | undefined;
  readonly webPush: WebPushConfig | undefined;
  readonly apns: ApnsConfig | undefined;
  readonly fcm: FcmConfig | undefined;
}

export interface WebPushConfig {
  readonly subject: string;
  readonly publicKey: string;
  readonly privateKey: string;
  readonly hosts: readonly string[];
}

export interface ApnsConfig {
  /** .p8 file of the provider's signing key. */
  readonly keyFile: string;
  readonly keyId: string;
  readonly teamId: string;
  readonly topic: string;
  readonly address: string;
  readonly port: number;
}

export interface FcmConfig {
  /** JSON file of the service account. */
  readonly credentialsFile: string;
  readonly endpoint: string;
  readonly tokenEndpoint: string;
}

const SECOND = 1000;
const DAY = 86_400 * SECOND;

/** Push services of the browsers: Chromium, Firefox, Safari, Edge. */
const WEB_PUSH_HOSTS = [
  "fcm.googleapis.com",
  "updates.push.services.mozilla.com",
  "web.push.apple.com",
  ".notify.windows.com",
];

/** A configuration with defaults for what `given` leaves out: what tests and the command line start from. */
export function createConfig(
  given: Pick<PushGatewayConfig, "dataDirectory" | "wakeSecret"> & Partial<PushGatewayConfig>,
): PushGatewayConfig {
  return {
    host: "127.0.0.1",
    port: 0,
    logLevel: "info",
    trustedProxies: 0,
    maxTokens: 1_000_000,
    pace: { windowMs: 10 * SECOND, spreadMs: 2 * SECOND },
    retry: { firstMs: 2 * SECOND, maxMs: 900 * SECOND, tries: 8, lifetimeMs: DAY },
    registrations: { burst: 60, perMinute: 30 },
    wakes: { burst: 60_000, perMinute: 120_000 },
    certificateFile: undefined,
    webPush: undefined,
    apns: undefined,
    fcm: undefined,
    ...given,
  };
}

/** Characters; shorter secrets can be guessed. */
const MIN_SECRET = 32;
const LOG_LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
const PREFIX = "MURMURATION_PUSH_";

/**
 * Reads the configuration of a gateway process. Throws UsageError `config/invalid` or `config/missing` that names the key,
 * and `config/no-push-service` where none is configured.
 */
export function readConfig(environment: NodeJS.ProcessEnv = process.env): PushGatewayConfig {
  const given = (key: string) => environment[PREFIX + key] || undefined;
  const required = (key: string) => given(key) ?? fail("config/missing", key);
  const integer = (key: string, fallback: number, max: number) => {
    const value = given(key) ?? String(fallback);
    return /^\d{1,9}$/.test(value) && Number(value) <= max ? Number(value) : fail("config/invalid", key);
  };
  const origin = (key: string, fallback: string) => {
    const value = given(key) ?? fallback;
    const isUrl = URL.canParse(value) && /^https?:$/.test(new URL(value).protocol);
    return isUrl ? value.replace(/\/$/, "") : fail("config/invalid", key);
  };
  const wakeSecret = required("WAKE_SECRET");
  if (wakeSecret.length < MIN_SECRET || !/^[\x21-\x7e]{1,512}$/.test(wakeSecret)) {
    fail("config/invalid", "WAKE_SECRET");
  }
  const logLevel = given("LOG_LEVEL") ?? "info";
  const webPush = given("WEB_PUSH_PRIVATE_KEY") && {
    subject: required("WEB_PUSH_SUBJECT"),
    publicKey: required("WEB_PUSH_PUBLIC_KEY"),
    privateKey: required("WEB_PUSH_PRIVATE_KEY"),
    hosts:
      given("WEB_PUSH_HOSTS")
        ?.split(",")
        .map((host) => host.trim()) ?? WEB_PUSH_HOSTS,
  };
  const apns = given("APNS_KEY_FILE") && {
    keyFile: required("APNS_KEY_FILE"),
    keyId: required("APNS_KEY_ID"),
    teamId: required("APNS_TEAM_ID"),
    topic: required("APNS_TOPIC"),
    address: given("APNS_ADDRESS") ?? "api.push.apple.com",
    port: integer("APNS_PORT", 443, 65_535),
  };
  const fcm = given("FCM_CREDENTIALS_FILE") && {
    credentialsFile: required("FCM_CREDENTIALS_FILE"),
    endpoint: origin("FCM_ENDPOINT", "https://fcm.googleapis.com"),
    tokenEndpoint: origin("FCM_TOKEN_ENDPOINT", "https://oauth2.googleapis.com/token"),
  };
  if (!webPush && !apns && !fcm) {
    const keys = ["WEB_PUSH_PRIVATE_KEY", "APNS_KEY_FILE", "FCM_CREDENTIALS_FILE"].map((key) => PREFIX + key);
    throw new UsageError("config/no-push-service", `set one of ${keys.join(", ")}`);
  }
  const defaults = createConfig({ dataDirectory: "", wakeSecret: utf8(wakeSecret) });
  return {
    ...defaults,
    dataDirectory: given("DATA") ?? "push-gateway-data",
    host: given("HOST") ?? defaults.host,
    port: integer("PORT", 8090, 65_535),
    logLevel: LOG_LEVELS.find((level) => level === logLevel) ?? fail("config/invalid", "LOG_LEVEL"),
    trustedProxies: integer("TRUSTED_PROXIES", 0, 16),
    maxTokens: integer("MAX_TOKENS", defaults.maxTokens, 999_999_999),
    pace: {
      windowMs: integer("WINDOW_SECONDS", 10, 3600) * SECOND,
      spreadMs: integer("SPREAD_MS", 2 * SECOND, 60 * SECOND),
    },
    certificateFile: given("CERTIFICATE_FILE"),
    webPush: webPush || undefined,
    apns: apns || undefined,
    fcm: fcm || undefined,
  };
}

function fail(code: "config/invalid" | "config/missing", key: string): never {
  throw new UsageError(code, PREFIX + key);
}

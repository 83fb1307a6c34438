import { readFileSync } from "node:fs";
import { UsageError } from "@murmuration/base";
import { generateKeyPair } from "@murmuration/wire/push";
import { createApns } from "./adapters/apns.ts";
import { createFcm } from "./adapters/fcm.ts";
import { listen } from "./adapters/http-server.ts";
import { SqliteTokenStore } from "./adapters/sqlite-tokens.ts";
import { createPinoLog, systemClock, systemRandom } from "./adapters/system-environment.ts";
import { createWebPush } from "./adapters/web-push.ts";
import type { PushGatewayConfig } from "./config.ts";
import { dayOf } from "./core/days.ts";
import type { Clock, Log } from "./ports/environment.ts";
import type { PushServices } from "./ports/push-service.ts";
import { Counts } from "./service/counts.ts";
import { MAX_BODY_BYTES, Requests } from "./service/requests.ts";
import { Wakes } from "./service/wakes.ts";

/** A push gateway that runs in this process. */
export interface RunningPushGateway {
  readonly port: number;
  /** Stops to take requests, waits for what is on its way to a push service, closes the store. */
  close(): Promise<void>;
  /** Deletes tokens that nobody used for half a year; runs by itself every day. */
  runRetention(): Promise<void>;
}

/** Parts that a test may replace. */
export interface Replacements {
  readonly clock?: Clock;
  readonly log?: Log;
}

/** Days for which a token is kept that is neither woken nor registered anew. */
const TOKEN_DAYS = 180;
const RETENTION_MS = 86_400_000;
/** Tokens that wait at a time: 200 bytes each. */
const MAX_WAITING = 200_000;
const MAX_IN_FLIGHT = 64;

/**
 * Starts the gateway. Rejects with UnavailableError `server/cannot-listen` when the port is taken, and UsageError
 * `config/unreadable-file` for a key file that cannot be read.
 */
export async function startPushGateway(
  config: PushGatewayConfig,
  replacements: Replacements = {},
): Promise<RunningPushGateway> {
  const clock = replacements.clock ?? systemClock;
  const log = replacements.log ?? createPinoLog(config.logLevel);
  const random = systemRandom;
  const services = openPushServices(config);
  const store = new SqliteTokenStore(config.dataDirectory);
  const counts = new Counts();
  const keys = await store.keys(generateKeyPair);
  const { pace, registrations, retry, webPush, wakeSecret } = config;
  const common = { store, services, clock, random, log, counts };
  const wakes = new Wakes(
    { ...common, keys },
    { pace, retry, maxWaiting: MAX_WAITING, maxInFlight: MAX_IN_FLIGHT },
  );
  const requests = new Requests(
    { ...common, wakes, handleKey: keys[0]!.publicKey },
    {
      wakeSecret,
      maxTokens: config.maxTokens,
      registrations,
      wakes: config.wakes,
      vapidPublicKey: webPush?.publicKey,
    },
  );
  const closeParts = async () => {
    await wakes.close();
    await Promise.all(Object.values(services).map((service) => service.close()));
    await store.close();
  };
  const runRetention = async () => {
    const removed = await store.expire(dayOf(clock.now()) - TOKEN_DAYS);
    log.info("retention", { removed });
  };
  let stopRetention = () => {};
  const scheduleRetention = () => {
    stopRetention = clock.after(RETENTION_MS, () => {
      runRetention()
        .catch(() => log.error("retention-failed"))
        .finally(scheduleRetention);
    });
  };
  try {
    const server = await listen({ ...config, maxBodyBytes: MAX_BODY_BYTES }, requests.answer);
    scheduleRetention();
    log.info("listening", { services: Object.keys(services).join(" ") });
    return {
      port: server.port,
      runRetention,
      async close() {
        stopRetention();
        await server.close();
        await closeParts();
      },
    };
  } catch (error) {
    await closeParts();
    throw error;
  }
}

function openPushServices({ apns, certificateFile, fcm, webPush }: PushGatewayConfig): PushServices {
  const trust = certificateFile === undefined ? {} : { certificateAuthority: readText(certificateFile) };
  return {
    ...(webPush && { "web-push": createWebPush({ ...webPush, ...trust }) }),
    ...(apns && { apns: createApns({ ...apns, key: readText(apns.keyFile), ...trust }) }),
    ...(fcm && { fcm: createFcm({ ...fcm, ...readServiceAccount(fcm.credentialsFile) }) }),
  };
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    throw new UsageError("config/unreadable-file", file);
  }
}

function readServiceAccount(file: string): { projectId: string; clientEmail: string; privateKey: string } {
  try {
    const { client_email, private_key, project_id } = JSON.parse(readText(file)) as Record<string, unknown>;
    if (
      typeof client_email === "string" &&
      typeof private_key === "string" &&
      typeof project_id === "string"
    ) {
      return { projectId: project_id, clientEmail: client_email, privateKey: private_key };
    }
  } catch (error) {
    if (error instanceof UsageError) throw error;
  }
  throw new UsageError("config/no-service-account", file);
}

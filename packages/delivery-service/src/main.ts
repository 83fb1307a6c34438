import { createHmac } from "node:crypto";
import type { Bytes } from "@murmuration/base";
import { createHttpPushGateway } from "./adapters/http-push-gateway.ts";
import { openSocketServer } from "./adapters/open-socket-server.ts";
import { createPinoLog } from "./adapters/pino-log.ts";
import { createPrometheusMetrics } from "./adapters/prometheus-metrics.ts";
import { inviteCodeRegistration, openRegistration } from "./adapters/registration-verifiers.ts";
import { systemClock, systemRandom } from "./adapters/system-environment.ts";
import { createWorkerValidator } from "./adapters/worker-validator.ts";
import type { DeliveryServiceConfig } from "./config.ts";
import { openEngines } from "./open-engines.ts";
import type { CertificateAuthorityKeys } from "./ports/certificates.ts";
import type { CommitValidator } from "./ports/commit-validator.ts";
import type { Clock, Log } from "./ports/environment.ts";
import type { PushGateway } from "./ports/push.ts";
import type { Stores } from "./service/context.ts";
import { DeliveryService, openAuthority } from "./service/delivery-service.ts";

/** A validation takes milliseconds, building a tree of 20,000 members a second or two. */
const VALIDATOR_TIMEOUT_MS = 30_000;

/** A delivery service that runs in this process. */
export interface RunningDeliveryService {
  readonly port: number;
  /** Stops gently within the configured time: clients are told, what was taken on is answered, connections close. Then call `close`. */
  drain(): Promise<void>;
  /** Cuts every connection and closes the store. */
  close(): Promise<void>;
  /** Runs the retention schedule now instead of within the hour. */
  runRetention(): Promise<void>;
}

/** Parts that a test may replace. */
export interface Replacements {
  readonly clock?: Clock;
  readonly log?: Log;
  /** Wraps the stores: to count what they are asked, to fail, to end the process. */
  readonly stores?: (stores: Stores) => Stores;
  readonly validator?: CommitValidator;
  readonly pushGateway?: PushGateway;
}

/**
 * Starts the delivery service on the engines that the configuration names. Rejects with what `openEngines` rejects with,
 * and with UnavailableError `server/cannot-listen` when the port is taken.
 */
export async function startDeliveryService(
  config: DeliveryServiceConfig,
  replacements: Replacements = {},
): Promise<RunningDeliveryService> {
  const clock = replacements.clock ?? systemClock;
  const log = replacements.log ?? createPinoLog(config.logLevel);
  const metrics = createPrometheusMetrics();
  const sockets = await openSocketServer(config.sockets, log);
  const engines = await openEngines(config, {
    clock,
    log,
    metrics,
    report: ({ writes, durationMs }) => {
      metrics.count("store_transactions");
      metrics.count("store_writes", "", writes);
      metrics.observe("store_transaction_ms", durationMs);
    },
  });
  const stores = replacements.stores?.(engines.stores) ?? engines.stores;
  const authority = await openAuthority(stores.certificates);
  const service = new DeliveryService(
    {
      stores,
      clock,
      random: systemRandom,
      log,
      metrics,
      signals: engines.signals,
      groupSignals: engines.groupSignals,
      groupMemory: engines.groupMemory,
      presence: engines.presence,
      spentChallenges: engines.spentChallenges,
      validator:
        replacements.validator ??
        createWorkerValidator({
          budgetBytes: config.validatorBytes,
          timeoutMs: VALIDATOR_TIMEOUT_MS,
          report: {
            followers: (count) => metrics.gauge("followers_loaded", count),
            ended: (cause) => {
              metrics.count("validator_ends", cause);
              log.error("validator-ended", { cause });
            },
          },
        }),
      rateLimits: engines.rateLimits,
      probes: engines.probes,
      registrationVerifier:
        config.registration.kind === "open"
          ? openRegistration
          : inviteCodeRegistration(config.registration.codes),
      pushGateway:
        replacements.pushGateway ?? (config.pushGateway && createHttpPushGateway(config.pushGateway)),
      limits: config.limits,
      storeId: await stores.mailboxes.storeId(),
      authority,
      challengeKey: challengeKeyOf(config, authority),
      markKey: keyFor("Murmuration store marks", authority),
      timing: config.timing,
    },
    sockets,
  );
  try {
    const port = await service.listen(config);
    return {
      port,
      drain: () => service.drain(),
      close: () => service.close(),
      runRetention: () => service.runRetention(),
    };
  } catch (error) {
    await service.close();
    throw error;
  }
}

/**
 * The key under which challenges are made. In a cluster all nodes have the same, out of a secret that they share; alone a
 * process draws it anew, since it does not remember which challenges were spent before it started.
 */
function challengeKeyOf(
  { engines }: Pick<DeliveryServiceConfig, "engines">,
  authority: CertificateAuthorityKeys,
): Bytes {
  if (engines.kind === "embedded") return systemRandom.bytes(32);
  return keyFor("Murmuration challenges", authority);
}

/** 32 bytes for one purpose, out of a secret that lies in the store. */
function keyFor(purpose: string, { signerPrivateKey }: CertificateAuthorityKeys): Bytes {
  return new Uint8Array(createHmac("sha256", signerPrivateKey).update(purpose).digest());
}

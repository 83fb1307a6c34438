import { randomUUID } from "node:crypto";
import { openClusterStores } from "./adapters/cluster-stores.ts";
import { MemoryGroupMemory } from "./adapters/memory-group-memory.ts";
import { MemoryGroupSignals } from "./adapters/memory-group-signals.ts";
import { MemoryMailboxSignals } from "./adapters/memory-mailbox-signals.ts";
import { MemoryPresence } from "./adapters/memory-presence.ts";
import { MemoryRateLimits } from "./adapters/memory-rate-limits.ts";
import { MemorySpentChallenges } from "./adapters/memory-spent-challenges.ts";
import { PostgresDatabase } from "./adapters/postgres-database.ts";
import { RedisBus } from "./adapters/redis-bus.ts";
import { RedisClient } from "./adapters/redis-client.ts";
import { RedisGroupMemory } from "./adapters/redis-group-memory.ts";
import { RedisGroupSignals } from "./adapters/redis-group-signals.ts";
import { RedisMailboxSignals } from "./adapters/redis-mailbox-signals.ts";
import { RedisPresence } from "./adapters/redis-presence.ts";
import { RedisRateLimits, type WithoutRedis } from "./adapters/redis-rate-limits.ts";
import { RedisSpentChallenges } from "./adapters/redis-spent-challenges.ts";
import type { TransactionReport } from "./adapters/sqlite-database.ts";
import { openSqliteStores } from "./adapters/sqlite-stores.ts";
import { systemRandom } from "./adapters/system-environment.ts";
import type { DeliveryServiceConfig, EngineConfig } from "./config.ts";
import type { EngineProbe } from "./ports/engine-probe.ts";
import type { Clock, Log, Metrics } from "./ports/environment.ts";
import type { GroupMemory } from "./ports/group-memory.ts";
import type { GroupSignals } from "./ports/group-signals.ts";
import type { MailboxSignals } from "./ports/mailbox-signals.ts";
import type { Presence } from "./ports/presence.ts";
import type { LimitName, RateLimits } from "./ports/rate-limits.ts";
import type { SpentChallenges } from "./ports/spent-challenges.ts";
import type { Stores } from "./service/context.ts";
import { MissedSignals } from "./service/missed-signals.ts";

/**
 * What limiters do while Redis is away: each node goes on with its share of the limit, but for those that keep strangers from
 * using up what is not replaced by itself. Nothing is registered then, and no one-time key is handed out.
 */
export const WITHOUT_REDIS: Readonly<Record<LimitName, Exclude<WithoutRedis, "open">>> = {
  registrations: "closed",
  "one-time": "closed",
  "key-package-pair": "closed",
  submits: "share",
  requests: "share",
  "invited-envelopes": "share",
  "request-envelopes": "share",
  uploads: "share",
  "bundles-of": "share",
  "bundles-by": "share",
  "key-package-uploads": "share",
  "key-package-claims": "share",
  "blob-bytes": "share",
  trees: "share",
  "tree-bytes": "share",
  groups: "share",
  "group-growth": "share",
  "group-entries": "share",
  "group-accesses": "share",
  "group-bytes": "share",
  "group-messages": "share",
  "messages-of-group": "share",
  "group-commits": "share",
  "commits-of-group": "share",
  "group-refeeds": "share",
  "group-link": "share",
  "leaf-handles": "share",
  "push-handles": "share",
};

/** What a node keeps and shares. Closing the stores closes the engines. */
export interface Engines {
  readonly stores: Stores;
  readonly signals: MailboxSignals;
  readonly groupSignals: GroupSignals;
  readonly groupMemory: GroupMemory;
  readonly presence: Presence;
  readonly spentChallenges: SpentChallenges;
  readonly rateLimits: RateLimits;
  readonly probes: readonly EngineProbe[];
}

/** What the engines tell and need. */
export interface EngineSurroundings {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly report: (transaction: TransactionReport) => void;
}

/**
 * Opens the engines that the configuration names, with tables that are up to date. Rejects with UnavailableError
 * `store/postgres-unreachable` or `store/redis-unreachable`, and UsageError `store/newer-schema`; nothing is left open.
 */
export async function openEngines(
  { engines, dataDirectory, timing }: Pick<DeliveryServiceConfig, "engines" | "dataDirectory" | "timing">,
  surroundings: EngineSurroundings,
): Promise<Engines> {
  return engines.kind === "embedded"
    ? openEmbedded(dataDirectory, surroundings)
    : openCluster(engines, timing.missedSignalsMs, surroundings);
}

function openEmbedded(dataDirectory: string, { clock, report }: EngineSurroundings): Engines {
  const stores = openSqliteStores(dataDirectory, report);
  return {
    stores,
    signals: new MemoryMailboxSignals(),
    groupSignals: new MemoryGroupSignals(),
    groupMemory: new MemoryGroupMemory(clock),
    presence: new MemoryPresence(),
    spentChallenges: new MemorySpentChallenges(clock),
    rateLimits: new MemoryRateLimits(clock),
    probes: [{ name: "sqlite", ask: () => stores.mailboxes.storeId() }],
  };
}

async function openCluster(
  { postgres, redis, nodes }: Extract<EngineConfig, { kind: "cluster" }>,
  missedSignalsMs: number,
  { clock, log, metrics, report }: EngineSurroundings,
): Promise<Engines> {
  const database = await PostgresDatabase.open({ ...postgres, report });
  let client: RedisClient;
  try {
    client = await RedisClient.open(redis);
  } catch (error) {
    await database.close();
    throw error;
  }
  const bus = new RedisBus(client);
  const node = randomUUID();
  const groupMemory = new RedisGroupMemory(client, clock, log, node);
  const presence = new RedisPresence(client, node);
  const stores = openClusterStores(database, client);
  const missed = new MissedSignals({ stores, clock, random: systemRandom, log, everyMs: missedSignalsMs });
  return {
    stores: {
      ...stores,
      close: async () => {
        missed.stop();
        groupMemory.close();
        await presence.close();
        await stores.close();
      },
    },
    signals: missed.ofMailboxes(new RedisMailboxSignals(bus)),
    groupSignals: missed.ofGroups(new RedisGroupSignals(bus)),
    groupMemory,
    presence,
    spentChallenges: new RedisSpentChallenges(client, clock),
    rateLimits: new RedisRateLimits(client, {
      clock,
      nodes,
      withoutRedis: WITHOUT_REDIS,
      report: (choice) => metrics.count("limits_without_redis", choice),
    }),
    probes: [
      { name: "postgresql", ask: () => database.read((statements) => statements.get("SELECT 1 AS one")) },
      { name: "redis", ask: () => client.call("PING") },
    ],
  };
}

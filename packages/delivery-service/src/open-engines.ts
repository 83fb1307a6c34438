import { openClusterStores } from "./adapters/cluster-stores.ts";
import { MemoryGroupSignals } from "./adapters/memory-group-signals.ts";
import { MemoryMailboxSignals } from "./adapters/memory-mailbox-signals.ts";
import { MemoryRateLimits } from "./adapters/memory-rate-limits.ts";
import { PostgresDatabase } from "./adapters/postgres-database.ts";
import { RedisClient } from "./adapters/redis-client.ts";
import type { TransactionReport } from "./adapters/sqlite-database.ts";
import { openSqliteStores } from "./adapters/sqlite-stores.ts";
import type { DeliveryServiceConfig, EngineConfig } from "./config.ts";
import type { EngineProbe } from "./ports/engine-probe.ts";
import type { Clock } from "./ports/environment.ts";
import type { GroupSignals } from "./ports/group-signals.ts";
import type { MailboxSignals } from "./ports/mailbox-signals.ts";
import type { RateLimits } from "./ports/rate-limits.ts";
import type { Stores } from "./service/context.ts";

/** What a node keeps and shares. Closing the stores closes the engines. */
export interface Engines {
  readonly stores: Stores;
  readonly signals: MailboxSignals;
  readonly groupSignals: GroupSignals;
  readonly rateLimits: RateLimits;
  readonly probes: readonly EngineProbe[];
}

/** What the engines tell and need. */
export interface EngineSurroundings {
  readonly clock: Clock;
  readonly report: (transaction: TransactionReport) => void;
}

/**
 * Opens the engines that the configuration names, with tables that are up to date. Rejects with UnavailableError
 * `store/postgres-unreachable` or `store/redis-unreachable`, and UsageError `store/newer-schema`; nothing is left open.
 */
export async function openEngines(
  { engines, dataDirectory }: Pick<DeliveryServiceConfig, "engines" | "dataDirectory">,
  surroundings: EngineSurroundings,
): Promise<Engines> {
  return engines.kind === "embedded"
    ? openEmbedded(dataDirectory, surroundings)
    : openCluster(engines, surroundings);
}

function openEmbedded(dataDirectory: string, { clock, report }: EngineSurroundings): Engines {
  const stores = openSqliteStores(dataDirectory, report);
  return {
    stores,
    signals: new MemoryMailboxSignals(),
    groupSignals: new MemoryGroupSignals(),
    rateLimits: new MemoryRateLimits(clock),
    probes: [{ name: "sqlite", ask: () => stores.mailboxes.storeId() }],
  };
}

async function openCluster(
  { postgres, redis }: Extract<EngineConfig, { kind: "cluster" }>,
  { clock, report }: EngineSurroundings,
): Promise<Engines> {
  const database = await PostgresDatabase.open({ ...postgres, report });
  let client: RedisClient;
  try {
    client = await RedisClient.open(redis);
  } catch (error) {
    await database.close();
    throw error;
  }
  return {
    stores: openClusterStores(database, client),
    signals: new MemoryMailboxSignals(),
    groupSignals: new MemoryGroupSignals(),
    rateLimits: new MemoryRateLimits(clock),
    probes: [
      { name: "postgresql", ask: () => database.read((statements) => statements.get("SELECT 1 AS one")) },
      { name: "redis", ask: () => client.call("PING") },
    ],
  };
}

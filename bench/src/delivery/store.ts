/** Where the service under test keeps what it is given. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DeliveryServiceConfig } from "@murmuration/delivery-service";
import {
  clusterUrls,
  type EngineSettings,
  engineSettings,
  scratch,
  whyNoCluster,
} from "@murmuration/delivery-service/local-engines";
import { usage } from "../arguments.ts";

export const stores = ["embedded", "cluster"] as const;
export type Store = (typeof stores)[number];

/** As it is reported. */
export interface StoreReport {
  readonly name: Store;
  /** What has happened to a message when its sender is told that it was accepted. */
  readonly durability: string;
  /** As the engines told it before anything was measured; of a cluster. */
  readonly engines?: EngineSettings;
}

interface EmptyStore {
  readonly directory: string;
  readonly engines: DeliveryServiceConfig["engines"];
  /** Deletes all of it, and nothing else. The service has ended. */
  drop(): Promise<void>;
}

/**
 * Asks the engines how durable they are. Throws UsageError `bench/arguments` where they do not answer; rejects with UsageError
 * `redis/…` where Redis may forget what it has answered: no figure of that is one of this service.
 */
export async function describeStore(name: Store): Promise<StoreReport> {
  if (name === "embedded") {
    return { name, durability: "SQLite in WAL mode with synchronous=FULL: on disk before it is accepted" };
  }
  const urls = clusterUrls();
  const why = await whyNoCluster(urls);
  if (why !== undefined) {
    throw usage(`--store cluster needs PostgreSQL and Redis, and ${why}: npm run services -- --install`);
  }
  const engines = await engineSettings(urls);
  const { postgres, redis } = engines;
  const durability =
    `PostgreSQL ${postgres.server_version} with synchronous_commit=${postgres.synchronous_commit} and ` +
    `fsync=${postgres.fsync}; Redis ${redis.redis_version} with appendonly=${redis.appendonly} and ` +
    `appendfsync=${redis.appendfsync}`;
  return { name, durability, engines };
}

/** One for each measurement: none pays for what another one has stored. */
export function emptyStore(name: Store): EmptyStore {
  const directory = mkdtempSync(join(tmpdir(), "murmuration-bench-"));
  const removeDirectory = () => rmSync(directory, { recursive: true, force: true });
  if (name === "embedded") {
    return { directory, engines: { kind: "embedded" }, drop: async () => removeDirectory() };
  }
  const { drop, engines } = scratch(clusterUrls(), "bench");
  return {
    directory,
    engines,
    drop: async () => {
      removeDirectory();
      await drop();
    },
  };
}

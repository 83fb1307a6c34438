import { inject } from "vitest";
import { openClusterStores } from "../../src/adapters/cluster-stores.ts";
import { openMemoryStores } from "../../src/adapters/memory-stores.ts";
import { openSqliteStores } from "../../src/adapters/sqlite-stores.ts";
import type { Stores } from "../../src/service/context.ts";
import { openCluster } from "./cluster.ts";
import { temporaryDirectory } from "./service.ts";

export interface OpenedEngine {
  readonly stores: Stores;
  dispose(): Promise<void>;
}

/** One engine under the contract suites. */
export interface Engine {
  readonly name: string;
  open(): Promise<OpenedEngine>;
}

/**
 * Every engine that the contract suites run on. A new one is added here and nowhere else. The cluster is left out where
 * its engines do not answer; the run says so at its beginning, and fails for it where CI is set.
 */
export const engines: readonly Engine[] = [
  {
    name: "memory",
    open: async () => ({ stores: openMemoryStores(), dispose: async () => {} }),
  },
  {
    name: "SQLite",
    open: async () => {
      const directory = temporaryDirectory();
      const stores = openSqliteStores(directory.path);
      return {
        stores,
        dispose: async () => {
          await stores.close();
          directory.remove();
        },
      };
    },
  },
  ...(inject("cluster") === undefined
    ? []
    : [
        {
          name: "PostgreSQL and Redis",
          open: async () => {
            const cluster = await openCluster();
            const stores = openClusterStores(cluster.database, cluster.redis);
            return { stores, dispose: () => cluster.dispose() };
          },
        },
      ]),
];

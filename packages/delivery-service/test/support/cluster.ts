import { inject } from "vitest";
import { PostgresDatabase } from "../../src/adapters/postgres-database.ts";
import { RedisClient } from "../../src/adapters/redis-client.ts";
import type { EngineConfig } from "../../src/config.ts";
import { scratch } from "../../src/local-engines/index.ts";
import { startTestService, type TestService, type TestServiceOptions } from "./service.ts";

/** A schema and a key prefix of a test's own. */
export interface OpenedCluster {
  readonly database: PostgresDatabase;
  readonly redis: RedisClient;
  readonly schema: string;
  readonly prefix: string;
  /** Opens another connection to the same tables and keys, as another node does. */
  another(writers?: number): Promise<{ readonly database: PostgresDatabase; readonly redis: RedisClient }>;
  /** Closes everything and deletes the test's tables and keys, and nothing else. */
  dispose(): Promise<void>;
}

/** Opens both engines. Throws where they do not answer: ask `inject("cluster")` first. */
export async function openCluster(): Promise<OpenedCluster> {
  const urls = inject("cluster");
  if (urls === undefined) throw new Error("the cluster's engines do not answer: npm run services");
  const { drop, engines } = scratch(urls, "test");
  const { prefix } = engines.redis;
  const { schema } = engines.postgres;
  const opened: { readonly database: PostgresDatabase; readonly redis: RedisClient }[] = [];
  const another = async (writers = 4) => {
    const database = await PostgresDatabase.open({
      url: urls.postgres,
      schema,
      writers,
      readers: 2,
    });
    const redis = await RedisClient.open({ url: urls.redis, prefix });
    opened.push({ database, redis });
    return { database, redis };
  };
  return {
    ...(await another()),
    schema,
    prefix,
    another,
    dispose: async () => {
      await Promise.all(opened.flatMap(({ database, redis }) => [database.close(), redis.close()]));
      await drop();
    },
  };
}

export interface TestNodes {
  readonly nodes: readonly TestService[];
  stop(): Promise<void>;
}

/** Nodes of one service, in this process, on tables and keys of their own. */
export async function startTestNodes(count: number, options: TestServiceOptions = {}): Promise<TestNodes> {
  const cluster = await openCluster();
  const urls = inject("cluster")!;
  const engines: EngineConfig = {
    kind: "cluster",
    postgres: { url: urls.postgres, schema: cluster.schema, writers: 4, readers: 2 },
    redis: { url: urls.redis, prefix: cluster.prefix },
    nodes: count,
  };
  const nodes: TestService[] = [];
  const stop = async () => {
    await Promise.all(nodes.map((node) => node.stop()));
    await cluster.dispose();
  };
  try {
    for (let i = 0; i < count; i++) {
      nodes.push(await startTestService({ ...options, config: { ...options.config, engines } }));
    }
  } catch (error) {
    await stop();
    throw error;
  }
  return { nodes, stop };
}

import type { Stores } from "../service/context.ts";
import { MemoryAccountStore } from "./memory-accounts.ts";
import { MemoryKeyPackageStore } from "./memory-key-packages.ts";
import { MemoryKeyStore } from "./memory-keys.ts";
import { MemoryMlsGroupStore } from "./memory-mls-groups.ts";
import {
  MemoryBlobStore,
  MemoryCertificateStore,
  MemoryGroupRecordStore,
  MemoryRetentionLog,
} from "./memory-small-stores.ts";
import type { PostgresDatabase } from "./postgres-database.ts";
import type { RedisClient } from "./redis-client.ts";
import { RedisMailboxStore } from "./redis-mailboxes.ts";

/** Every store of a cluster: PostgreSQL, and Redis for mailboxes. Closing them closes both. */
export function openClusterStores(database: PostgresDatabase, redis: RedisClient): Stores {
  return {
    accounts: new MemoryAccountStore(),
    keys: new MemoryKeyStore(),
    keyPackages: new MemoryKeyPackageStore(),
    mailboxes: new RedisMailboxStore(redis),
    mlsGroups: new MemoryMlsGroupStore(),
    groupRecords: new MemoryGroupRecordStore(),
    blobs: new MemoryBlobStore(),
    certificates: new MemoryCertificateStore(),
    retentionLog: new MemoryRetentionLog(),
    // PostgreSQL's autovacuum and Redis's rewriting of its file do it.
    compact: async () => {},
    close: async () => {
      await Promise.all([database.close(), redis.close()]);
    },
  };
}

import type { Stores } from "../service/context.ts";
import { PostgresAccountStore } from "./postgres-accounts.ts";
import { PostgresBlobStore } from "./postgres-blobs.ts";
import { PostgresCertificateStore } from "./postgres-certificates.ts";
import type { PostgresDatabase } from "./postgres-database.ts";
import { PostgresGroupRecordStore } from "./postgres-group-records.ts";
import { PostgresKeyPackageStore } from "./postgres-key-packages.ts";
import { PostgresKeyStore } from "./postgres-keys.ts";
import { PostgresLostCommitStore } from "./postgres-lost-commits.ts";
import { PostgresMlsGroupStore } from "./postgres-mls-groups.ts";
import { PostgresPushHandleStore } from "./postgres-push-handles.ts";
import { PostgresRetentionLog } from "./postgres-retention-log.ts";
import type { RedisClient } from "./redis-client.ts";
import { RedisMailboxStore } from "./redis-mailboxes.ts";

/** Every store of a cluster: PostgreSQL, and Redis for mailboxes. Closing them closes both. */
export function openClusterStores(database: PostgresDatabase, redis: RedisClient): Stores {
  const mailboxes = new RedisMailboxStore(redis);
  return {
    accounts: new PostgresAccountStore(database),
    keys: new PostgresKeyStore(database),
    keyPackages: new PostgresKeyPackageStore(database),
    mailboxes,
    mlsGroups: new PostgresMlsGroupStore(database),
    groupRecords: new PostgresGroupRecordStore(database),
    blobs: new PostgresBlobStore(database),
    certificates: new PostgresCertificateStore(database),
    pushHandles: new PostgresPushHandleStore(database),
    retentionLog: new PostgresRetentionLog(database),
    lostCommits: new PostgresLostCommitStore(database),
    // PostgreSQL's autovacuum does it by itself.
    compact: () => mailboxes.compact(),
    close: async () => {
      await Promise.all([database.close(), redis.close()]);
    },
  };
}

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Stores } from "../service/context.ts";
import { SqliteAccountStore } from "./sqlite-accounts.ts";
import { SqliteBlobStore } from "./sqlite-blobs.ts";
import { SqliteCertificateStore } from "./sqlite-certificates.ts";
import { SqliteDatabase, type TransactionReport } from "./sqlite-database.ts";
import { SqliteGroupRecordStore } from "./sqlite-group-records.ts";
import { SqliteKeyPackageStore } from "./sqlite-key-packages.ts";
import { SqliteKeyStore } from "./sqlite-keys.ts";
import { SqliteLostCommitStore } from "./sqlite-lost-commits.ts";
import { SqliteMailboxStore } from "./sqlite-mailboxes.ts";
import { SqliteMlsGroupStore } from "./sqlite-mls-groups.ts";
import { SqlitePushHandleStore } from "./sqlite-push-handles.ts";
import { SqliteRetentionLog } from "./sqlite-retention-log.ts";

/** Opens the embedded store in a directory that it creates if need be; only the owner may read its files. */
export function openSqliteStores(
  dataDirectory: string,
  report?: (transaction: TransactionReport) => void,
): Stores {
  mkdirSync(dataDirectory, { recursive: true, mode: 0o700 });
  const database = new SqliteDatabase(join(dataDirectory, "delivery-service.sqlite"), report);
  return {
    accounts: new SqliteAccountStore(database),
    keys: new SqliteKeyStore(database),
    keyPackages: new SqliteKeyPackageStore(database),
    mailboxes: new SqliteMailboxStore(database),
    mlsGroups: new SqliteMlsGroupStore(database),
    groupRecords: new SqliteGroupRecordStore(database),
    blobs: new SqliteBlobStore(database),
    certificates: new SqliteCertificateStore(database),
    pushHandles: new SqlitePushHandleStore(database),
    retentionLog: new SqliteRetentionLog(database),
    lostCommits: new SqliteLostCommitStore(database),
    compact: () => database.truncateLog(),
    close: async () => database.close(),
  };
}

import type { Stores } from "../service/context.ts";
import { MemoryAccountStore } from "./memory-accounts.ts";
import { MemoryKeyPackageStore } from "./memory-key-packages.ts";
import { MemoryKeyStore } from "./memory-keys.ts";
import { MemoryLostCommitStore } from "./memory-lost-commits.ts";
import { MemoryMailboxStore } from "./memory-mailboxes.ts";
import { MemoryMlsGroupStore } from "./memory-mls-groups.ts";
import { MemoryPushHandleStore } from "./memory-push-handles.ts";
import {
  MemoryBlobStore,
  MemoryCertificateStore,
  MemoryGroupRecordStore,
  MemoryRetentionLog,
} from "./memory-small-stores.ts";

/** Every store in memory: the model that the contract suites hold the durable engines against. */
export function openMemoryStores(): Stores {
  return {
    accounts: new MemoryAccountStore(),
    keys: new MemoryKeyStore(),
    keyPackages: new MemoryKeyPackageStore(),
    mailboxes: new MemoryMailboxStore(),
    mlsGroups: new MemoryMlsGroupStore(),
    groupRecords: new MemoryGroupRecordStore(),
    blobs: new MemoryBlobStore(),
    certificates: new MemoryCertificateStore(),
    pushHandles: new MemoryPushHandleStore(),
    retentionLog: new MemoryRetentionLog(),
    lostCommits: new MemoryLostCommitStore(),
    compact: async () => {},
    close: async () => {},
  };
}

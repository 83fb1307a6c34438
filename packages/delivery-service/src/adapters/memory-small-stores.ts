import { type BlobId, type Bytes, concatBytes, equalBytes, formatId, type GroupId } from "@murmuration/base";
import type { MigrationState } from "@murmuration/wire";
import type { BlobPart, BlobStore } from "../ports/blobs.ts";
import type { CertificateAuthorityKeys, CertificateStore } from "../ports/certificates.ts";
import type { GroupRecord, GroupRecordStore, Lease, MigrationWrite } from "../ports/group-records.ts";
import type { RetentionLog, RetentionRun } from "../ports/retention-log.ts";

/** {@link GroupRecordStore} in memory: gone with the process. */
export class MemoryGroupRecordStore implements GroupRecordStore {
  private readonly records = new Map<string, GroupRecord>();

  async create(record: GroupRecord): Promise<"created" | "exists"> {
    if (this.records.has(formatId(record.groupId))) return "exists";
    this.records.set(formatId(record.groupId), record);
    return "created";
  }

  async load(groupId: GroupId): Promise<GroupRecord | undefined> {
    return this.records.get(formatId(groupId));
  }

  async compareAndSet(
    next: GroupRecord,
    write: MigrationWrite,
  ): Promise<"stored" | "conflict" | "renewed" | "unknown"> {
    const record = this.records.get(formatId(next.groupId));
    if (record === undefined) return "unknown";
    if (record.revision !== next.revision - 1) return "conflict";
    const { migration } = record;
    if (write.kind === "keep") {
      this.records.set(formatId(next.groupId), { ...next, migration });
      return "stored";
    }
    const { ifLeaseUntilMs } = write;
    if (ifLeaseUntilMs !== undefined && migration?.lease?.untilMs !== ifLeaseUntilMs) return "renewed";
    this.records.set(formatId(next.groupId), next);
    return "stored";
  }

  async renewLease(groupId: GroupId, lease: Lease): Promise<"renewed" | "lost"> {
    const record = this.records.get(formatId(groupId));
    const held = record?.migration?.lease;
    if (record?.migration === undefined || held === undefined) return "lost";
    if (!equalBytes(held.tokenHash, lease.tokenHash)) return "lost";
    this.records.set(formatId(groupId), { ...record, migration: { ...record.migration, lease } });
    return "renewed";
  }

  async migrations(): Promise<Readonly<Partial<Record<MigrationState, number>>>> {
    const counts: Partial<Record<MigrationState, number>> = {};
    for (const { migration } of this.records.values()) {
      if (migration !== undefined) counts[migration.state] = (counts[migration.state] ?? 0) + 1;
    }
    return counts;
  }

  async touch(groupId: GroupId, day: number): Promise<void> {
    const record = this.records.get(formatId(groupId));
    if (record === undefined || record.lastUsedDay >= day) return;
    this.records.set(formatId(groupId), { ...record, lastUsedDay: day });
  }

  async expire(day: number, limit: number): Promise<number> {
    const idle = [...this.records].filter(([, record]) => record.lastUsedDay < day).slice(0, limit);
    for (const [name] of idle) this.records.delete(name);
    return idle.length;
  }
}

/** {@link BlobStore} in memory: gone with the process. */
export class MemoryBlobStore implements BlobStore {
  private readonly blobs = new Map<string, { readonly bytes: Bytes; readonly storedAtMs: number }>();

  async put(
    blobId: BlobId,
    content: AsyncIterable<Uint8Array>,
    storedAtMs: number,
  ): Promise<"stored" | "repeated" | "exists"> {
    const pieces: Uint8Array[] = [];
    for await (const piece of content) pieces.push(piece);
    const bytes = concatBytes(...pieces);
    const known = this.blobs.get(formatId(blobId));
    if (known !== undefined && !equalBytes(known.bytes, bytes)) return "exists";
    this.blobs.set(formatId(blobId), { bytes, storedAtMs: Math.max(storedAtMs, known?.storedAtMs ?? 0) });
    return known === undefined ? "stored" : "repeated";
  }

  async read(blobId: BlobId, from: number, to: number): Promise<BlobPart | undefined> {
    const known = this.blobs.get(formatId(blobId));
    if (known === undefined) return undefined;
    const start = Math.max(0, from);
    return { totalBytes: known.bytes.length, bytes: known.bytes.slice(start, Math.max(start, to)) };
  }

  async expire(beforeMs: number, limit: number): Promise<number> {
    const old = [...this.blobs].filter(([, { storedAtMs }]) => storedAtMs < beforeMs).slice(0, limit);
    for (const [name] of old) this.blobs.delete(name);
    return old.length;
  }

  /** An unfinished upload is nowhere but in the call that makes it. */
  async expireUploads(): Promise<number> {
    return 0;
  }
}

/** {@link CertificateStore} in memory: gone with the process. */
export class MemoryCertificateStore implements CertificateStore {
  private keys: CertificateAuthorityKeys | undefined;

  async load(): Promise<CertificateAuthorityKeys | undefined> {
    return this.keys;
  }

  async saveFirst(keys: CertificateAuthorityKeys): Promise<CertificateAuthorityKeys> {
    this.keys ??= keys;
    return this.keys;
  }
}

/** {@link RetentionLog} in memory: gone with the process. */
export class MemoryRetentionLog implements RetentionLog {
  private readonly runs = new Map<string, RetentionRun>();

  async record(run: RetentionRun): Promise<void> {
    this.runs.set(run.job, run);
  }

  async latest(): Promise<readonly RetentionRun[]> {
    return [...this.runs.values()].sort((a, b) => (a.job < b.job ? -1 : 1));
  }
}

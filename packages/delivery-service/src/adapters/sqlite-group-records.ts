import type { GroupId } from "@murmuration/base";
import { type MigrationState, migrationStates } from "@murmuration/wire";
import type {
  GroupMigration,
  GroupRecord,
  GroupRecordStore,
  Lease,
  MigrationWrite,
} from "../ports/group-records.ts";
import { blob, type SqliteDatabase, type Statements } from "./sqlite-database.ts";

type Row = Readonly<Record<string, unknown>>;

const RECORD_COLUMNS = "revision, access_public_key, fence, record, last_used_day";
const MIGRATION_COLUMNS =
  "migration_state, migration_generation, migration_since_ms, migration_started_ms, lease_token_hash, lease_until_ms";

/** {@link GroupRecordStore} on SQLite. */
export class SqliteGroupRecordStore implements GroupRecordStore {
  private readonly database: SqliteDatabase;

  constructor(database: SqliteDatabase) {
    this.database = database;
  }

  create(record: GroupRecord): Promise<"created" | "exists"> {
    return this.database.write((statements) => {
      const inserted = statements
        .prepare(
          `INSERT INTO group_records (group_id, ${RECORD_COLUMNS}, ${MIGRATION_COLUMNS})
           VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
        )
        .run(record.groupId, ...recordValues(record), ...migrationValues(record.migration));
      return inserted.changes === 1 ? "created" : "exists";
    });
  }

  load(groupId: GroupId): Promise<GroupRecord | undefined> {
    return this.database.read((statements) => loadRecord(statements, groupId));
  }

  compareAndSet(
    next: GroupRecord,
    write: MigrationWrite,
  ): Promise<"stored" | "conflict" | "renewed" | "unknown"> {
    return this.database.write((statements) => {
      const { groupId, revision } = next;
      const updated =
        write.kind === "keep"
          ? statements
              .prepare(
                `UPDATE group_records SET (${RECORD_COLUMNS}) = (?, ?, ?, ?, ?)
                 WHERE group_id = ? AND revision = ?`,
              )
              .run(...recordValues(next), groupId, revision - 1)
          : statements
              .prepare(
                `UPDATE group_records SET (${RECORD_COLUMNS}, ${MIGRATION_COLUMNS}) =
                   (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                 WHERE group_id = ? AND revision = ? AND (? IS NULL OR lease_until_ms = ?)`,
              )
              .run(
                ...recordValues(next),
                ...migrationValues(next.migration),
                groupId,
                revision - 1,
                write.ifLeaseUntilMs ?? null,
                write.ifLeaseUntilMs ?? null,
              );
      if (updated.changes === 1) return "stored";
      const present = loadRecord(statements, groupId);
      if (present === undefined) return "unknown";
      return present.revision === revision - 1 ? "renewed" : "conflict";
    });
  }

  renewLease(groupId: GroupId, lease: Lease): Promise<"renewed" | "lost"> {
    return this.database.write((statements) => {
      const updated = statements
        .prepare("UPDATE group_records SET lease_until_ms = ? WHERE group_id = ? AND lease_token_hash = ?")
        .run(lease.untilMs, groupId, lease.tokenHash);
      return updated.changes === 1 ? "renewed" : "lost";
    });
  }

  migrations(): Promise<Readonly<Partial<Record<MigrationState, number>>>> {
    return this.database.read((statements) => {
      const rows = statements
        .prepare(
          `SELECT migration_state, count(*) AS groups FROM group_records
           WHERE migration_state IS NOT NULL GROUP BY migration_state`,
        )
        .all();
      return Object.fromEntries(rows.map((row) => [stateOf(row["migration_state"]), row["groups"]]));
    });
  }

  async touch(groupId: GroupId, day: number): Promise<void> {
    await this.database.write((statements) => {
      statements
        .prepare("UPDATE group_records SET last_used_day = ? WHERE group_id = ? AND last_used_day < ?")
        .run(day, groupId, day);
    });
  }

  expire(day: number, limit: number): Promise<number> {
    return this.database.write((statements) =>
      Number(
        statements
          .prepare(
            `DELETE FROM group_records WHERE group_id IN
               (SELECT group_id FROM group_records WHERE last_used_day < ? LIMIT ?)`,
          )
          .run(day, limit).changes,
      ),
    );
  }
}

function loadRecord(statements: Statements, groupId: GroupId): GroupRecord | undefined {
  const row = statements
    .prepare(`SELECT ${RECORD_COLUMNS}, ${MIGRATION_COLUMNS} FROM group_records WHERE group_id = ?`)
    .get(groupId);
  if (row === undefined) return undefined;
  return {
    groupId,
    revision: row["revision"] as number,
    blob: blob(row["record"]),
    accessPublicKey: blob(row["access_public_key"]),
    fence: blob(row["fence"]),
    lastUsedDay: row["last_used_day"] as number,
    migration: migrationOf(row),
  };
}

function migrationOf(row: Row): GroupMigration | undefined {
  if (row["migration_state"] === null) return undefined;
  const tokenHash = row["lease_token_hash"];
  return {
    state: stateOf(row["migration_state"]),
    generation: row["migration_generation"] as number,
    lease:
      tokenHash === null
        ? undefined
        : { tokenHash: blob(tokenHash), untilMs: row["lease_until_ms"] as number },
    sinceMs: row["migration_since_ms"] as number,
    startedMs: row["migration_started_ms"] as number,
  };
}

/** In the order of RECORD_COLUMNS. */
function recordValues(record: GroupRecord) {
  const { revision, accessPublicKey, fence, blob: bytes, lastUsedDay } = record;
  return [revision, accessPublicKey, fence, bytes, lastUsedDay] as const;
}

/** In the order of MIGRATION_COLUMNS. */
function migrationValues(migration: GroupMigration | undefined) {
  if (migration === undefined) return [null, null, null, null, null, null] as const;
  const { state, generation, lease, sinceMs, startedMs } = migration;
  return [
    migrationStates[state],
    generation,
    sinceMs,
    startedMs,
    lease?.tokenHash ?? null,
    lease?.untilMs ?? null,
  ] as const;
}

const stateNames = new Map<unknown, MigrationState>(
  Object.entries(migrationStates).map(([name, number]) => [number, name as MigrationState]),
);

/** The table's CHECK lets no other number in. */
function stateOf(value: unknown): MigrationState {
  return stateNames.get(value)!;
}

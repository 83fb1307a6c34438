import type { GroupId } from "@murmuration/base";
import { type MigrationState, migrationStates } from "@murmuration/wire";
import type {
  GroupMigration,
  GroupRecord,
  GroupRecordStore,
  Lease,
  MigrationWrite,
} from "../ports/group-records.ts";
import type { PostgresDatabase, PostgresRow } from "./postgres-database.ts";
import { bytea, optionalBytea } from "./postgres-values.ts";

const RECORD = "revision, access_public_key, fence, record, last_used_day";
const MIGRATION =
  "migration_state, migration_generation, migration_since_ms, migration_started_ms, lease_token_hash, lease_until_ms";
const KEEP = `UPDATE group_records SET (${RECORD}) = ROW ($2, $3, $4, $5, $6)
  WHERE group_id = $1 AND revision = $2::bigint - 1`;
const REPLACE = `UPDATE group_records SET (${RECORD}, ${MIGRATION}) = ROW ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
  WHERE group_id = $1 AND revision = $2::bigint - 1 AND ($13::bigint IS NULL OR lease_until_ms = $13)`;

/**
 * {@link GroupRecordStore} on PostgreSQL. Each comparison is a condition of the UPDATE itself: one that waited for another
 * node's write is compared with what that one stored. A write is one round trip and the COMMIT.
 */
export class PostgresGroupRecordStore implements GroupRecordStore {
  private readonly database: PostgresDatabase;

  constructor(database: PostgresDatabase) {
    this.database = database;
  }

  create(record: GroupRecord): Promise<"created" | "exists"> {
    return this.database.writeRowsOf(record.groupId, async (statements) => {
      const inserted = await statements.run(
        `INSERT INTO group_records (group_id, ${RECORD}, ${MIGRATION})
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING`,
        record.groupId,
        ...recordValues(record),
        ...migrationValues(record.migration),
      );
      return inserted === 1 ? "created" : "exists";
    });
  }

  async load(groupId: GroupId): Promise<GroupRecord | undefined> {
    const row = await this.database.read((statements) =>
      statements.get(`SELECT ${RECORD}, ${MIGRATION} FROM group_records WHERE group_id = $1`, groupId),
    );
    return row && toRecord(groupId, row);
  }

  compareAndSet(
    next: GroupRecord,
    write: MigrationWrite,
  ): Promise<"stored" | "conflict" | "renewed" | "unknown"> {
    const { groupId, revision } = next;
    return this.database.writeRowsOf(groupId, async (statements) => {
      const updated =
        write.kind === "keep"
          ? await statements.run(KEEP, groupId, ...recordValues(next))
          : await statements.run(
              REPLACE,
              groupId,
              ...recordValues(next),
              ...migrationValues(next.migration),
              write.ifLeaseUntilMs ?? null,
            );
      if (updated === 1) return "stored";
      // A statement of its own sees what was stored while the first one waited.
      const present = await statements.get("SELECT revision FROM group_records WHERE group_id = $1", groupId);
      if (present === undefined) return "unknown";
      return present["revision"] === revision - 1 ? "renewed" : "conflict";
    });
  }

  renewLease(groupId: GroupId, lease: Lease): Promise<"renewed" | "lost"> {
    return this.database.writeRowsOf(groupId, async (statements) => {
      const updated = await statements.run(
        "UPDATE group_records SET lease_until_ms = $3 WHERE group_id = $1 AND lease_token_hash = $2",
        groupId,
        lease.tokenHash,
        lease.untilMs,
      );
      return updated === 1 ? "renewed" : "lost";
    });
  }

  migrations(): Promise<Readonly<Partial<Record<MigrationState, number>>>> {
    return this.database.read(async (statements) => {
      const rows = await statements.all(
        `SELECT migration_state, count(*) AS groups FROM group_records
         WHERE migration_state IS NOT NULL GROUP BY migration_state`,
      );
      return Object.fromEntries(rows.map((row) => [stateOf(row["migration_state"]), row["groups"]]));
    });
  }

  async touch(groupId: GroupId, day: number): Promise<void> {
    await this.database.writeRowsOf(groupId, (statements) =>
      statements.run(
        "UPDATE group_records SET last_used_day = $2 WHERE group_id = $1 AND last_used_day < $2",
        groupId,
        day,
      ),
    );
  }

  /** A record that somebody is writing to is not waited for: it is in use. */
  expire(day: number, limit: number): Promise<number> {
    return this.database.write("expire group records", (statements) =>
      statements.run(
        `WITH idle AS (
           SELECT group_id FROM group_records WHERE last_used_day < $1
           ORDER BY last_used_day LIMIT $2 FOR UPDATE SKIP LOCKED
         ) DELETE FROM group_records USING idle WHERE group_records.group_id = idle.group_id`,
        day,
        limit,
      ),
    );
  }
}

function toRecord(groupId: GroupId, row: PostgresRow): GroupRecord {
  return {
    groupId,
    revision: row["revision"] as number,
    blob: bytea(row["record"]),
    accessPublicKey: bytea(row["access_public_key"]),
    fence: bytea(row["fence"]),
    lastUsedDay: row["last_used_day"] as number,
    migration: toMigration(row),
  };
}

function toMigration(row: PostgresRow): GroupMigration | undefined {
  if (row["migration_state"] === null) return undefined;
  const tokenHash = optionalBytea(row["lease_token_hash"]);
  return {
    state: stateOf(row["migration_state"]),
    generation: row["migration_generation"] as number,
    lease: tokenHash && { tokenHash, untilMs: row["lease_until_ms"] as number },
    sinceMs: row["migration_since_ms"] as number,
    startedMs: row["migration_started_ms"] as number,
  };
}

/** In the order of RECORD. */
function recordValues(record: GroupRecord) {
  const { accessPublicKey, blob, fence, lastUsedDay, revision } = record;
  return [revision, accessPublicKey, fence, blob, lastUsedDay] as const;
}

/** In the order of MIGRATION. */
function migrationValues(migration: GroupMigration | undefined) {
  if (migration === undefined) return [null, null, null, null, null, null] as const;
  const { generation, lease, sinceMs, startedMs, state } = migration;
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

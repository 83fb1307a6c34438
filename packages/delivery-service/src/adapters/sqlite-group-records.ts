import type { GroupId } from "@murmuration/base";
import type { GroupRecord, GroupRecordStore } from "../ports/group-records.ts";
import { blob, type SqliteDatabase, type Statements } from "./sqlite-database.ts";

/** {@link GroupRecordStore} on SQLite. */
export class SqliteGroupRecordStore implements GroupRecordStore {
  private readonly database: SqliteDatabase;

  constructor(database: SqliteDatabase) {
    this.database = database;
  }

  create(record: GroupRecord): Promise<"created" | "exists"> {
    return this.database.write((statements) => {
      const inserted = statements
        .prepare("INSERT INTO group_records VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
        .run(
          record.groupId,
          record.revision,
          record.accessPublicKey,
          record.fence,
          record.blob,
          record.lastUsedDay,
        );
      return inserted.changes === 1 ? "created" : "exists";
    });
  }

  load(groupId: GroupId): Promise<GroupRecord | undefined> {
    return this.database.read((statements) => loadRecord(statements, groupId));
  }

  compareAndSet(next: GroupRecord): Promise<"stored" | "conflict" | "unknown"> {
    return this.database.write((statements) => {
      const updated = statements
        .prepare(
          `UPDATE group_records SET revision = ?, access_public_key = ?, fence = ?, record = ?, last_used_day = ?
           WHERE group_id = ? AND revision = ?`,
        )
        .run(
          next.revision,
          next.accessPublicKey,
          next.fence,
          next.blob,
          next.lastUsedDay,
          next.groupId,
          next.revision - 1,
        );
      if (updated.changes === 1) return "stored";
      return loadRecord(statements, next.groupId) === undefined ? "unknown" : "conflict";
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
    .prepare(
      "SELECT revision, access_public_key, fence, record, last_used_day FROM group_records WHERE group_id = ?",
    )
    .get(groupId);
  if (row === undefined) return undefined;
  return {
    groupId,
    revision: row["revision"] as number,
    blob: blob(row["record"]),
    accessPublicKey: blob(row["access_public_key"]),
    fence: blob(row["fence"]),
    lastUsedDay: row["last_used_day"] as number,
  };
}

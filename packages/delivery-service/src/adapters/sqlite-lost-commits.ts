import type { GroupId } from "@murmuration/base";
import type { LostCommitStore, LostCommits } from "../ports/lost-commits.ts";
import type { SqliteDatabase } from "./sqlite-database.ts";

/** {@link LostCommitStore} on SQLite. */
export class SqliteLostCommitStore implements LostCommitStore {
  private readonly database: SqliteDatabase;

  constructor(database: SqliteDatabase) {
    this.database = database;
  }

  async add(lost: readonly LostCommits[]): Promise<void> {
    await this.database.write((statements) => {
      const insert = statements.prepare(
        "INSERT INTO mls_lost_commits VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET lost = lost + excluded.lost",
      );
      for (const { groupId, day, count } of lost) insert.run(groupId, day, count);
    });
  }

  since(groupId: GroupId, day: number): Promise<number> {
    return this.database.read((statements) => {
      const row = statements
        .prepare(
          "SELECT coalesce(sum(lost), 0) AS lost FROM mls_lost_commits WHERE group_id = ? AND day >= ?",
        )
        .get(groupId, day);
      return row?.["lost"] as number;
    });
  }

  expire(beforeDay: number, limit: number): Promise<number> {
    return this.database.write((statements) => {
      const sql = `DELETE FROM mls_lost_commits WHERE (group_id, day) IN
        (SELECT group_id, day FROM mls_lost_commits WHERE day < ? LIMIT ?)`;
      return Number(statements.prepare(sql).run(beforeDay, limit).changes);
    });
  }
}

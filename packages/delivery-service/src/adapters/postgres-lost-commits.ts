import { compareBytes, type GroupId } from "@murmuration/base";
import type { LostCommitStore, LostCommits } from "../ports/lost-commits.ts";
import type { PostgresDatabase } from "./postgres-database.ts";

/** {@link LostCommitStore} on PostgreSQL. */
export class PostgresLostCommitStore implements LostCommitStore {
  private readonly database: PostgresDatabase;

  constructor(database: PostgresDatabase) {
    this.database = database;
  }

  async add(lost: readonly LostCommits[]): Promise<void> {
    // In one order on all nodes, so that two cannot wait for each other.
    const rows = lost.toSorted((a, b) => compareBytes(a.groupId, b.groupId) || a.day - b.day);
    const sql = `INSERT INTO mls_lost_commits AS known
      SELECT * FROM unnest($1::bytea[], $2::integer[], $3::bigint[])
      ON CONFLICT (group_id, day) DO UPDATE SET lost = known.lost + excluded.lost`;
    await this.database.write("lost-commits", (statements) =>
      statements.run(
        sql,
        rows.map((row) => row.groupId),
        rows.map((row) => row.day),
        rows.map((row) => row.count),
      ),
    );
  }

  since(groupId: GroupId, day: number): Promise<number> {
    return this.database.read(async (statements) => {
      const sql = `SELECT coalesce(sum(lost), 0)::bigint AS lost FROM mls_lost_commits
        WHERE group_id = $1 AND day >= $2`;
      return (await statements.get(sql, groupId, day))?.["lost"] as number;
    });
  }

  expire(beforeDay: number, limit: number): Promise<number> {
    // Of several nodes that do this at a time each takes what is left.
    const sql = `DELETE FROM mls_lost_commits WHERE (group_id, day) IN
      (SELECT group_id, day FROM mls_lost_commits WHERE day < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`;
    return this.database.write("lost-commits", (statements) => statements.run(sql, beforeDay, limit));
  }
}

import type { RetentionLog, RetentionRun } from "../ports/retention-log.ts";
import type { SqliteDatabase } from "./sqlite-database.ts";

/** {@link RetentionLog} on SQLite: the table retention_runs, which an auditor can read with any SQLite tool. */
export class SqliteRetentionLog implements RetentionLog {
  private readonly database: SqliteDatabase;

  constructor(database: SqliteDatabase) {
    this.database = database;
  }

  async record(run: RetentionRun): Promise<void> {
    await this.database.write((statements) => {
      statements
        .prepare(
          `INSERT INTO retention_runs VALUES (?1, ?2, ?3, ?3) ON CONFLICT DO UPDATE SET
             ran_at_ms = excluded.ran_at_ms, removed = excluded.removed,
             removed_total = removed_total + excluded.removed`,
        )
        .run(run.job, run.ranAtMs, run.removed);
    });
  }

  latest(): Promise<readonly RetentionRun[]> {
    return this.database.read((statements) =>
      statements
        .prepare("SELECT job, ran_at_ms, removed FROM retention_runs ORDER BY job")
        .all()
        .map((row) => ({
          job: row["job"] as string,
          ranAtMs: row["ran_at_ms"] as number,
          removed: row["removed"] as number,
        })),
    );
  }
}

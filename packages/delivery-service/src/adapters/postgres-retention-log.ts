import type { RetentionLog, RetentionRun } from "../ports/retention-log.ts";
import type { PostgresDatabase } from "./postgres-database.ts";

/** {@link RetentionLog} on PostgreSQL: the table retention_runs, which an auditor can read. */
export class PostgresRetentionLog implements RetentionLog {
  private readonly database: PostgresDatabase;

  constructor(database: PostgresDatabase) {
    this.database = database;
  }

  async record(run: RetentionRun): Promise<void> {
    await this.database.write("retention log", (statements) =>
      statements.run(
        `INSERT INTO retention_runs AS runs VALUES ($1, $2, $3, $3)
         ON CONFLICT (job) DO UPDATE SET ran_at_ms = excluded.ran_at_ms, removed = excluded.removed,
           removed_total = runs.removed_total + excluded.removed`,
        run.job,
        run.ranAtMs,
        run.removed,
      ),
    );
  }

  latest(): Promise<readonly RetentionRun[]> {
    return this.database.read(async (statements) => {
      const rows = await statements.all("SELECT job, ran_at_ms, removed FROM retention_runs ORDER BY job");
      return rows.map((row) => ({
        job: row["job"] as string,
        ranAtMs: row["ran_at_ms"] as number,
        removed: row["removed"] as number,
      }));
    });
  }
}

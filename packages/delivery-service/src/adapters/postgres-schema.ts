import { UsageError } from "@murmuration/base";
import type pg from "pg";
import { directorySchema } from "./postgres-schema-directory.ts";
import { healthSchema } from "./postgres-schema-health.ts";
import { mlsSchema } from "./postgres-schema-mls.ts";
import { pushSchema } from "./postgres-schema-push.ts";

/** Steps of the schema, forward only: a step that was released is never changed. */
const MIGRATIONS: readonly string[] = [directorySchema, mlsSchema, healthSchema, pushSchema];

/** How many steps a schema has that is up to date. */
export const POSTGRES_SCHEMA_STEPS = MIGRATIONS.length;

/** "murmur" in a telephone's digits: whoever migrates a schema of this service holds this lock. */
const LOCK = 687_627;

/**
 * Brings the schema up to date. Nodes that start together take turns; each step is one transaction with the row that says
 * that it was done. Throws UsageError `store/newer-schema` where a newer version of the service was here.
 */
export async function migratePostgres(pool: pg.Pool, schema: string): Promise<void> {
  if (!/^[a-z][a-z0-9_]{0,62}$/.test(schema)) throw new UsageError("store/schema-name");
  const client = await pool.connect();
  try {
    await client.query("SELECT pg_advisory_lock($1, hashtext($2))", [LOCK, schema]);
    await client.query(`CREATE SCHEMA IF NOT EXISTS ${schema}`);
    await client.query(
      "CREATE TABLE IF NOT EXISTS schema_steps (step integer PRIMARY KEY, done_at timestamptz NOT NULL DEFAULT now())",
    );
    const { rows } = await client.query("SELECT coalesce(max(step), 0) AS step FROM schema_steps");
    const done = Number(rows[0]?.step);
    if (done > MIGRATIONS.length) throw new UsageError("store/newer-schema");
    for (const [index, step] of MIGRATIONS.entries()) {
      if (index < done) continue;
      await client.query("BEGIN");
      try {
        await client.query(step);
        await client.query("INSERT INTO schema_steps (step) VALUES ($1)", [index + 1]);
        await client.query("COMMIT");
      } catch (error) {
        await client.query("ROLLBACK").catch(() => {});
        throw error;
      }
    }
    await client.query("SELECT pg_advisory_unlock($1, hashtext($2))", [LOCK, schema]);
    client.release();
  } catch (error) {
    // With the connection goes the lock.
    client.release(true);
    throw error;
  }
}

import { UnavailableError, UsageError } from "@murmuration/base";
import pg from "pg";
import type {
  GroupHealth,
  HealthQuery,
  HealthReader,
  RetentionHealth,
  StockHealth,
} from "../ports/group-health.ts";
import {
  COMMITS_OF,
  groupsParameters,
  groupsQuery,
  KEY_PACKAGES_QUERY,
  RETENTION_RUNS_QUERY,
  toGroupHealth,
  toRetentionHealth,
  toStockHealth,
} from "./health-queries.ts";
import { LOW_DEVICES_QUERY, lowStockOf, namesOf, TREE_QUERY } from "./health-stock.ts";
import type { PostgresRow } from "./postgres-database.ts";
import { POSTGRES_SCHEMA_STEPS } from "./postgres-schema.ts";
import { readText } from "./postgres-values.ts";

/** {@link HealthReader} on PostgreSQL: one connection that cannot write. */
export class PostgresHealthReader implements HealthReader {
  private readonly client: pg.Client;

  /** Rejects with UnavailableError `store/postgres-unreachable`, and UsageError `store/not-there` and `store/other-schema`. */
  static async open(options: {
    readonly url: string;
    readonly schema: string;
  }): Promise<PostgresHealthReader> {
    const client = new pg.Client({
      connectionString: options.url,
      connectionTimeoutMillis: 5_000,
      options: `-c search_path=${options.schema} -c default_transaction_read_only=on -c statement_timeout=60s`,
      application_name: "murmuration-admin",
    });
    client.on("error", () => {});
    try {
      await client.connect();
    } catch {
      throw new UnavailableError("store/postgres-unreachable");
    }
    const reader = new PostgresHealthReader(client);
    try {
      await reader.checkSchema();
    } catch (error) {
      await reader.close();
      throw error;
    }
    return reader;
  }

  private constructor(client: pg.Client) {
    this.client = client;
  }

  async groups(query: HealthQuery): Promise<readonly GroupHealth[]> {
    const rows = await this.ask(groupsQuery(query.order, COMMITS_OF.postgres), ...groupsParameters(query));
    const low = namesOf(await this.ask(LOW_DEVICES_QUERY, query.keyPackagesBelow, query.nowMs));
    const groups: GroupHealth[] = [];
    for (const row of rows) {
      const epochs = await this.ask(TREE_QUERY, row["mls_group"] as number);
      groups.push(toGroupHealth(row, lowStockOf(epochs, low)));
    }
    return groups;
  }

  async keyPackages(lowBelow: number, nowMs: number): Promise<StockHealth> {
    return toStockHealth((await this.ask(KEY_PACKAGES_QUERY, lowBelow, nowMs))[0]);
  }

  async retention(): Promise<readonly RetentionHealth[]> {
    // Each step of the schema has a view of its own tables.
    const views = await this.ask(
      `SELECT table_name::text AS name FROM information_schema.views
        WHERE table_schema = current_schema() AND table_name LIKE '%retention_overdue'`,
    );
    const overdue = views.map(({ name }) => `SELECT job, overdue FROM ${name as string}`).join(" UNION ALL ");
    return toRetentionHealth(
      await this.ask(RETENTION_RUNS_QUERY),
      overdue === "" ? [] : await this.ask(overdue),
    );
  }

  async close(): Promise<void> {
    await this.client.end().catch(() => {});
  }

  private async checkSchema(): Promise<void> {
    const [there] = await this.ask("SELECT to_regclass('schema_steps')::text AS name");
    if (there?.["name"] === null) throw new UsageError("store/not-there");
    const [done] = await this.ask("SELECT coalesce(max(step), 0) AS step FROM schema_steps");
    if (done?.["step"] !== POSTGRES_SCHEMA_STEPS) throw new UsageError("store/other-schema");
  }

  private async ask(sql: string, ...values: readonly number[]): Promise<readonly PostgresRow[]> {
    try {
      const query = { text: sql, values: [...values], types: readText } as pg.QueryConfig;
      return (await this.client.query<PostgresRow>(query)).rows;
    } catch (error) {
      throw new UnavailableError(
        "store/read-failed",
        error instanceof pg.DatabaseError ? error.code : undefined,
      );
    }
  }
}

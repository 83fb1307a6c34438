import { existsSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { UsageError } from "@murmuration/base";
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
import { SCHEMA_VERSION } from "./sqlite-schema.ts";

type Row = Readonly<Record<string, unknown>>;

/** {@link HealthReader} on the embedded file, opened for reading only: the service may run meanwhile. */
export class SqliteHealthReader implements HealthReader {
  private readonly database: DatabaseSync;

  /** Throws UsageError `store/not-there` and `store/other-schema`. */
  constructor(path: string) {
    if (!existsSync(path)) throw new UsageError("store/not-there");
    this.database = new DatabaseSync(path, { readOnly: true });
    if (this.ask("PRAGMA user_version")[0]?.["user_version"] === SCHEMA_VERSION) return;
    this.database.close();
    throw new UsageError("store/other-schema");
  }

  async groups(query: HealthQuery): Promise<readonly GroupHealth[]> {
    const rows = this.ask(groupsQuery(query.order, COMMITS_OF.sqlite), ...groupsParameters(query));
    const low = namesOf(this.ask(LOW_DEVICES_QUERY, query.keyPackagesBelow, query.nowMs));
    return rows.map((row) =>
      toGroupHealth(row, lowStockOf(this.ask(TREE_QUERY, row["mls_group"] as number), low)),
    );
  }

  async keyPackages(lowBelow: number, nowMs: number): Promise<StockHealth> {
    return toStockHealth(this.ask(KEY_PACKAGES_QUERY, lowBelow, nowMs)[0]);
  }

  async retention(): Promise<readonly RetentionHealth[]> {
    return toRetentionHealth(
      this.ask(RETENTION_RUNS_QUERY),
      this.ask("SELECT job, overdue FROM retention_overdue"),
    );
  }

  async close(): Promise<void> {
    this.database.close();
  }

  private ask(sql: string, ...values: readonly number[]): readonly Row[] {
    // SQLite takes $1 for a name.
    const named = Object.fromEntries(values.map((value, index) => [`$${index + 1}`, value]));
    return this.database.prepare(sql).all(named) as Row[];
  }
}

import { DatabaseSync } from "node:sqlite";

/** Runs a query on the service's database from outside, as an auditor would, while the service is running. */
export function query(databasePath: string, sql: string): Record<string, unknown>[] {
  const database = new DatabaseSync(databasePath, { readOnly: true });
  try {
    return database.prepare(sql).all();
  } finally {
    database.close();
  }
}

/** How many envelopes and submit hashes are stored. */
export function mailboxRows(databasePath: string): { readonly envelopes: number; readonly submits: number } {
  const count = (table: string) =>
    query(databasePath, `SELECT count(*) AS n FROM ${table}`)[0]!["n"] as number;
  return { envelopes: count("envelopes"), submits: count("submits") };
}

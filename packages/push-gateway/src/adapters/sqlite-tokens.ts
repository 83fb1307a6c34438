import { chmodSync, closeSync, existsSync, mkdirSync, openSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type Bytes, UsageError } from "@murmuration/base";
import type { KeyPair, PushKind, PushToken } from "@murmuration/wire/push";
import type { StoredToken, TokenStore } from "../ports/token-store.ts";

/** Steps of the schema, forward only. There is no column for a person, a group, or a time finer than a day. */
const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE keys (
    place INTEGER PRIMARY KEY,
    public_key BLOB NOT NULL,
    private_key BLOB NOT NULL
  ) STRICT;

  CREATE TABLE tokens (
    token_id BLOB PRIMARY KEY CHECK (length(token_id) = 16),
    secret_hash BLOB NOT NULL,
    kind TEXT NOT NULL,
    address TEXT NOT NULL,
    last_used_day INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX tokens_by_use ON tokens (last_used_day);
  `,
];

const DATABASE_NAME = "push-gateway.sqlite";

/** {@link TokenStore} in one SQLite file: a write is on the disk when it returns, what is deleted is overwritten. */
export class SqliteTokenStore implements TokenStore {
  private readonly database: DatabaseSync;

  /** Opens the store in a directory that it creates if need be. Throws UsageError `store/newer-schema`. */
  constructor(dataDirectory: string) {
    mkdirSync(dataDirectory, { recursive: true, mode: 0o700 });
    const path = join(dataDirectory, DATABASE_NAME);
    // SQLite gives the log beside the file the same mode.
    if (!existsSync(path)) closeSync(openSync(path, "ax", 0o600));
    chmodSync(path, 0o600);
    this.database = new DatabaseSync(path);
    this.database.exec(`
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      PRAGMA secure_delete = ON;
      PRAGMA busy_timeout = 5000;
      PRAGMA trusted_schema = OFF;
    `);
    migrate(this.database);
  }

  async keys(first: () => KeyPair): Promise<readonly KeyPair[]> {
    const stored = this.readKeys();
    if (stored.length > 0) return stored;
    const { publicKey, privateKey } = first();
    // A second process that started at the same time may have been first.
    this.database
      .prepare("INSERT INTO keys (place, public_key, private_key) VALUES (1, ?, ?) ON CONFLICT DO NOTHING")
      .run(publicKey, privateKey);
    return this.readKeys();
  }

  async create(token: StoredToken, maxTokens: number): Promise<"created" | "full"> {
    const { tokenId, secretHash, kind, address, lastUsedDay } = token;
    const { changes } = this.database
      .prepare("INSERT INTO tokens SELECT ?, ?, ?, ?, ? WHERE (SELECT count(*) FROM tokens) < ?")
      .run(tokenId, secretHash, kind, address, lastUsedDay, maxTokens);
    return changes === 1 ? "created" : "full";
  }

  async load(tokenId: Bytes): Promise<StoredToken | undefined> {
    const row = this.database.prepare("SELECT * FROM tokens WHERE token_id = ?").get(tokenId);
    if (row === undefined) return undefined;
    return {
      tokenId,
      secretHash: row["secret_hash"] as Bytes,
      kind: row["kind"] as PushKind,
      address: row["address"] as string,
      lastUsedDay: row["last_used_day"] as number,
    };
  }

  async replace(tokenId: Bytes, { kind, address }: PushToken, day: number): Promise<void> {
    this.database
      .prepare("UPDATE tokens SET (kind, address, last_used_day) = (?, ?, ?) WHERE token_id = ?")
      .run(kind, address, day, tokenId);
  }

  async delete(tokenId: Bytes): Promise<void> {
    this.database.prepare("DELETE FROM tokens WHERE token_id = ?").run(tokenId);
  }

  async deleteAddress(tokenId: Bytes, address: string): Promise<void> {
    this.database.prepare("DELETE FROM tokens WHERE token_id = ? AND address = ?").run(tokenId, address);
  }

  async touch(tokenId: Bytes, day: number): Promise<void> {
    this.database
      .prepare("UPDATE tokens SET last_used_day = ? WHERE token_id = ? AND last_used_day < ?")
      .run(day, tokenId, day);
  }

  async expire(day: number): Promise<number> {
    const { changes } = this.database.prepare("DELETE FROM tokens WHERE last_used_day < ?").run(day);
    // So that what was deleted leaves the log as well.
    this.database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    return Number(changes);
  }

  async count(): Promise<number> {
    return this.database.prepare("SELECT count(*) AS tokens FROM tokens").get()!["tokens"] as number;
  }

  async close(): Promise<void> {
    this.database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    this.database.close();
  }

  private readKeys(): readonly KeyPair[] {
    const rows = this.database.prepare("SELECT * FROM keys ORDER BY place DESC").all();
    return rows.map((row) => ({
      publicKey: row["public_key"] as Bytes,
      privateKey: row["private_key"] as Bytes,
    }));
  }
}

function migrate(database: DatabaseSync): void {
  const row = database.prepare("PRAGMA user_version").get() as { user_version: number };
  if (row.user_version > MIGRATIONS.length) throw new UsageError("store/newer-schema");
  for (const [index, step] of MIGRATIONS.entries()) {
    if (index < row.user_version) continue;
    database.exec(`BEGIN IMMEDIATE; ${step} PRAGMA user_version = ${index + 1}; COMMIT;`);
  }
}

import { type AccountId, type Bytes, type DeviceAddress, type DeviceId, toHex } from "@murmuration/base";
import type {
  AccountRecord,
  AccountStore,
  DeviceRecord,
  DevicesUpdate,
  NewAccount,
} from "../ports/accounts.ts";
import type {
  PostgresDatabase,
  PostgresRow,
  PostgresStatements,
  PostgresValue,
} from "./postgres-database.ts";
import { bytea } from "./postgres-values.ts";

/** What is large comes with an account's first device only. */
const SELECT = `
  SELECT a.account_id, a.identity_key, a.access_key_hash, a.list_version,
    CASE WHEN row_number() OVER devices = 1 THEN a.profile END AS profile,
    CASE WHEN row_number() OVER devices = 1 THEN a.list_bytes END AS list_bytes,
    d.device_id, d.registration_id, d.identity_key AS device_key, d.token_hash, d.last_seen_day, d.has_keys
  FROM accounts a LEFT JOIN devices d USING (account_id)
  WHERE a.account_id = ANY($1::bytea[]) AND a.deleted_day IS NULL
  WINDOW devices AS (PARTITION BY a.account_id ORDER BY d.device_id)
  ORDER BY a.account_id, d.device_id`;
/** Who holds the account's row is the only one that adds or removes devices; statements after it see what the last one did. */
const LOCK = "SELECT FROM accounts WHERE account_id = $1 FOR NO KEY UPDATE";
const BURY = `UPDATE accounts SET identity_key = '', access_key_hash = '', profile = '', list_version = 0,
  list_bytes = '', deleted_day = $2 WHERE account_id = $1 AND deleted_day IS NULL`;

/** {@link AccountStore} on PostgreSQL. Every write is one round trip and the COMMIT. */
export class PostgresAccountStore implements AccountStore {
  private readonly database: PostgresDatabase;

  constructor(database: PostgresDatabase) {
    this.database = database;
  }

  create(account: NewAccount): Promise<"created" | "exists" | "deleted"> {
    const { accountId, device } = account;
    return this.database.writeRowsOf(accountId, async (statements) => {
      const row = await statements.get(
        `WITH account AS (
           INSERT INTO accounts VALUES ($1, $2, $3, '', $4, $5) ON CONFLICT DO NOTHING RETURNING account_id
         ), device AS (
           INSERT INTO devices SELECT account_id, $6, $7, $8, $9, $10, $11 FROM account
         )
         SELECT EXISTS (SELECT FROM account) AS created,
           EXISTS (SELECT FROM accounts WHERE account_id = $1 AND deleted_day IS NOT NULL) AS deleted`,
        accountId,
        account.accountIdentityKey,
        account.accessKeyHash,
        account.deviceList.version,
        account.deviceList.bytes,
        device.deviceId,
        device.registrationId,
        device.identityKey,
        device.tokenHash,
        device.lastSeenDay,
        device.hasKeys,
      );
      if (row!["created"]) return "created";
      return row!["deleted"] ? "deleted" : "exists";
    });
  }

  async load(accountId: AccountId): Promise<AccountRecord | undefined> {
    return (await this.loadMany([accountId]))[0];
  }

  async loadMany(accountIds: readonly AccountId[]): Promise<readonly (AccountRecord | undefined)[]> {
    const rows = await this.database.read((statements) => statements.all(SELECT, accountIds));
    const accounts = Map.groupBy(rows, (row) => toHex(bytea(row["account_id"])));
    return accountIds.map((id) => {
      const ofAccount = accounts.get(toHex(id));
      return ofAccount && toAccount(ofAccount);
    });
  }

  updateDevices(update: DevicesUpdate): Promise<"stored" | "conflict" | "unknown"> {
    const { accountId, added, deviceList, removed } = update;
    return this.database.writeRowsOf(accountId, async (statements) => {
      const row = await locked(
        statements,
        accountId,
        `WITH account AS (
           UPDATE accounts SET list_version = $2, list_bytes = $3
           WHERE account_id = $1 AND list_version = $4 AND deleted_day IS NULL
             AND NOT EXISTS (SELECT FROM devices WHERE account_id = $1 AND device_id = ANY($6::smallint[]))
           RETURNING account_id
         ), gone AS (
           DELETE FROM devices d USING account a
           WHERE d.account_id = a.account_id AND device_id = ANY($5::smallint[])
         ), new AS (
           INSERT INTO devices SELECT account_id, d.* FROM account, unnest($6::smallint[], $7::integer[],
             $8::bytea[], $9::bytea[], $10::integer[], $11::boolean[]) AS d
         )
         SELECT EXISTS (SELECT FROM account) AS stored,
           EXISTS (SELECT FROM accounts WHERE account_id = $1 AND deleted_day IS NULL) AS known`,
        deviceList.version,
        deviceList.bytes,
        update.expectedVersion,
        removed,
        added.map((device) => device.deviceId),
        added.map((device) => device.registrationId),
        added.map((device) => device.identityKey),
        added.map((device) => device.tokenHash),
        added.map((device) => device.lastSeenDay),
        added.map((device) => device.hasKeys),
      );
      if (row!["stored"]) return "stored";
      return row!["known"] ? "conflict" : "unknown";
    });
  }

  updateProfile(accountId: AccountId, accessKeyHash: Bytes, profile: Bytes): Promise<"stored" | "unknown"> {
    return this.database.writeRowsOf(accountId, async (statements) => {
      const updated = await statements.run(
        `UPDATE accounts SET access_key_hash = $2, profile = $3
         WHERE account_id = $1 AND deleted_day IS NULL`,
        accountId,
        accessKeyHash,
        profile,
      );
      return updated === 1 ? "stored" : "unknown";
    });
  }

  async markKeys(address: DeviceAddress): Promise<void> {
    await this.database.writeRowsOf(address.accountId, (statements) =>
      statements.run(
        "UPDATE devices SET has_keys = true WHERE account_id = $1 AND device_id = $2",
        address.accountId,
        address.deviceId,
      ),
    );
  }

  async touch(address: DeviceAddress, day: number): Promise<void> {
    await this.database.writeRowsOf(address.accountId, (statements) =>
      statements.run(
        `UPDATE devices SET last_seen_day = $3
         WHERE account_id = $1 AND device_id = $2 AND last_seen_day < $3`,
        address.accountId,
        address.deviceId,
        day,
      ),
    );
  }

  delete(accountId: AccountId, day: number): Promise<"deleted" | "unknown"> {
    return this.database.writeRowsOf(accountId, async (statements) => {
      const row = await locked(
        statements,
        accountId,
        `WITH buried AS (${BURY} RETURNING account_id), gone AS (
           DELETE FROM devices d USING buried b WHERE d.account_id = b.account_id
         )
         SELECT EXISTS (SELECT FROM buried) AS deleted`,
        day,
      );
      return row!["deleted"] ? "deleted" : "unknown";
    });
  }

  hasTombstone(accountId: AccountId): Promise<boolean> {
    return this.database.read(async (statements) => {
      const sql = "SELECT FROM accounts WHERE account_id = $1 AND deleted_day IS NOT NULL";
      return (await statements.get(sql, accountId)) !== undefined;
    });
  }

  idleDevices(day: number, limit: number): Promise<readonly DeviceAddress[]> {
    return this.database.read(async (statements) => {
      const rows = await statements.all(
        `SELECT account_id, device_id FROM devices WHERE last_seen_day < $1
         ORDER BY last_seen_day LIMIT $2`,
        day,
        limit,
      );
      return rows.map((row) => ({
        accountId: bytea(row["account_id"]) as AccountId,
        deviceId: row["device_id"] as DeviceId,
      }));
    });
  }

  removeIdleDevice(address: DeviceAddress, day: number): Promise<"removed" | "kept"> {
    return this.database.writeRowsOf(address.accountId, async (statements) => {
      const row = await locked(
        statements,
        address.accountId,
        `WITH gone AS (
           DELETE FROM devices WHERE account_id = $1 AND device_id = $3 AND last_seen_day < $2 RETURNING device_id
         ), buried AS (
           ${BURY} AND EXISTS (SELECT FROM gone)
             AND NOT EXISTS (SELECT FROM devices WHERE account_id = $1 AND device_id <> $3)
         )
         SELECT EXISTS (SELECT FROM gone) AS removed`,
        day,
        address.deviceId,
      );
      return row!["removed"] ? "removed" : "kept";
    });
  }
}

/** Runs a statement, whose first value is the account, while its row is held. */
async function locked(
  statements: PostgresStatements,
  accountId: AccountId,
  sql: string,
  ...values: readonly PostgresValue[]
): Promise<PostgresRow | undefined> {
  const [, row] = await Promise.all([
    statements.get(LOCK, accountId),
    statements.get(sql, accountId, ...values),
  ]);
  return row;
}

function toAccount(rows: readonly PostgresRow[]): AccountRecord {
  const first = rows[0]!;
  return {
    accountId: bytea(first["account_id"]) as AccountId,
    accountIdentityKey: bytea(first["identity_key"]),
    accessKeyHash: bytea(first["access_key_hash"]),
    profile: bytea(first["profile"]),
    deviceList: { version: first["list_version"] as number, bytes: bytea(first["list_bytes"]) },
    devices: rows.filter((row) => row["device_id"] !== null).map(toDevice),
  };
}

function toDevice(row: PostgresRow): DeviceRecord {
  return {
    deviceId: row["device_id"] as DeviceId,
    registrationId: row["registration_id"] as number,
    identityKey: bytea(row["device_key"]),
    tokenHash: bytea(row["token_hash"]),
    lastSeenDay: row["last_seen_day"] as number,
    hasKeys: row["has_keys"] as boolean,
  };
}

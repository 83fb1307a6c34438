import type { AccountId, Bytes, DeviceAddress, DeviceId } from "@murmuration/base";
import type {
  AccountRecord,
  AccountStore,
  DeviceRecord,
  DevicesUpdate,
  NewAccount,
} from "../ports/accounts.ts";
import { blob, type SqliteDatabase, type Statements } from "./sqlite-database.ts";

const SELECT_ACCOUNT =
  "SELECT identity_key, access_key_hash, profile, list_version, list_bytes FROM accounts WHERE account_id = ?";
const SELECT_DEVICES =
  "SELECT device_id, registration_id, identity_key, token_hash, last_seen_day, has_keys FROM devices WHERE account_id = ? ORDER BY device_id";

/** {@link AccountStore} on SQLite. */
export class SqliteAccountStore implements AccountStore {
  private readonly database: SqliteDatabase;

  constructor(database: SqliteDatabase) {
    this.database = database;
  }

  create(account: NewAccount): Promise<"created" | "exists" | "deleted"> {
    return this.database.write((statements) => {
      if (hasTombstone(statements, account.accountId)) return "deleted";
      const inserted = statements
        .prepare("INSERT INTO accounts VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
        .run(
          account.accountId,
          account.accountIdentityKey,
          account.accessKeyHash,
          new Uint8Array(0),
          account.deviceList.version,
          account.deviceList.bytes,
        );
      if (inserted.changes === 0) return "exists";
      insertDevice(statements, account.accountId, account.device);
      return "created";
    });
  }

  load(accountId: AccountId): Promise<AccountRecord | undefined> {
    return this.database.read((statements) => loadAccount(statements, accountId));
  }

  loadMany(accountIds: readonly AccountId[]): Promise<readonly (AccountRecord | undefined)[]> {
    return this.database.read((statements) => accountIds.map((id) => loadAccount(statements, id)));
  }

  updateDevices(update: DevicesUpdate): Promise<"stored" | "conflict" | "unknown"> {
    return this.database.write((statements) => {
      const account = loadAccount(statements, update.accountId);
      if (account === undefined) return "unknown";
      if (account.deviceList.version !== update.expectedVersion) return "conflict";
      const taken = new Set(account.devices.map((device) => device.deviceId));
      if (update.added.some((device) => taken.has(device.deviceId))) return "conflict";
      statements
        .prepare("UPDATE accounts SET list_version = ?, list_bytes = ? WHERE account_id = ?")
        .run(update.deviceList.version, update.deviceList.bytes, update.accountId);
      const remove = statements.prepare("DELETE FROM devices WHERE account_id = ? AND device_id = ?");
      for (const deviceId of update.removed) remove.run(update.accountId, deviceId);
      for (const device of update.added) insertDevice(statements, update.accountId, device);
      return "stored";
    });
  }

  updateProfile(accountId: AccountId, accessKeyHash: Bytes, profile: Bytes): Promise<"stored" | "unknown"> {
    return this.database.write((statements) => {
      const updated = statements
        .prepare("UPDATE accounts SET access_key_hash = ?, profile = ? WHERE account_id = ?")
        .run(accessKeyHash, profile, accountId);
      return updated.changes === 1 ? "stored" : "unknown";
    });
  }

  async markKeys(address: DeviceAddress): Promise<void> {
    await this.database.write((statements) => {
      statements
        .prepare("UPDATE devices SET has_keys = 1 WHERE account_id = ? AND device_id = ?")
        .run(address.accountId, address.deviceId);
    });
  }

  async touch(address: DeviceAddress, day: number): Promise<void> {
    await this.database.write((statements) => {
      statements
        .prepare(
          "UPDATE devices SET last_seen_day = ? WHERE account_id = ? AND device_id = ? AND last_seen_day < ?",
        )
        .run(day, address.accountId, address.deviceId, day);
    });
  }

  delete(accountId: AccountId, day: number): Promise<"deleted" | "unknown"> {
    return this.database.write((statements) => {
      const removed = statements.prepare("DELETE FROM accounts WHERE account_id = ?").run(accountId);
      if (removed.changes === 0) return "unknown";
      bury(statements, accountId, day);
      return "deleted";
    });
  }

  hasTombstone(accountId: AccountId): Promise<boolean> {
    return this.database.read((statements) => hasTombstone(statements, accountId));
  }

  idleDevices(day: number, limit: number): Promise<readonly DeviceAddress[]> {
    return this.database.read((statements) =>
      statements
        .prepare("SELECT account_id, device_id FROM devices WHERE last_seen_day < ? LIMIT ?")
        .all(day, limit)
        .map((row) => ({
          accountId: blob(row["account_id"]) as AccountId,
          deviceId: row["device_id"] as DeviceId,
        })),
    );
  }

  removeIdleDevice(address: DeviceAddress, day: number): Promise<"removed" | "kept"> {
    return this.database.write((statements) => {
      const removed = statements
        .prepare("DELETE FROM devices WHERE account_id = ? AND device_id = ? AND last_seen_day < ?")
        .run(address.accountId, address.deviceId, day);
      if (removed.changes === 0) return "kept";
      const left = statements.prepare("SELECT 1 FROM devices WHERE account_id = ?").get(address.accountId);
      if (left === undefined) {
        statements.prepare("DELETE FROM accounts WHERE account_id = ?").run(address.accountId);
        bury(statements, address.accountId, day);
      }
      return "removed";
    });
  }
}

function loadAccount(statements: Statements, accountId: AccountId): AccountRecord | undefined {
  const row = statements.prepare(SELECT_ACCOUNT).get(accountId);
  if (row === undefined) return undefined;
  return {
    accountId,
    accountIdentityKey: blob(row["identity_key"]),
    accessKeyHash: blob(row["access_key_hash"]),
    profile: blob(row["profile"]),
    deviceList: { version: row["list_version"] as number, bytes: blob(row["list_bytes"]) },
    devices: statements
      .prepare(SELECT_DEVICES)
      .all(accountId)
      .map((device) => ({
        deviceId: device["device_id"] as DeviceId,
        registrationId: device["registration_id"] as number,
        identityKey: blob(device["identity_key"]),
        tokenHash: blob(device["token_hash"]),
        lastSeenDay: device["last_seen_day"] as number,
        hasKeys: device["has_keys"] === 1,
      })),
  };
}

function bury(statements: Statements, accountId: AccountId, day: number): void {
  statements.prepare("INSERT INTO account_tombstones VALUES (?, ?)").run(accountId, day);
}

function hasTombstone(statements: Statements, accountId: AccountId): boolean {
  return (
    statements.prepare("SELECT 1 FROM account_tombstones WHERE account_id = ?").get(accountId) !== undefined
  );
}

function insertDevice(statements: Statements, accountId: AccountId, device: DeviceRecord): void {
  statements
    .prepare("INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, ?)")
    .run(
      accountId,
      device.deviceId,
      device.registrationId,
      device.identityKey,
      device.tokenHash,
      device.lastSeenDay,
      device.hasKeys ? 1 : 0,
    );
}

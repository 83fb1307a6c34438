import { type Bytes, type DeviceAddress, equalBytes, toHex } from "@murmuration/base";
import type {
  ClaimedKeyPackageRow,
  KeyPackageStock,
  KeyPackageStore,
  KeyPackageUploadRow,
  StoredKeyPackage,
} from "../ports/key-packages.ts";
import { blob, type SqliteDatabase, type Statements } from "./sqlite-database.ts";

/** {@link KeyPackageStore} on SQLite. A claim reads and deletes in one statement, whichever process makes it. */
export class SqliteKeyPackageStore implements KeyPackageStore {
  private readonly database: SqliteDatabase;

  constructor(database: SqliteDatabase) {
    this.database = database;
  }

  upload(
    address: DeviceAddress,
    upload: KeyPackageUploadRow,
    maxStored: number,
  ): Promise<"stored" | "repeated" | "too-many"> {
    return this.database.write((statements) => {
      if (isRepeated(statements, address, upload)) return "repeated";
      if (oneTimeAfter(statements, address, upload) > maxStored) return "too-many";
      statements
        .prepare(
          `INSERT INTO key_package_uploads VALUES (?, ?, ?)
           ON CONFLICT DO UPDATE SET upload_id = excluded.upload_id`,
        )
        .run(address.accountId, address.deviceId, upload.uploadId);
      if (upload.replace) {
        statements
          .prepare("DELETE FROM key_packages WHERE account_id = ? AND device_id = ?")
          .run(address.accountId, address.deviceId);
      }
      for (const keyPackage of upload.keyPackages) insert(statements, address, keyPackage, 0);
      if (upload.lastResort !== undefined) {
        statements
          .prepare("DELETE FROM key_packages WHERE account_id = ? AND device_id = ? AND last_resort = 1")
          .run(address.accountId, address.deviceId);
        insert(statements, address, upload.lastResort, 1);
      }
      return "stored";
    });
  }

  claim(
    address: DeviceAddress,
    oneTime: boolean,
    usableUntilMs: number,
  ): Promise<ClaimedKeyPackageRow | undefined> {
    return this.database.write((statements) => {
      statements
        .prepare("DELETE FROM key_packages WHERE account_id = ? AND device_id = ? AND expires_at_ms <= ?")
        .run(address.accountId, address.deviceId, usableUntilMs);
      const claimed =
        (oneTime ? takeOne(statements, address) : undefined) ?? loadLastResort(statements, address);
      return claimed && { message: claimed, left: stockOf(statements, address, usableUntilMs) };
    });
  }

  count(address: DeviceAddress, usableUntilMs: number): Promise<KeyPackageStock> {
    return this.database.read((statements) => stockOf(statements, address, usableUntilMs));
  }

  async remove(address: DeviceAddress): Promise<void> {
    await this.database.write((statements) => {
      for (const table of ["key_packages", "key_package_uploads"]) {
        statements
          .prepare(`DELETE FROM ${table} WHERE account_id = ? AND device_id = ?`)
          .run(address.accountId, address.deviceId);
      }
    });
  }

  expire(beforeMs: number, limit: number): Promise<number> {
    return this.database.write((statements) =>
      Number(
        statements
          .prepare(
            `DELETE FROM key_packages WHERE rowid IN
               (SELECT rowid FROM key_packages WHERE expires_at_ms < ? ORDER BY expires_at_ms LIMIT ?)`,
          )
          .run(beforeMs, limit).changes,
      ),
    );
  }
}

function isRepeated(statements: Statements, address: DeviceAddress, upload: KeyPackageUploadRow): boolean {
  const row = statements
    .prepare("SELECT upload_id FROM key_package_uploads WHERE account_id = ? AND device_id = ?")
    .get(address.accountId, address.deviceId);
  return row !== undefined && equalBytes(blob(row["upload_id"]), upload.uploadId);
}

/** How many KeyPackages for one use there would be after the upload. */
function oneTimeAfter(statements: Statements, address: DeviceAddress, upload: KeyPackageUploadRow): number {
  if (upload.replace) return new Set(upload.keyPackages.map(({ reference }) => toHex(reference))).size;
  const stored = statements
    .prepare("SELECT reference FROM key_packages WHERE account_id = ? AND device_id = ? AND last_resort = 0")
    .all(address.accountId, address.deviceId)
    .map((row) => toHex(blob(row["reference"])));
  return new Set([...stored, ...upload.keyPackages.map(({ reference }) => toHex(reference))]).size;
}

function insert(
  statements: Statements,
  address: DeviceAddress,
  keyPackage: StoredKeyPackage,
  lastResort: 0 | 1,
): void {
  statements
    .prepare("INSERT INTO key_packages VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
    .run(
      address.accountId,
      address.deviceId,
      keyPackage.reference,
      lastResort,
      keyPackage.expiresAtMs,
      keyPackage.message,
    );
}

function takeOne(statements: Statements, address: DeviceAddress): Bytes | undefined {
  const row = statements
    .prepare(
      `DELETE FROM key_packages WHERE rowid =
         (SELECT rowid FROM key_packages WHERE account_id = ? AND device_id = ? AND last_resort = 0
          ORDER BY expires_at_ms LIMIT 1)
       RETURNING message`,
    )
    .get(address.accountId, address.deviceId);
  return row && blob(row["message"]);
}

function loadLastResort(statements: Statements, address: DeviceAddress): Bytes | undefined {
  const row = statements
    .prepare("SELECT message FROM key_packages WHERE account_id = ? AND device_id = ? AND last_resort = 1")
    .get(address.accountId, address.deviceId);
  return row && blob(row["message"]);
}

function stockOf(statements: Statements, address: DeviceAddress, usableUntilMs: number): KeyPackageStock {
  const count = statements.prepare(
    `SELECT count(*) AS n FROM key_packages
     WHERE account_id = ? AND device_id = ? AND last_resort = ? AND expires_at_ms > ?`,
  );
  const { accountId, deviceId } = address;
  return {
    keyPackages: count.get(accountId, deviceId, 0, usableUntilMs)!["n"] as number,
    lastResort: count.get(accountId, deviceId, 1, usableUntilMs)!["n"] === 1,
  };
}

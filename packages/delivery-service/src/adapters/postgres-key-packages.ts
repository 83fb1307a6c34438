import { type DeviceAddress, formatAddress } from "@murmuration/base";
import type {
  ClaimedKeyPackageRow,
  KeyPackageStock,
  KeyPackageStore,
  KeyPackageUploadRow,
} from "../ports/key-packages.ts";
import type { PostgresDatabase, PostgresRow } from "./postgres-database.ts";
import { bytea } from "./postgres-values.ts";

const OWNER = "account_id = $1 AND device_id = $2";
/** Waits for whoever holds the device's row; the statement after it sees what that one did. */
const LOCK = `SELECT FROM key_package_uploads WHERE ${OWNER} FOR NO KEY UPDATE`;
const LOCK_OR_MAKE = `INSERT INTO key_package_uploads (account_id, device_id) VALUES ($1, $2)
  ON CONFLICT (account_id, device_id) DO UPDATE SET upload_id = key_package_uploads.upload_id`;
const STOCK = `
  (SELECT count(*) FROM key_packages WHERE ${OWNER} AND NOT last_resort AND expires_at_ms > $3::bigint) AS one_time,
  EXISTS (SELECT FROM key_packages WHERE ${OWNER} AND last_resort AND expires_at_ms > $3::bigint) AS last_resort`;
const LAST_RESORT = `SELECT message FROM key_packages WHERE ${OWNER} AND last_resort AND expires_at_ms > $3::bigint`;

const CLAIM = `
  WITH expired AS (DELETE FROM key_packages WHERE ${OWNER} AND expires_at_ms <= $3::bigint),
  taken AS (
    DELETE FROM key_packages WHERE ${OWNER} AND reference = (
      SELECT reference FROM key_packages WHERE ${OWNER} AND NOT last_resort AND expires_at_ms > $3::bigint
      ORDER BY expires_at_ms LIMIT 1
    ) RETURNING message
  )
  SELECT (SELECT message FROM taken) AS taken, (${LAST_RESORT}) AS message, ${STOCK}`;
const LOOK = `SELECT NULL::bytea AS taken, (${LAST_RESORT}) AS message, ${STOCK}`;

const VERDICT = `
  SELECT upload_id IS NOT DISTINCT FROM $3 AS repeated, (
    SELECT count(*) FROM (
      SELECT reference FROM key_packages WHERE ${OWNER} AND NOT last_resort AND NOT $4::boolean
      UNION SELECT unnest($5::bytea[])
    ) AS stored_and_new
  ) AS after FROM key_package_uploads WHERE ${OWNER}`;
const INSERT = `
  INSERT INTO key_packages SELECT $1, $2, new.reference, $3, new.expires_at_ms, new.message
  FROM unnest($4::bytea[], $5::bigint[], $6::bytea[]) AS new (reference, expires_at_ms, message)
  ON CONFLICT DO NOTHING`;

/**
 * {@link KeyPackageStore} on PostgreSQL. A claim holds the device's row until its COMMIT, as {@link PostgresKeyStore} does
 * and for the same reasons. A claim is one round trip and the COMMIT, one that uses no KeyPackage up only reads; an upload
 * is two round trips and the COMMIT.
 */
export class PostgresKeyPackageStore implements KeyPackageStore {
  private readonly database: PostgresDatabase;

  constructor(database: PostgresDatabase) {
    this.database = database;
  }

  upload(
    address: DeviceAddress,
    upload: KeyPackageUploadRow,
    maxStored: number,
  ): Promise<"stored" | "repeated" | "too-many"> {
    const { accountId, deviceId } = address;
    const { keyPackages, lastResort, replace, uploadId } = upload;
    return this.database.writeRowsOf(formatAddress(address), async (statements) => {
      const references = keyPackages.map(({ reference }) => reference);
      const [, verdict] = await Promise.all([
        statements.run(LOCK_OR_MAKE, accountId, deviceId),
        statements.get(VERDICT, accountId, deviceId, uploadId, replace, references),
      ]);
      if (verdict!["repeated"]) return "repeated";
      if ((verdict!["after"] as number) > maxStored) return "too-many";
      const remove = (which: string) =>
        statements.run(`DELETE FROM key_packages WHERE ${OWNER} AND ${which}`, accountId, deviceId);
      const insert = (isLastResort: boolean, rows: typeof keyPackages) =>
        statements.run(
          INSERT,
          accountId,
          deviceId,
          isLastResort,
          rows.map(({ reference }) => reference),
          rows.map(({ expiresAtMs }) => expiresAtMs),
          rows.map(({ message }) => message),
        );
      await Promise.all([
        statements.run(
          `UPDATE key_package_uploads SET upload_id = $3 WHERE ${OWNER}`,
          accountId,
          deviceId,
          uploadId,
        ),
        ...(replace ? [remove("true")] : []),
        insert(false, keyPackages),
        ...(lastResort === undefined ? [] : [remove("last_resort"), insert(true, [lastResort])]),
      ]);
      return "stored";
    });
  }

  async claim(
    address: DeviceAddress,
    oneTime: boolean,
    usableUntilMs: number,
  ): Promise<ClaimedKeyPackageRow | undefined> {
    const values = [address.accountId, address.deviceId, usableUntilMs] as const;
    const row = oneTime
      ? await this.database.writeRowsOf(formatAddress(address), async (statements) => {
          const [, claimed] = await Promise.all([
            statements.get(LOCK, address.accountId, address.deviceId),
            statements.get(CLAIM, ...values),
          ]);
          return claimed!;
        })
      : (await this.database.read((statements) => statements.get(LOOK, ...values)))!;
    const taken = row["taken"] !== null;
    const message = taken ? row["taken"] : row["message"];
    if (message === null) return undefined;
    const stock = toStock(row);
    // Counted before the claim: a statement does not see what it deletes.
    return { message: bytea(message), left: { ...stock, keyPackages: stock.keyPackages - (taken ? 1 : 0) } };
  }

  count(address: DeviceAddress, usableUntilMs: number): Promise<KeyPackageStock> {
    return this.database.read(async (statements) =>
      toStock((await statements.get(`SELECT ${STOCK}`, address.accountId, address.deviceId, usableUntilMs))!),
    );
  }

  async remove(address: DeviceAddress): Promise<void> {
    await this.database.writeRowsOf(formatAddress(address), (statements) =>
      statements.run(`DELETE FROM key_package_uploads WHERE ${OWNER}`, address.accountId, address.deviceId),
    );
  }

  /** What a claim holds is left to it: it is deleted on the way. */
  expire(beforeMs: number, limit: number): Promise<number> {
    return this.database.write("expire key packages", (statements) =>
      statements.run(
        `WITH old AS (
           SELECT account_id, device_id, reference FROM key_packages WHERE expires_at_ms < $1
           ORDER BY expires_at_ms LIMIT $2 FOR UPDATE SKIP LOCKED
         ) DELETE FROM key_packages k USING old
         WHERE (k.account_id, k.device_id, k.reference) = (old.account_id, old.device_id, old.reference)`,
        beforeMs,
        limit,
      ),
    );
  }
}

function toStock(row: PostgresRow): KeyPackageStock {
  return { keyPackages: row["one_time"] as number, lastResort: row["last_resort"] as boolean };
}

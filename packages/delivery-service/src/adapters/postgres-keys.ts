import { type DeviceAddress, formatAddress } from "@murmuration/base";
import type { ClaimedKeys, KeyCounts, KeyStore, KeyUpload, SignedPublicPreKey } from "../ports/keys.ts";
import type { PostgresDatabase, PostgresRow } from "./postgres-database.ts";
import { bytea } from "./postgres-values.ts";

const OWNER = "account_id = $1 AND device_id = $2";
const COUNTS = `
  (SELECT count(*) FROM one_time_keys WHERE ${OWNER} AND kind = 'ec') AS pre_keys,
  (SELECT count(*) FROM one_time_keys WHERE ${OWNER} AND kind = 'kyber') AS kyber_pre_keys`;
const SET = `signed_id, signed_key, signed_signature, last_resort_id, last_resort_key, last_resort_signature`;

/** Waits for whoever holds the set; the statement after it sees what that one did. */
const LOCK = `SELECT FROM key_sets WHERE ${OWNER} FOR NO KEY UPDATE`;
const LOCK_OR_MAKE = `INSERT INTO key_sets (account_id, device_id) VALUES ($1, $2)
  ON CONFLICT (account_id, device_id) DO UPDATE SET upload_id = key_sets.upload_id`;

/** An id that is stored already is replaced, and a part of the set that the upload leaves out keeps its value. */
const UPLOAD = `
  WITH new_keys AS (
    SELECT 'ec' AS kind, *, NULL::bytea FROM unnest($10::integer[], $11::bytea[]) AS ec (key_id, public_key)
    UNION ALL
    SELECT 'kyber', * FROM unnest($12::integer[], $13::bytea[], $14::bytea[]) AS kyber (key_id, public_key, signature)
  ), after AS (
    SELECT count(*) AS keys FROM (
      SELECT kind, key_id FROM one_time_keys WHERE ${OWNER} AND NOT $16::boolean
      UNION SELECT kind, key_id FROM new_keys
    ) AS stored_and_new GROUP BY kind
  ), verdict AS (
    SELECT CASE
      WHEN upload_id = $3 THEN 'repeated'
      WHEN EXISTS (SELECT FROM after WHERE keys > $15::bigint) THEN 'too-many'
      ELSE 'stored'
    END AS outcome FROM key_sets WHERE ${OWNER}
  ), set AS (
    UPDATE key_sets SET
      upload_id = $3,
      signed_id = coalesce($4, signed_id),
      signed_key = coalesce($5, signed_key),
      signed_signature = coalesce($6, signed_signature),
      last_resort_id = coalesce($7, last_resort_id),
      last_resort_key = coalesce($8, last_resort_key),
      last_resort_signature = coalesce($9, last_resort_signature)
    FROM verdict WHERE ${OWNER} AND outcome = 'stored'
  ), gone AS (
    DELETE FROM one_time_keys USING verdict WHERE ${OWNER} AND $16::boolean AND outcome = 'stored'
      AND (kind, key_id) NOT IN (SELECT kind, key_id FROM new_keys)
  ), keys AS (
    INSERT INTO one_time_keys SELECT $1, $2, new_keys.* FROM new_keys, verdict WHERE outcome = 'stored'
    ON CONFLICT (account_id, device_id, kind, key_id)
    DO UPDATE SET public_key = excluded.public_key, signature = excluded.signature
  )
  SELECT outcome FROM verdict`;

/** Takes the oldest key of a kind, where there is one and `condition` holds of the set. */
const take = (kind: "ec" | "kyber", condition: string) => `
  DELETE FROM one_time_keys USING owner WHERE ${OWNER} AND kind = '${kind}' AND ${condition} AND key_id =
    (SELECT min(key_id) FROM one_time_keys WHERE ${OWNER} AND kind = '${kind}')
  RETURNING key_id, public_key, signature`;
const CLAIM = `
  WITH owner AS (SELECT ${SET} FROM key_sets WHERE ${OWNER} AND signed_id IS NOT NULL),
  kyber AS (${take("kyber", "true")}),
  ec AS (${take("ec", "(last_resort_id IS NOT NULL OR EXISTS (SELECT FROM kyber))")})
  SELECT owner.*,
    kyber.key_id AS kyber_id, kyber.public_key AS kyber_key, kyber.signature AS kyber_signature,
    ec.key_id AS ec_id, ec.public_key AS ec_key, ${COUNTS}
  FROM owner LEFT JOIN kyber ON true LEFT JOIN ec ON true`;
const LOOK = `SELECT ${SET}, ${COUNTS} FROM key_sets WHERE ${OWNER} AND signed_id IS NOT NULL`;

/**
 * {@link KeyStore} on PostgreSQL. A claim holds the row of the device's set until its COMMIT: claims of one device go one
 * after the other, on whatever node. None is answered with the last-resort key because another one, which may yet be
 * undone, holds the last one-time key, as it would be with SKIP LOCKED; and what is left is counted without a gap, so that
 * the notice of a low stock is not missed. A claim is one round trip and the COMMIT; one that uses no key up only reads.
 */
export class PostgresKeyStore implements KeyStore {
  private readonly database: PostgresDatabase;

  constructor(database: PostgresDatabase) {
    this.database = database;
  }

  upload(
    address: DeviceAddress,
    upload: KeyUpload,
    maxOneTime: number,
  ): Promise<"stored" | "repeated" | "too-many"> {
    const { accountId, deviceId } = address;
    const { kyberPreKeys, lastResortKyberPreKey: lastResort, preKeys, signedPreKey: signed } = upload;
    return this.database.writeRowsOf(formatAddress(address), async (statements) => {
      const [, row] = await Promise.all([
        statements.run(LOCK_OR_MAKE, accountId, deviceId),
        statements.get(
          UPLOAD,
          accountId,
          deviceId,
          upload.uploadId,
          signed?.id ?? null,
          signed?.publicKey ?? null,
          signed?.signature ?? null,
          lastResort?.id ?? null,
          lastResort?.publicKey ?? null,
          lastResort?.signature ?? null,
          preKeys.map((key) => key.id),
          preKeys.map((key) => key.publicKey),
          kyberPreKeys.map((key) => key.id),
          kyberPreKeys.map((key) => key.publicKey),
          kyberPreKeys.map((key) => key.signature),
          maxOneTime,
          upload.replace,
        ),
      ]);
      return row!["outcome"] as "stored" | "repeated" | "too-many";
    });
  }

  async claim(address: DeviceAddress, oneTime: boolean): Promise<ClaimedKeys | undefined> {
    const { accountId, deviceId } = address;
    const row = oneTime
      ? await this.database.writeRowsOf(formatAddress(address), async (statements) => {
          const [, claimed] = await Promise.all([
            statements.get(LOCK, accountId, deviceId),
            statements.get(CLAIM, accountId, deviceId),
          ]);
          return claimed;
        })
      : await this.database.read((statements) => statements.get(LOOK, accountId, deviceId));
    return row && toClaimed(row);
  }

  count(address: DeviceAddress): Promise<KeyCounts> {
    return this.database.read(async (statements) => {
      const row = await statements.get(`SELECT ${COUNTS}`, address.accountId, address.deviceId);
      return toCounts(row!);
    });
  }

  async remove(address: DeviceAddress): Promise<void> {
    await this.database.writeRowsOf(formatAddress(address), (statements) =>
      statements.run(`DELETE FROM key_sets WHERE ${OWNER}`, address.accountId, address.deviceId),
    );
  }
}

function toClaimed(row: PostgresRow): ClaimedKeys | undefined {
  const oneTime = signedKey(row, "kyber");
  const kyberPreKey = oneTime ?? signedKey(row, "last_resort");
  if (kyberPreKey === undefined) return undefined;
  const id = row["ec_id"] ?? null;
  // Counted before the claim: a statement does not see what it deletes.
  const { kyberPreKeys, preKeys } = toCounts(row);
  return {
    signedPreKey: signedKey(row, "signed")!,
    preKey: id === null ? undefined : { id: id as number, publicKey: bytea(row["ec_key"]) },
    kyberPreKey,
    left: {
      preKeys: preKeys - (id === null ? 0 : 1),
      kyberPreKeys: kyberPreKeys - (oneTime === undefined ? 0 : 1),
    },
  };
}

function signedKey(row: PostgresRow, name: string): SignedPublicPreKey | undefined {
  const id = row[`${name}_id`] ?? null;
  if (id === null) return undefined;
  return {
    id: id as number,
    publicKey: bytea(row[`${name}_key`]),
    signature: bytea(row[`${name}_signature`]),
  };
}

function toCounts(row: PostgresRow): KeyCounts {
  return { preKeys: row["pre_keys"] as number, kyberPreKeys: row["kyber_pre_keys"] as number };
}

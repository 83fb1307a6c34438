import { type DeviceAddress, equalBytes } from "@murmuration/base";
import type {
  ClaimedKeys,
  KeyCounts,
  KeyStore,
  KeyUpload,
  PublicPreKey,
  SignedPublicPreKey,
} from "../ports/keys.ts";
import { blob, type SqliteDatabase, type Statements } from "./sqlite-database.ts";

type Row = Record<string, unknown>;

/** {@link KeyStore} on SQLite. A claim reads and deletes in one transaction. */
export class SqliteKeyStore implements KeyStore {
  private readonly database: SqliteDatabase;

  constructor(database: SqliteDatabase) {
    this.database = database;
  }

  upload(
    address: DeviceAddress,
    upload: KeyUpload,
    maxOneTime: number,
  ): Promise<"stored" | "repeated" | "too-many"> {
    return this.database.write((statements) => {
      const set = loadSet(statements, address);
      if (set !== undefined && equalBytes(blob(set["upload_id"]), upload.uploadId)) return "repeated";
      const kept = (kind: "ec" | "kyber") =>
        upload.replace ? new Set<number>() : idsOf(statements, address, kind);
      const [ec, kyber] = [kept("ec"), kept("kyber")];
      for (const key of upload.preKeys) ec.add(key.id);
      for (const key of upload.kyberPreKeys) kyber.add(key.id);
      if (ec.size > maxOneTime || kyber.size > maxOneTime) return "too-many";
      upsertSet(statements, address, upload);
      if (upload.replace) {
        statements
          .prepare("DELETE FROM one_time_keys WHERE account_id = ? AND device_id = ?")
          .run(address.accountId, address.deviceId);
      }
      const insert = statements.prepare("INSERT OR REPLACE INTO one_time_keys VALUES (?, ?, ?, ?, ?, ?)");
      for (const key of upload.preKeys) {
        insert.run(address.accountId, address.deviceId, "ec", key.id, key.publicKey, null);
      }
      for (const key of upload.kyberPreKeys) {
        insert.run(address.accountId, address.deviceId, "kyber", key.id, key.publicKey, key.signature);
      }
      return "stored";
    });
  }

  claim(address: DeviceAddress, oneTime: boolean): Promise<ClaimedKeys | undefined> {
    return this.database.write((statements) => {
      const set = loadSet(statements, address);
      if (set === undefined || set["signed_id"] === null) return undefined;
      const kyber = oneTime ? takeOne(statements, address, "kyber") : undefined;
      const kyberPreKey =
        kyber !== undefined
          ? signedKey(kyber["key_id"], kyber["public_key"], kyber["signature"])
          : set["last_resort_id"] !== null
            ? signedKey(set["last_resort_id"], set["last_resort_key"], set["last_resort_signature"])
            : undefined;
      if (kyberPreKey === undefined) return undefined;
      const ec = oneTime ? takeOne(statements, address, "ec") : undefined;
      const preKey: PublicPreKey | undefined =
        ec === undefined ? undefined : { id: ec["key_id"] as number, publicKey: blob(ec["public_key"]) };
      return {
        signedPreKey: signedKey(set["signed_id"], set["signed_key"], set["signed_signature"]),
        preKey,
        kyberPreKey,
        left: countKeys(statements, address),
      };
    });
  }

  count(address: DeviceAddress): Promise<KeyCounts> {
    return this.database.read((statements) => countKeys(statements, address));
  }

  async remove(address: DeviceAddress): Promise<void> {
    await this.database.write((statements) => {
      statements
        .prepare("DELETE FROM key_sets WHERE account_id = ? AND device_id = ?")
        .run(address.accountId, address.deviceId);
    });
  }
}

function loadSet(statements: Statements, address: DeviceAddress): Row | undefined {
  return statements
    .prepare("SELECT * FROM key_sets WHERE account_id = ? AND device_id = ?")
    .get(address.accountId, address.deviceId);
}

/** A part that the upload leaves out keeps its stored value. */
function upsertSet(statements: Statements, address: DeviceAddress, upload: KeyUpload): void {
  const signed = upload.signedPreKey;
  const lastResort = upload.lastResortKyberPreKey;
  statements
    .prepare(
      `INSERT INTO key_sets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
         upload_id = excluded.upload_id,
         signed_id = ifnull(excluded.signed_id, signed_id),
         signed_key = ifnull(excluded.signed_key, signed_key),
         signed_signature = ifnull(excluded.signed_signature, signed_signature),
         last_resort_id = ifnull(excluded.last_resort_id, last_resort_id),
         last_resort_key = ifnull(excluded.last_resort_key, last_resort_key),
         last_resort_signature = ifnull(excluded.last_resort_signature, last_resort_signature)`,
    )
    .run(
      address.accountId,
      address.deviceId,
      upload.uploadId,
      signed?.id ?? null,
      signed?.publicKey ?? null,
      signed?.signature ?? null,
      lastResort?.id ?? null,
      lastResort?.publicKey ?? null,
      lastResort?.signature ?? null,
    );
}

function idsOf(statements: Statements, address: DeviceAddress, kind: "ec" | "kyber"): Set<number> {
  const rows = statements
    .prepare("SELECT key_id FROM one_time_keys WHERE account_id = ? AND device_id = ? AND kind = ?")
    .all(address.accountId, address.deviceId, kind);
  return new Set(rows.map((row) => row["key_id"] as number));
}

function takeOne(statements: Statements, address: DeviceAddress, kind: "ec" | "kyber"): Row | undefined {
  return statements
    .prepare(
      `DELETE FROM one_time_keys WHERE account_id = ?1 AND device_id = ?2 AND kind = ?3 AND key_id =
         (SELECT min(key_id) FROM one_time_keys WHERE account_id = ?1 AND device_id = ?2 AND kind = ?3)
       RETURNING key_id, public_key, signature`,
    )
    .get(address.accountId, address.deviceId, kind);
}

function countKeys(statements: Statements, address: DeviceAddress): KeyCounts {
  const count = statements.prepare(
    "SELECT count(*) AS n FROM one_time_keys WHERE account_id = ? AND device_id = ? AND kind = ?",
  );
  return {
    preKeys: count.get(address.accountId, address.deviceId, "ec")!["n"] as number,
    kyberPreKeys: count.get(address.accountId, address.deviceId, "kyber")!["n"] as number,
  };
}

function signedKey(id: unknown, publicKey: unknown, signature: unknown): SignedPublicPreKey {
  return { id: id as number, publicKey: blob(publicKey), signature: blob(signature) };
}

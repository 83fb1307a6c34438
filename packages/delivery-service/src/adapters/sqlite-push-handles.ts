import type { Bytes, DeviceAddress, GroupId } from "@murmuration/base";
import type { LeafHandle, PushHandleStore } from "../ports/push-handles.ts";
import { blob, type SqliteDatabase } from "./sqlite-database.ts";

/** {@link PushHandleStore} on SQLite. */
export class SqlitePushHandleStore implements PushHandleStore {
  private readonly database: SqliteDatabase;

  constructor(database: SqliteDatabase) {
    this.database = database;
  }

  async setMailbox({ accountId, deviceId }: DeviceAddress, handle: Bytes, day: number): Promise<void> {
    await this.database.write((statements) => {
      statements
        .prepare("INSERT OR REPLACE INTO mailbox_push_handles VALUES (?, ?, ?, ?)")
        .run(accountId, deviceId, handle, day);
    });
  }

  async removeMailbox({ accountId, deviceId }: DeviceAddress): Promise<void> {
    await this.database.write((statements) => {
      statements
        .prepare("DELETE FROM mailbox_push_handles WHERE account_id = ? AND device_id = ?")
        .run(accountId, deviceId);
    });
  }

  mailboxes(addresses: readonly DeviceAddress[]): Promise<readonly (Bytes | undefined)[]> {
    return this.database.read((statements) => {
      const select = statements.prepare(
        "SELECT handle FROM mailbox_push_handles WHERE account_id = ? AND device_id = ?",
      );
      return addresses.map(({ accountId, deviceId }) => {
        const row = select.get(accountId, deviceId);
        return row && blob(row["handle"]);
      });
    });
  }

  async setLeaf(groupId: GroupId, { signatureKey, handle }: LeafHandle, day: number): Promise<void> {
    await this.database.write((statements) => {
      statements
        .prepare("INSERT OR REPLACE INTO leaf_push_handles VALUES (?, ?, ?, ?)")
        .run(groupId, signatureKey, handle, day);
    });
  }

  async removeLeaf(groupId: GroupId, signatureKey: Bytes): Promise<void> {
    await this.database.write((statements) => {
      statements
        .prepare("DELETE FROM leaf_push_handles WHERE group_id = ? AND signature_key = ?")
        .run(groupId, signatureKey);
    });
  }

  leaves(groupId: GroupId, after: Bytes | undefined, limit: number): Promise<readonly LeafHandle[]> {
    return this.database.read((statements) =>
      statements
        .prepare(
          `SELECT signature_key, handle FROM leaf_push_handles
           WHERE group_id = ? AND signature_key > ? ORDER BY signature_key LIMIT ?`,
        )
        .all(groupId, after ?? new Uint8Array(0), limit)
        .map((row) => ({ signatureKey: blob(row["signature_key"]), handle: blob(row["handle"]) })),
    );
  }

  expire(day: number, limit: number): Promise<number> {
    return this.database.write((statements) => {
      const mailboxes = statements
        .prepare(
          `DELETE FROM mailbox_push_handles WHERE (account_id, device_id) IN
             (SELECT account_id, device_id FROM mailbox_push_handles WHERE set_day < ? LIMIT ?)`,
        )
        .run(day, limit);
      const leaves = statements
        .prepare(
          `DELETE FROM leaf_push_handles WHERE (group_id, signature_key) IN
             (SELECT group_id, signature_key FROM leaf_push_handles WHERE set_day < ? LIMIT ?)`,
        )
        .run(day, limit);
      return Number(mailboxes.changes) + Number(leaves.changes);
    });
  }
}

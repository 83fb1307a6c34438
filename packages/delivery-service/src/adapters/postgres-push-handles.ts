import { type Bytes, type DeviceAddress, formatAddress, type GroupId } from "@murmuration/base";
import type { LeafHandle, PushHandleStore } from "../ports/push-handles.ts";
import type { PostgresDatabase } from "./postgres-database.ts";
import { bytea } from "./postgres-values.ts";

/** {@link PushHandleStore} on PostgreSQL. */
export class PostgresPushHandleStore implements PushHandleStore {
  private readonly database: PostgresDatabase;

  constructor(database: PostgresDatabase) {
    this.database = database;
  }

  async setMailbox(address: DeviceAddress, handle: Bytes, day: number): Promise<void> {
    await this.database.write(formatAddress(address), (statements) =>
      statements.run(
        `INSERT INTO mailbox_push_handles VALUES ($1, $2, $3, $4) ON CONFLICT (account_id, device_id)
         DO UPDATE SET handle = excluded.handle, set_day = excluded.set_day`,
        address.accountId,
        address.deviceId,
        handle,
        day,
      ),
    );
  }

  async removeMailbox(address: DeviceAddress): Promise<void> {
    await this.database.write(formatAddress(address), (statements) =>
      statements.run(
        "DELETE FROM mailbox_push_handles WHERE account_id = $1 AND device_id = $2",
        address.accountId,
        address.deviceId,
      ),
    );
  }

  mailboxes(addresses: readonly DeviceAddress[]): Promise<readonly (Bytes | undefined)[]> {
    return this.database.read(async (statements) => {
      const rows = await statements.all(
        `SELECT asked.place, handle FROM unnest($1::bytea[], $2::smallint[])
           WITH ORDINALITY AS asked (account_id, device_id, place)
         JOIN mailbox_push_handles USING (account_id, device_id)`,
        addresses.map(({ accountId }) => accountId),
        addresses.map(({ deviceId }) => deviceId),
      );
      const found = new Map(rows.map((row) => [row["place"] as number, bytea(row["handle"])]));
      return addresses.map((_, index) => found.get(index + 1));
    });
  }

  async setLeaf(groupId: GroupId, { signatureKey, handle }: LeafHandle, day: number): Promise<void> {
    await this.database.write(groupId, (statements) =>
      statements.run(
        `INSERT INTO leaf_push_handles VALUES ($1, $2, $3, $4) ON CONFLICT (group_id, signature_key)
         DO UPDATE SET handle = excluded.handle, set_day = excluded.set_day`,
        groupId,
        signatureKey,
        handle,
        day,
      ),
    );
  }

  async removeLeaf(groupId: GroupId, signatureKey: Bytes): Promise<void> {
    await this.database.write(groupId, (statements) =>
      statements.run(
        "DELETE FROM leaf_push_handles WHERE group_id = $1 AND signature_key = $2",
        groupId,
        signatureKey,
      ),
    );
  }

  leaves(groupId: GroupId, after: Bytes | undefined, limit: number): Promise<readonly LeafHandle[]> {
    return this.database.read(async (statements) => {
      const rows = await statements.all(
        `SELECT signature_key, handle FROM leaf_push_handles
         WHERE group_id = $1 AND signature_key > $2 ORDER BY signature_key LIMIT $3`,
        groupId,
        after ?? new Uint8Array(0),
        limit,
      );
      return rows.map((row) => ({ signatureKey: bytea(row["signature_key"]), handle: bytea(row["handle"]) }));
    });
  }

  /** Rows that another node is about to change are left for the next run. */
  expire(day: number, limit: number): Promise<number> {
    return this.database.write("push-handles", async (statements) => {
      const mailboxes = await statements.run(
        `DELETE FROM mailbox_push_handles WHERE ctid IN
           (SELECT ctid FROM mailbox_push_handles WHERE set_day < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`,
        day,
        limit,
      );
      const leaves = await statements.run(
        `DELETE FROM leaf_push_handles WHERE ctid IN
           (SELECT ctid FROM leaf_push_handles WHERE set_day < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)`,
        day,
        limit,
      );
      return mailboxes + leaves;
    });
  }
}

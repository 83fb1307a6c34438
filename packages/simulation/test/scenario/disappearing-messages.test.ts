import { statSync } from "node:fs";
import type { Storage } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";

/** Every value of every row of a decrypted database, as one buffer. */
function decryptedExport(storage: Storage): Buffer {
  const tables = storage.all("SELECT name FROM sqlite_master WHERE type = 'table'");
  const parts: Buffer[] = [];
  for (const { name } of tables) {
    for (const row of storage.all(`SELECT * FROM "${String(name)}"`)) {
      for (const value of Object.values(row)) {
        if (typeof value === "string") parts.push(Buffer.from(value));
        else if (value instanceof Uint8Array) parts.push(Buffer.from(value));
      }
    }
  }
  return Buffer.concat(parts);
}

test("a disappearing message goes from both databases and their logs when its time has come", async () => {
  await using world = await World.start();
  const stores = new Map<string, Storage>();
  /** Bytes of the write-ahead log right after each erasure. */
  const logBytes: number[] = [];
  const join = async (name: string) => {
    const device: SimulatedDevice = await world.join(name, {
      wrapStorage: (storage) => {
        stores.set(name, storage);
        const erase = storage.eraseDeleted.bind(storage);
        storage.eraseDeleted = () => {
          erase();
          logBytes.push(statSync(`${device.path}-wal`).size);
        };
        return storage;
      },
    });
    return device;
  };
  const [alice, bob] = [await join("Alice"), await join("Bob")];
  await introduce(alice, bob);
  const secrets = ["this-will-be-gone-in-a-moment", "and-so-will-what-it-was-changed-to"] as const;
  const holds = (storage: Storage, secret: string): boolean => decryptedExport(storage).includes(secret);
  const toBob = alice.client.conversations.direct(bob.id);
  await toBob.setExpiry(3);
  await until(() => bob.client.conversations.get(alice.id)?.expireAfterSeconds === 3);
  const { messageId } = await toBob.send({ text: secrets[0] });
  await until(() => textsOf(bob.client, alice.id).includes(secrets[0]));
  for (const [name, storage] of stores) expect(holds(storage, secrets[0]), name).toBe(true);
  await toBob.edit(messageId, secrets[1]);
  await until(() => textsOf(bob.client, alice.id).includes(secrets[1]));
  for (const [name, storage] of stores) expect(holds(storage, secrets[1]), name).toBe(true);

  const onBob = bob.client.conversations.get(alice.id)!;
  await onBob.markRead(onBob.history().at(-1)!.historyId);
  await until(() => textsOf(bob.client, alice.id).length === 0 && textsOf(alice.client, bob.id).length === 0);
  for (const [name, storage] of stores)
    for (const secret of secrets) expect(holds(storage, secret), `${name}: ${secret}`).toBe(false);
  expect(logBytes).toEqual([0, 0]);
  for (const storage of stores.values())
    expect(storage.get("PRAGMA secure_delete")).toEqual({ secure_delete: 1 });
  const events = bob.client.events.read(0, 10_000);
  expect(events.some((event) => event.kind === "line-removed")).toBe(true);
  for (const secret of secrets) expect(JSON.stringify(events)).not.toContain(secret);
});

import { accountId, type Bytes, type DeviceAddress, deviceId, groupId } from "@murmuration/base";
import type { Group } from "@murmuration/mls-groups";
import { beforeEach, describe, expect, test } from "vitest";
import { openSqlcipher } from "../../src/index.ts";
import type { Context } from "../../src/shell/context.ts";
import { Migrations } from "../../src/shell/migration/migrations.ts";
import { KeptStorage } from "../../src/store/kept-storage.ts";
import { MigrationStore } from "../../src/store/migration.ts";
import { MlsStore } from "../../src/store/mls.ts";
import { prepareSchema } from "../../src/store/schema.ts";

const filled = (value: number, length = 32): Bytes => new Uint8Array(length).fill(value);
const id = groupId(filled(9, 16));
const device = (account: number, number = 1): DeviceAddress => ({
  accountId: accountId(filled(account, 16)),
  deviceId: deviceId(number),
});
const [creator, bob, carol] = [device(1), device(2), device(3)];
const ours = (epoch: number) => filled(epoch);

let migration: MigrationStore;
let mls: MlsStore;
let says: (who: DeviceAddress, epoch: number, authenticator: Bytes, generation?: number) => void;
let takesCommitTo: (epoch: number) => void;

const opened = (own: DeviceAddress) =>
  new Migrations(
    { migration, mls, own, isOwn: () => false, now: () => 0 } as unknown as Context,
    {} as never,
    {} as never,
    {} as never,
    { wake: () => {}, behind: () => {}, isCaughtUp: () => true, caughtUp: async () => {} },
  );

beforeEach(() => {
  const storage = openSqlcipher({ path: ":memory:", key: filled(0) });
  prepareSchema(storage);
  const kept = new KeptStorage(storage);
  migration = new MigrationStore(kept);
  mls = new MlsStore(kept);
  mls.putGroup(id, { state: "active", cursor: 0, slot: 0, updatedAtMs: 0 });
  migration.saveRecord(id, { state: "preparing", generation: 2, creator, switchPoint: undefined });
  const migrations = opened(creator);
  says = (who, epoch, authenticator, generation = 2) =>
    migrations.receiveReady(id, who, { generation, epoch, authenticator });
  takesCommitTo = (epoch) => {
    mls.putEpoch(id, epoch, ours(epoch));
    migrations.committed(id, { epoch: BigInt(epoch) } as Group, []);
  };
  for (const epoch of [1, 2, 3]) takesCommitTo(epoch);
});

const ready = () => migration.ready(id).map(({ accountId: [account] }) => account);

describe("a device that says it is ready", () => {
  test("is, where the epoch that it names is the creator's own, by its authenticator", () => {
    says(bob, 3, ours(3));
    says(carol, 2, ours(2));
    expect(ready()).toEqual([2, 3]);
  });

  test("is not where it was shown another group: the same number of an epoch, and another authenticator", () => {
    says(bob, 3, ours(4));
    says(carol, 2, ours(3));
    takesCommitTo(4);
    expect(ready()).toEqual([]);
    // Once it names the creator's it is.
    says(bob, 4, ours(4));
    expect(ready()).toEqual([2]);
  });

  test("is, once the epoch has come that it names, if that is the one: the mailbox may be faster than the log", () => {
    says(bob, 5, ours(5));
    says(carol, 6, ours(6));
    expect(ready()).toEqual([]);
    takesCommitTo(4);
    expect(ready()).toEqual([]);
    takesCommitTo(5);
    expect(ready()).toEqual([2]);
    takesCommitTo(6);
    expect(ready()).toEqual([2, 3]);
  });

  test("is not where the epoch has come and is another one, then or ever after", () => {
    says(bob, 4, ours(5));
    takesCommitTo(4);
    takesCommitTo(5);
    expect(ready()).toEqual([]);
  });

  test("is not where it speaks of another attempt, or to a device that does not prepare the move", () => {
    says(bob, 3, ours(3), 1);
    says(bob, 3, ours(3), 3);
    opened(carol).receiveReady(id, bob, { generation: 2, epoch: 3, authenticator: ours(3) });
    expect(ready()).toEqual([]);
  });
});

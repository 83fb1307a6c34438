import { type AccountId, accountId, type DeviceId } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { AccountStore, DeviceRecord, NewAccount } from "../../src/ports/accounts.ts";
import { engines, type OpenedEngine } from "../support/engines.ts";
import { random } from "../support/random.ts";

const device = (deviceId: number, lastSeenDay = 100): DeviceRecord => ({
  deviceId: deviceId as DeviceId,
  registrationId: 1 + deviceId,
  identityKey: random(33),
  tokenHash: random(32),
  lastSeenDay,
  hasKeys: false,
});

const account = (given: Partial<NewAccount> = {}): NewAccount => ({
  accountId: accountId(random(16)),
  accountIdentityKey: random(33),
  accessKeyHash: random(32),
  deviceList: { version: 1, bytes: random(200) },
  device: device(1),
  ...given,
});

const update = (id: AccountId, expectedVersion: number, added: DeviceRecord[], removed: number[] = []) => ({
  accountId: id,
  deviceList: { version: expectedVersion + 1, bytes: random(200) },
  expectedVersion,
  added,
  removed: removed as DeviceId[],
});

describe.each(engines)("account store on $name", (engine) => {
  let opened: OpenedEngine;
  let accounts: AccountStore;
  beforeEach(async () => {
    opened = await engine.open();
    accounts = opened.stores.accounts;
  });
  afterEach(() => opened.dispose());

  it("loads what was created, with an empty profile", async () => {
    const { device: first, ...rest } = account();
    expect(await accounts.create({ ...rest, device: first })).toBe("created");
    const loaded = { ...rest, profile: new Uint8Array(0), devices: [first] };
    expect(await accounts.load(rest.accountId)).toEqual(loaded);
    const unknown = accountId(random(16));
    expect(await accounts.loadMany([unknown, rest.accountId])).toEqual([undefined, loaded]);
  });

  it("an account id is given out once, also when two ask at the same time", async () => {
    const [a, b] = [account(), account()];
    const rival = { ...b, accountId: a.accountId };
    const outcomes = await Promise.all([accounts.create(a), accounts.create(rival)]);
    expect(outcomes).toEqual(["created", "exists"]);
    expect((await accounts.load(a.accountId))?.accountIdentityKey).toEqual(a.accountIdentityKey);
  });

  it("a deleted account is gone and its id is never given out again", async () => {
    const created = account();
    await accounts.create(created);
    expect(await accounts.delete(created.accountId, 101)).toBe("deleted");
    expect(await accounts.delete(created.accountId, 101)).toBe("unknown");
    expect(await accounts.load(created.accountId)).toBeUndefined();
    expect(await accounts.hasTombstone(created.accountId)).toBe(true);
    expect(await accounts.hasTombstone(accountId(random(16)))).toBe(false);
    expect(await accounts.create(created)).toBe("deleted");
  });

  it("a device list follows the one it was made from, or changes nothing", async () => {
    const { accountId: id } = account();
    await accounts.create(account({ accountId: id }));
    const second = update(id, 1, [device(2)]);
    expect(await accounts.updateDevices(second)).toBe("stored");
    expect(await accounts.updateDevices(update(id, 1, [device(3)]))).toBe("conflict");
    expect(await accounts.updateDevices(update(id, 2, [device(2)]))).toBe("conflict");
    expect((await accounts.load(id))?.deviceList).toEqual(second.deviceList);
    expect(await accounts.updateDevices(update(id, 2, [device(3)], [1]))).toBe("stored");
    expect((await accounts.load(id))?.devices.map((known) => known.deviceId)).toEqual([2, 3]);
    expect(await accounts.updateDevices(update(accountId(random(16)), 1, []))).toBe("unknown");
  });

  it("two next lists at the same time: one wins", async () => {
    const created = account();
    await accounts.create(created);
    const rivals = [2, 3].map((id) => accounts.updateDevices(update(created.accountId, 1, [device(id)])));
    expect((await Promise.all(rivals)).sort()).toEqual(["conflict", "stored"]);
    expect((await accounts.load(created.accountId))?.devices).toHaveLength(2);
  });

  it("replaces access key and profile together", async () => {
    const created = account();
    await accounts.create(created);
    const [hash, profile] = [random(32), random(100)];
    expect(await accounts.updateProfile(created.accountId, hash, profile)).toBe("stored");
    expect(await accounts.load(created.accountId)).toMatchObject({ accessKeyHash: hash, profile });
    expect(await accounts.updateProfile(accountId(random(16)), hash, profile)).toBe("unknown");
  });

  it("a device has keys from the moment they are marked", async () => {
    const created = account();
    await accounts.create(created);
    const marked = { accountId: created.accountId, deviceId: created.device.deviceId };
    await accounts.markKeys({ ...marked, deviceId: 9 as DeviceId });
    expect((await accounts.load(created.accountId))?.devices[0]?.hasKeys).toBe(false);
    await accounts.markKeys(marked);
    expect((await accounts.load(created.accountId))?.devices[0]?.hasKeys).toBe(true);
  });

  it("finds idle devices, spares those that came back, and buries an account without devices", async () => {
    const { accountId: id } = account();
    await accounts.create(account({ accountId: id, device: device(1, 50) }));
    await accounts.updateDevices(update(id, 1, [device(2, 60)]));
    const address = (deviceId: number) => ({ accountId: id, deviceId: deviceId as DeviceId });
    expect(await accounts.idleDevices(61, 10)).toEqual([address(1), address(2)]);
    expect(await accounts.idleDevices(61, 1)).toHaveLength(1);
    await accounts.touch(address(2), 70);
    await accounts.touch(address(2), 65);
    expect(await accounts.idleDevices(70, 10)).toEqual([address(1)]);
    expect(await accounts.removeIdleDevice(address(2), 70)).toBe("kept");
    expect(await accounts.removeIdleDevice(address(1), 70)).toBe("removed");
    expect((await accounts.load(id))?.devices.map((known) => known.deviceId)).toEqual([2]);
    expect(await accounts.removeIdleDevice(address(2), 71)).toBe("removed");
    expect(await accounts.load(id)).toBeUndefined();
    expect(await accounts.hasTombstone(id)).toBe(true);
  });
});

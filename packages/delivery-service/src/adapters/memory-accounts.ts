import { type AccountId, type Bytes, compareBytes, type DeviceAddress, formatId } from "@murmuration/base";
import type {
  AccountRecord,
  AccountStore,
  DeviceRecord,
  DevicesUpdate,
  NewAccount,
} from "../ports/accounts.ts";

/** {@link AccountStore} in memory: gone with the process. */
export class MemoryAccountStore implements AccountStore {
  private readonly accounts = new Map<string, AccountRecord>();
  private readonly tombstones = new Map<string, number>();

  async create(account: NewAccount): Promise<"created" | "exists" | "deleted"> {
    const name = formatId(account.accountId);
    if (this.tombstones.has(name)) return "deleted";
    if (this.accounts.has(name)) return "exists";
    const { device, ...rest } = account;
    this.accounts.set(name, { ...rest, profile: new Uint8Array(0), devices: [device] });
    return "created";
  }

  async load(accountId: AccountId): Promise<AccountRecord | undefined> {
    return this.accounts.get(formatId(accountId));
  }

  async loadMany(accountIds: readonly AccountId[]): Promise<readonly (AccountRecord | undefined)[]> {
    return accountIds.map((id) => this.accounts.get(formatId(id)));
  }

  async updateDevices(update: DevicesUpdate): Promise<"stored" | "conflict" | "unknown"> {
    const name = formatId(update.accountId);
    const account = this.accounts.get(name);
    if (account === undefined) return "unknown";
    const taken = new Set(account.devices.map((device) => device.deviceId));
    const conflict =
      account.deviceList.version !== update.expectedVersion ||
      update.added.some((device) => taken.has(device.deviceId));
    if (conflict) return "conflict";
    const kept = account.devices.filter((device) => !update.removed.includes(device.deviceId));
    const devices = [...kept, ...update.added].sort((a, b) => a.deviceId - b.deviceId);
    this.accounts.set(name, { ...account, deviceList: update.deviceList, devices });
    return "stored";
  }

  async updateProfile(
    accountId: AccountId,
    accessKeyHash: Bytes,
    profile: Bytes,
  ): Promise<"stored" | "unknown"> {
    const account = this.accounts.get(formatId(accountId));
    if (account === undefined) return "unknown";
    this.accounts.set(formatId(accountId), { ...account, accessKeyHash, profile });
    return "stored";
  }

  async markKeys(address: DeviceAddress): Promise<void> {
    this.changeDevice(address, (device) => ({ ...device, hasKeys: true }));
  }

  async touch(address: DeviceAddress, day: number): Promise<void> {
    this.changeDevice(address, (device) => ({
      ...device,
      lastSeenDay: Math.max(day, device.lastSeenDay),
    }));
  }

  async delete(accountId: AccountId, day: number): Promise<"deleted" | "unknown"> {
    if (!this.accounts.delete(formatId(accountId))) return "unknown";
    this.tombstones.set(formatId(accountId), day);
    return "deleted";
  }

  async hasTombstone(accountId: AccountId): Promise<boolean> {
    return this.tombstones.has(formatId(accountId));
  }

  async idleDevices(day: number, limit: number): Promise<readonly DeviceAddress[]> {
    return [...this.accounts.values()]
      .sort((a, b) => compareBytes(a.accountId, b.accountId))
      .flatMap(({ accountId, devices }) =>
        devices.filter((device) => device.lastSeenDay < day).map(({ deviceId }) => ({ accountId, deviceId })),
      )
      .slice(0, limit);
  }

  async removeIdleDevice(address: DeviceAddress, day: number): Promise<"removed" | "kept"> {
    const account = this.accounts.get(formatId(address.accountId));
    const device = account?.devices.find((known) => known.deviceId === address.deviceId);
    if (account === undefined || device === undefined || device.lastSeenDay >= day) return "kept";
    const devices = account.devices.filter((known) => known !== device);
    if (devices.length === 0) await this.delete(address.accountId, day);
    else this.accounts.set(formatId(address.accountId), { ...account, devices });
    return "removed";
  }

  private changeDevice(address: DeviceAddress, change: (device: DeviceRecord) => DeviceRecord): void {
    const account = this.accounts.get(formatId(address.accountId));
    if (account === undefined) return;
    const devices = account.devices.map((device) =>
      device.deviceId === address.deviceId ? change(device) : device,
    );
    this.accounts.set(formatId(address.accountId), { ...account, devices });
  }
}

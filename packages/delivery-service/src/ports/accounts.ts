import type { AccountId, Bytes, DeviceAddress, DeviceId } from "@murmuration/base";

/** One device of an account as the service knows it. The token itself is never stored. */
export interface DeviceRecord {
  readonly deviceId: DeviceId;
  /** 1..16380, drawn anew with every identity key; senders name it, so that a re-keyed device is noticed. */
  readonly registrationId: number;
  /** Public, 33 bytes. */
  readonly identityKey: Bytes;
  /** SHA-256 of the device token. */
  readonly tokenHash: Bytes;
  /** Days since 1970; coarse on purpose. */
  readonly lastSeenDay: number;
  /** True once its prekeys are stored: before that nobody can send to it, and nobody has to. */
  readonly hasKeys: boolean;
}

/** A stored device list: the service checks and serves the bytes, clients verify them. */
interface StoredDeviceList {
  readonly version: number;
  readonly bytes: Bytes;
}

export interface AccountRecord {
  readonly accountId: AccountId;
  /** Public, 33 bytes; signs the device list and never changes. */
  readonly accountIdentityKey: Bytes;
  /** SHA-256 of the access key that the owner derives from the profile key. */
  readonly accessKeyHash: Bytes;
  /** Encrypted under the profile key; may be empty. */
  readonly profile: Bytes;
  readonly deviceList: StoredDeviceList;
  /** By rising device id. */
  readonly devices: readonly DeviceRecord[];
}

export interface NewAccount {
  readonly accountId: AccountId;
  readonly accountIdentityKey: Bytes;
  readonly accessKeyHash: Bytes;
  readonly deviceList: StoredDeviceList;
  readonly device: DeviceRecord;
}

/** The next device list, and what it changes. */
export interface DevicesUpdate {
  readonly accountId: AccountId;
  readonly deviceList: StoredDeviceList;
  readonly expectedVersion: number;
  readonly added: readonly DeviceRecord[];
  readonly removed: readonly DeviceId[];
}

/** Accounts, their devices and their device lists. Every write is durable when its promise resolves. */
export interface AccountStore {
  /** `exists` for a taken id, `deleted` for one that has a tombstone: an account id is never used twice. */
  create(account: NewAccount): Promise<"created" | "exists" | "deleted">;
  load(accountId: AccountId): Promise<AccountRecord | undefined>;
  /** One answer for each id, in order; one round trip. */
  loadMany(accountIds: readonly AccountId[]): Promise<readonly (AccountRecord | undefined)[]>;
  /**
   * Replaces the device list, adds and removes devices, all or nothing. `conflict` when the stored list's version
   * is not `expectedVersion` or an added device id is taken.
   */
  updateDevices(update: DevicesUpdate): Promise<"stored" | "conflict" | "unknown">;
  /** Replaces access key and profile: whoever knew the old access key is shut out from then on. */
  updateProfile(accountId: AccountId, accessKeyHash: Bytes, profile: Bytes): Promise<"stored" | "unknown">;
  /** Notes that a device's prekeys are stored; an unknown device is ignored. */
  markKeys(address: DeviceAddress): Promise<void>;
  /** Notes that a device was here on this day; an unknown device is ignored. */
  touch(address: DeviceAddress, day: number): Promise<void>;
  /** Deletes everything about the account and leaves a tombstone: the id and the day. */
  delete(accountId: AccountId, day: number): Promise<"deleted" | "unknown">;
  /** True when the account was deleted. */
  hasTombstone(accountId: AccountId): Promise<boolean>;
  /** Devices not seen since before `day`, at most `limit`. */
  idleDevices(day: number, limit: number): Promise<readonly DeviceAddress[]>;
  /**
   * Deletes the device if it is still one not seen since before `day`; its place on the signed list stays, which
   * only its owner can change. With the last device goes the account, which leaves a tombstone.
   */
  removeIdleDevice(address: DeviceAddress, day: number): Promise<"removed" | "kept">;
}

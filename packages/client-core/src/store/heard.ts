import { type AccountId, accountId, type Bytes, type DeviceAddress, formatId } from "@murmuration/base";
import type { Storage } from "../ports/storage.ts";
import type { MetaStore } from "./meta.ts";

const DAY_MS = 86_400_000;

/** A device that was not heard for so long is not waited for, in days; a mailbox keeps nothing for longer. */
const QUIET_DAYS = 30;

/** Devices whose day is remembered, so that it is written once. */
const MOST_NOTED = 10_000;

const dayOf = (ms: number): number => Math.floor(ms / DAY_MS);

const keyOf = (account: AccountId, device: number): string => `${formatId(account)}.${device}`;

/** Devices that were not heard of for {@link QUIET_DAYS}. */
export interface QuietDevices {
  has(account: AccountId, device: number): boolean;
  /** All that is known of the account. */
  isQuiet(account: AccountId): boolean;
}

/**
 * On which day each device was last heard, by whatever it said to this one over pairwise sessions; one that has said nothing
 * counts from the day on which it was first seen in its account's list. Days on which this device was not connected are not
 * counted. Days suffice, and cost one write for each device and day.
 */
export class HeardStore {
  private readonly storage: Storage;
  private readonly meta: MetaStore;
  /** What this program has noted. Where the transaction was undone the device is noted on the next day. */
  private readonly noted = new Map<string, number>();
  private forgottenOn: number | undefined;
  private hereOn: number | undefined;

  constructor(storage: Storage, meta: MetaStore) {
    this.storage = storage;
    this.meta = meta;
  }

  /** Whether {@link here} has something to write. */
  isNewDay(nowMs: number): boolean {
    return this.hereOn !== dayOf(nowMs);
  }

  /**
   * Inside a transaction: this device is connected. Days on which it was not are nobody's silence: one that comes back after
   * a month would take all others for lost. O(devices that are known) on the first day after it was away.
   */
  here(nowMs: number): void {
    if (!this.isNewDay(nowMs)) return;
    const day = dayOf(nowMs);
    const before = this.meta.number("here-on");
    this.noted.clear();
    if (before > 0 && day > before + 1)
      this.storage.run("UPDATE device_heard SET day = min(day + ?, ?)", [day - before - 1, day]);
    // The clock was ahead, and nobody was heard on a day that has not come.
    if (day < before) this.storage.run("UPDATE device_heard SET day = min(day, ?)", [day]);
    this.meta.setNumber("here-on", day);
    this.hereOn = day;
  }

  /**
   * Inside a transaction: what the device has said was accepted then. A day that was noted by a clock which was ahead does
   * not stay. At most one statement for each device and day.
   */
  note({ accountId: account, deviceId }: DeviceAddress, saidAtMs: number, nowMs: number): void {
    this.here(nowMs);
    const day = dayOf(Math.min(saidAtMs, nowMs));
    const key = keyOf(account, deviceId);
    if (this.noted.get(key) === day) return;
    if (this.noted.size >= MOST_NOTED) this.noted.clear();
    this.noted.set(key, day);
    this.storage.run(
      `INSERT INTO device_heard (account, device, day) VALUES (?, ?, ?)
         ON CONFLICT DO UPDATE SET day = CASE WHEN day > ? THEN excluded.day ELSE max(day, excluded.day) END`,
      [account, deviceId, day, dayOf(nowMs) + 1],
    );
  }

  /** Inside a transaction: nothing is known of the devices of an account any more; its identity is another one. */
  forget(account: AccountId): void {
    this.noted.clear();
    this.storage.run("DELETE FROM device_heard WHERE account = ?", [account]);
  }

  /** Inside a transaction: of accounts that are in no group with this one nobody asks. Once a day, O(members of all groups). */
  forgetStrangers(nowMs: number): void {
    const day = dayOf(nowMs);
    if (this.forgottenOn === day) return;
    this.forgottenOn = day;
    this.storage.run("DELETE FROM device_heard WHERE account NOT IN (SELECT account FROM group_member)");
  }

  /** Inside a transaction: the devices of an account by its newest list. O(devices of the account). */
  listed(account: AccountId, devices: readonly number[], nowMs: number): void {
    this.storage.run(
      "DELETE FROM device_heard WHERE account = ? AND device NOT IN (SELECT value FROM json_each(?))",
      [account, JSON.stringify(devices)],
    );
    this.storage.run(
      `INSERT INTO device_heard (account, device, day) SELECT ?, value, ? FROM json_each(?) WHERE true
         ON CONFLICT DO NOTHING`,
      [account, dayOf(nowMs), JSON.stringify(devices)],
    );
  }

  /** Of the members of a group. One query, O(their devices). */
  quiet(group: Bytes, nowMs: number): QuietDevices {
    const lastDay = dayOf(nowMs) - QUIET_DAYS;
    const rows = this.storage.all(
      `SELECT heard.account AS account, heard.device AS device, heard.day AS day FROM group_member AS member
         JOIN device_heard AS heard ON heard.account = member.account WHERE member.group_id = ?`,
      [group],
    );
    const quiet = new Set<string>();
    const isActive = new Map<string, boolean>();
    for (const row of rows) {
      const account = accountId(row["account"] as Bytes);
      const isFresh = (row["day"] as number) > lastDay;
      if (!isFresh) quiet.add(keyOf(account, row["device"] as number));
      const key = formatId(account);
      isActive.set(key, isFresh || isActive.get(key) === true);
    }
    return {
      has: (account, device) => quiet.has(keyOf(account, device)),
      isQuiet: (account) => isActive.get(formatId(account)) === false,
    };
  }
}

import { type DeviceAddress, equalBytes, formatAddress, toHex } from "@murmuration/base";
import type {
  ClaimedKeyPackageRow,
  KeyPackageStock,
  KeyPackageStore,
  KeyPackageUploadRow,
  StoredKeyPackage,
} from "../ports/key-packages.ts";

interface KeyPackageSet {
  uploadId: Uint8Array;
  /** By reference. */
  readonly keyPackages: Map<string, StoredKeyPackage>;
  lastResort: StoredKeyPackage | undefined;
}

/** {@link KeyPackageStore} in memory: gone with the process. */
export class MemoryKeyPackageStore implements KeyPackageStore {
  private readonly sets = new Map<string, KeyPackageSet>();

  async upload(
    address: DeviceAddress,
    upload: KeyPackageUploadRow,
    maxStored: number,
  ): Promise<"stored" | "repeated" | "too-many"> {
    const name = formatAddress(address);
    const set = this.sets.get(name);
    if (set !== undefined && equalBytes(set.uploadId, upload.uploadId)) return "repeated";
    const before = upload.replace ? undefined : set;
    const keyPackages = new Map(before?.keyPackages);
    for (const keyPackage of upload.keyPackages) {
      const reference = toHex(keyPackage.reference);
      if (!keyPackages.has(reference)) keyPackages.set(reference, keyPackage);
    }
    if (keyPackages.size > maxStored) return "too-many";
    const lastResort = upload.lastResort ?? before?.lastResort;
    this.sets.set(name, { uploadId: upload.uploadId, keyPackages, lastResort });
    return "stored";
  }

  async claim(
    address: DeviceAddress,
    oneTime: boolean,
    usableUntilMs: number,
  ): Promise<ClaimedKeyPackageRow | undefined> {
    const set = this.sets.get(formatAddress(address));
    if (set === undefined) return undefined;
    removeExpired(set, usableUntilMs + 1, Number.POSITIVE_INFINITY);
    const first = oneTime ? [...set.keyPackages.values()].sort(byEnd)[0] : undefined;
    if (first !== undefined) set.keyPackages.delete(toHex(first.reference));
    const claimed = first ?? set.lastResort;
    return claimed && { message: claimed.message, left: stockOf(set, usableUntilMs) };
  }

  async count(address: DeviceAddress, usableUntilMs: number): Promise<KeyPackageStock> {
    return stockOf(this.sets.get(formatAddress(address)), usableUntilMs);
  }

  async remove(address: DeviceAddress): Promise<void> {
    this.sets.delete(formatAddress(address));
  }

  async expire(beforeMs: number, limit: number): Promise<number> {
    let removed = 0;
    for (const set of this.sets.values()) removed += removeExpired(set, beforeMs, limit - removed);
    return removed;
  }
}

function removeExpired(set: KeyPackageSet, beforeMs: number, limit: number): number {
  let removed = 0;
  for (const [reference, keyPackage] of set.keyPackages) {
    if (removed >= limit) return removed;
    if (keyPackage.expiresAtMs >= beforeMs) continue;
    set.keyPackages.delete(reference);
    removed++;
  }
  if (removed < limit && set.lastResort !== undefined && set.lastResort.expiresAtMs < beforeMs) {
    set.lastResort = undefined;
    removed++;
  }
  return removed;
}

function byEnd(a: StoredKeyPackage, b: StoredKeyPackage): number {
  return a.expiresAtMs - b.expiresAtMs;
}

function stockOf(set: KeyPackageSet | undefined, usableUntilMs: number): KeyPackageStock {
  const good = ({ expiresAtMs }: StoredKeyPackage) => expiresAtMs > usableUntilMs;
  return {
    keyPackages: [...(set?.keyPackages.values() ?? [])].filter(good).length,
    lastResort: set?.lastResort !== undefined && good(set.lastResort),
  };
}

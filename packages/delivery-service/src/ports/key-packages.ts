import type { Bytes, DeviceAddress } from "@murmuration/base";

/** A KeyPackage as it was uploaded, after it was validated. */
export interface StoredKeyPackage {
  /** Its KeyPackageRef: what makes it itself, whatever bytes are around it. */
  readonly reference: Bytes;
  /** MLSMessage with the KeyPackage. */
  readonly message: Bytes;
  /** End of its lifetime, ms since 1970. */
  readonly expiresAtMs: number;
}

export interface KeyPackageUploadRow {
  /** 16 random bytes; a repeated one has been done already. */
  readonly uploadId: Bytes;
  readonly keyPackages: readonly StoredKeyPackage[];
  /** Replaces the stored one. */
  readonly lastResort: StoredKeyPackage | undefined;
  /** Everything stored before goes: the device has lost its private keys. */
  readonly replace: boolean;
}

export interface KeyPackageStock {
  readonly keyPackages: number;
  readonly lastResort: boolean;
}

export interface ClaimedKeyPackageRow {
  readonly message: Bytes;
  readonly left: KeyPackageStock;
}

/**
 * MLS KeyPackages of each device. One is handed out exactly once, however many callers claim at a time, and nothing of
 * it is kept afterwards; only the last-resort one is handed out again and again.
 */
export interface KeyPackageStore {
  /** Stores an upload whole. `too-many` when more than `maxStored` would lie there; nothing is stored then. */
  upload(
    address: DeviceAddress,
    upload: KeyPackageUploadRow,
    maxStored: number,
  ): Promise<"stored" | "repeated" | "too-many">;
  /**
   * Takes the KeyPackage that expires first of those good for longer than `usableUntilMs`, and deletes expired ones
   * on the way. With `oneTime` false, and when they ran out, the last-resort one answers. Undefined without any.
   */
  claim(
    address: DeviceAddress,
    oneTime: boolean,
    usableUntilMs: number,
  ): Promise<ClaimedKeyPackageRow | undefined>;
  /** Those good for longer than `usableUntilMs`. */
  count(address: DeviceAddress, usableUntilMs: number): Promise<KeyPackageStock>;
  /** Deletes every KeyPackage of the device. */
  remove(address: DeviceAddress): Promise<void>;
  /** Deletes at most `limit` that expired before `beforeMs`. Returns how many. */
  expire(beforeMs: number, limit: number): Promise<number>;
}

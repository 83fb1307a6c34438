import type { Bytes, DeviceAddress } from "@murmuration/base";

export interface PublicPreKey {
  readonly id: number;
  readonly publicKey: Bytes;
}

export interface SignedPublicPreKey extends PublicPreKey {
  readonly signature: Bytes;
}

/** A validated upload. */
export interface KeyUpload {
  /** 16 random bytes; a repeated one has been done already. */
  readonly uploadId: Bytes;
  readonly signedPreKey: SignedPublicPreKey | undefined;
  readonly lastResortKyberPreKey: SignedPublicPreKey | undefined;
  readonly preKeys: readonly PublicPreKey[];
  readonly kyberPreKeys: readonly SignedPublicPreKey[];
  /** One-time keys that were stored before go. */
  readonly replace: boolean;
}

/** One-time keys that are left. */
export interface KeyCounts {
  readonly preKeys: number;
  readonly kyberPreKeys: number;
}

/** What one claim hands out. */
export interface ClaimedKeys {
  readonly signedPreKey: SignedPublicPreKey;
  /** Undefined when exhausted, or when the claim asked for none. */
  readonly preKey: PublicPreKey | undefined;
  /** A one-time key, or the last-resort one. */
  readonly kyberPreKey: SignedPublicPreKey;
  readonly left: KeyCounts;
}

/** Prekeys of each device. A one-time key is handed out exactly once, however many callers claim at a time. */
export interface KeyStore {
  /**
   * Stores an upload whole. `too-many` when a kind of one-time keys would exceed `maxOneTime`; nothing is stored
   * then. An id that is stored already is replaced.
   */
  upload(
    address: DeviceAddress,
    upload: KeyUpload,
    maxOneTime: number,
  ): Promise<"stored" | "repeated" | "too-many">;
  /**
   * Claims one set. With `oneTime` false no one-time key is touched: the last-resort Kyber prekey answers.
   * Undefined when the device has no signed prekey or no Kyber prekey at all.
   */
  claim(address: DeviceAddress, oneTime: boolean): Promise<ClaimedKeys | undefined>;
  count(address: DeviceAddress): Promise<KeyCounts>;
  /** Deletes every key of the device. */
  remove(address: DeviceAddress): Promise<void>;
}

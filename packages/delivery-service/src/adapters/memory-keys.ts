import { type DeviceAddress, equalBytes, formatAddress } from "@murmuration/base";
import type {
  ClaimedKeys,
  KeyCounts,
  KeyStore,
  KeyUpload,
  PublicPreKey,
  SignedPublicPreKey,
} from "../ports/keys.ts";

interface KeySet {
  readonly uploadId: Uint8Array;
  readonly signedPreKey: SignedPublicPreKey | undefined;
  readonly lastResort: SignedPublicPreKey | undefined;
  readonly preKeys: ReadonlyMap<number, PublicPreKey>;
  readonly kyberPreKeys: ReadonlyMap<number, SignedPublicPreKey>;
}

/** {@link KeyStore} in memory: gone with the process. */
export class MemoryKeyStore implements KeyStore {
  private readonly sets = new Map<string, KeySet>();

  async upload(
    address: DeviceAddress,
    upload: KeyUpload,
    maxOneTime: number,
  ): Promise<"stored" | "repeated" | "too-many"> {
    const name = formatAddress(address);
    const set = this.sets.get(name);
    if (set !== undefined && equalBytes(set.uploadId, upload.uploadId)) return "repeated";
    const preKeys = added(upload.replace ? undefined : set?.preKeys, upload.preKeys);
    const kyberPreKeys = added(upload.replace ? undefined : set?.kyberPreKeys, upload.kyberPreKeys);
    if (preKeys.size > maxOneTime || kyberPreKeys.size > maxOneTime) return "too-many";
    this.sets.set(name, {
      uploadId: upload.uploadId,
      signedPreKey: upload.signedPreKey ?? set?.signedPreKey,
      lastResort: upload.lastResortKyberPreKey ?? set?.lastResort,
      preKeys,
      kyberPreKeys,
    });
    return "stored";
  }

  async claim(address: DeviceAddress, oneTime: boolean): Promise<ClaimedKeys | undefined> {
    const set = this.sets.get(formatAddress(address));
    if (set?.signedPreKey === undefined) return undefined;
    const kyber = oneTime ? lowest(set.kyberPreKeys) : undefined;
    const kyberPreKey = kyber ?? set.lastResort;
    if (kyberPreKey === undefined) return undefined;
    const preKey = oneTime ? lowest(set.preKeys) : undefined;
    const next = {
      ...set,
      preKeys: without(set.preKeys, preKey),
      kyberPreKeys: without(set.kyberPreKeys, kyber),
    };
    this.sets.set(formatAddress(address), next);
    return { signedPreKey: set.signedPreKey, preKey, kyberPreKey, left: countsOf(next) };
  }

  async count(address: DeviceAddress): Promise<KeyCounts> {
    return countsOf(this.sets.get(formatAddress(address)));
  }

  async remove(address: DeviceAddress): Promise<void> {
    this.sets.delete(formatAddress(address));
  }
}

function added<K extends PublicPreKey>(
  known: ReadonlyMap<number, K> | undefined,
  more: readonly K[],
): ReadonlyMap<number, K> {
  return new Map([...(known ?? []), ...more.map((key) => [key.id, key] as const)]);
}

function lowest<K extends PublicPreKey>(keys: ReadonlyMap<number, K>): K | undefined {
  return [...keys.values()].sort((a, b) => a.id - b.id)[0];
}

function without<K extends PublicPreKey>(
  keys: ReadonlyMap<number, K>,
  taken: K | undefined,
): ReadonlyMap<number, K> {
  return new Map([...keys].filter(([id]) => id !== taken?.id));
}

function countsOf(set: KeySet | undefined): KeyCounts {
  return { preKeys: set?.preKeys.size ?? 0, kyberPreKeys: set?.kyberPreKeys.size ?? 0 };
}

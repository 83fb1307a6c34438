/** The accounts of a benchmark: every process derives the same ones from the seed. The sender is number 0. */
import { type AccountId, accountId, type Bytes, deviceId, type GroupId, groupId } from "@murmuration/base";
import { derived } from "../mls/key-material.ts";

export interface Account {
  readonly index: number;
  readonly accountId: AccountId;
  /** The account id as libsignal names it. */
  readonly uuid: string;
  readonly accessKey: Bytes;
  readonly token: Bytes;
}

/** Every account has one device. */
export const DEVICE_ID = deviceId(1);
/** Two bytes on the wire, as almost all are. */
export const REGISTRATION_ID = 12_345;

export function accountAt(seed: string, index: number): Account {
  const id = accountId(derived(seed, "account", index).subarray(0, 16));
  const hex = Buffer.from(id).toString("hex");
  const uuid = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join(
    "-",
  );
  return {
    index,
    accountId: id,
    uuid,
    accessKey: derived(seed, "access-key", index).slice(0, 16),
    token: derived(seed, "token", index),
  };
}

export interface Fence {
  readonly groupId: GroupId;
  readonly fence: Bytes;
}

/** Of the pairwise group in which everything is said. */
export function fenceOf(seed: string): Fence {
  return {
    groupId: groupId(derived(seed, "pairwise-group").subarray(0, 16)),
    fence: derived(seed, "fence").slice(0, 16),
  };
}

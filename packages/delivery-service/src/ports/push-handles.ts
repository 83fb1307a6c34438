import type { Bytes, DeviceAddress, GroupId } from "@murmuration/base";

/** A leaf of an MLS group, and how it is woken. */
export interface LeafHandle {
  readonly signatureKey: Bytes;
  readonly handle: Bytes;
}

/**
 * Handles by which the push gateway wakes devices, as their owners made them: one for a mailbox, one for each leaf. Nothing
 * here says which leaf is whose. `day` is days since 1970, on which the owner set it; a set handle replaces the one before.
 */
export interface PushHandleStore {
  setMailbox(address: DeviceAddress, handle: Bytes, day: number): Promise<void>;
  removeMailbox(address: DeviceAddress): Promise<void>;
  /** One answer for each address, in order; one round trip. */
  mailboxes(addresses: readonly DeviceAddress[]): Promise<readonly (Bytes | undefined)[]>;
  setLeaf(groupId: GroupId, leaf: LeafHandle, day: number): Promise<void>;
  removeLeaf(groupId: GroupId, signatureKey: Bytes): Promise<void>;
  /** At most `limit` leaves of a group by rising signature key, after `after`. */
  leaves(groupId: GroupId, after: Bytes | undefined, limit: number): Promise<readonly LeafHandle[]>;
  /** Deletes at most `limit` handles of each kind that were last set before `day`. Returns how many. */
  expire(day: number, limit: number): Promise<number>;
}

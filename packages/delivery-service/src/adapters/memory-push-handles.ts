import {
  type Bytes,
  compareBytes,
  type DeviceAddress,
  formatAddress,
  formatId,
  type GroupId,
  toHex,
} from "@murmuration/base";
import type { LeafHandle, PushHandleStore } from "../ports/push-handles.ts";

/** {@link PushHandleStore} in memory: gone with the process. */
export class MemoryPushHandleStore implements PushHandleStore {
  private readonly ofMailboxes = new Map<string, { readonly handle: Bytes; readonly day: number }>();
  private readonly ofGroups = new Map<string, Map<string, LeafHandle & { readonly day: number }>>();

  async setMailbox(address: DeviceAddress, handle: Bytes, day: number): Promise<void> {
    this.ofMailboxes.set(formatAddress(address), { handle, day });
  }

  async removeMailbox(address: DeviceAddress): Promise<void> {
    this.ofMailboxes.delete(formatAddress(address));
  }

  async mailboxes(addresses: readonly DeviceAddress[]): Promise<readonly (Bytes | undefined)[]> {
    return addresses.map((address) => this.ofMailboxes.get(formatAddress(address))?.handle);
  }

  async setLeaf(groupId: GroupId, leaf: LeafHandle, day: number): Promise<void> {
    const leaves = this.ofGroups.get(formatId(groupId)) ?? new Map();
    this.ofGroups.set(formatId(groupId), leaves.set(toHex(leaf.signatureKey), { ...leaf, day }));
  }

  async removeLeaf(groupId: GroupId, signatureKey: Bytes): Promise<void> {
    this.ofGroups.get(formatId(groupId))?.delete(toHex(signatureKey));
  }

  async leaves(groupId: GroupId, after: Bytes | undefined, limit: number): Promise<readonly LeafHandle[]> {
    return [...(this.ofGroups.get(formatId(groupId))?.values() ?? [])]
      .filter(({ signatureKey }) => after === undefined || compareBytes(signatureKey, after) > 0)
      .sort((a, b) => compareBytes(a.signatureKey, b.signatureKey))
      .slice(0, limit)
      .map(({ signatureKey, handle }) => ({ signatureKey, handle }));
  }

  async expire(day: number, limit: number): Promise<number> {
    const removed = removeOld(this.ofMailboxes, day, limit);
    let left = limit;
    for (const leaves of this.ofGroups.values()) left -= removeOld(leaves, day, left);
    return removed + limit - left;
  }
}

function removeOld(handles: Map<string, { readonly day: number }>, day: number, limit: number): number {
  const old = [...handles].filter(([, handle]) => handle.day < day).slice(0, limit);
  for (const [name] of old) handles.delete(name);
  return old.length;
}

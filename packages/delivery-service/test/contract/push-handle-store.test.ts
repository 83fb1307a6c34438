import { accountId, type DeviceAddress, deviceId, groupId } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { PushHandleStore } from "../../src/ports/push-handles.ts";
import { engines, type OpenedEngine } from "../support/engines.ts";
import { random } from "../support/random.ts";

const device = (id = 1): DeviceAddress => ({ accountId: accountId(random(16)), deviceId: deviceId(id) });
const leaf = (first: number) => ({ signatureKey: Uint8Array.of(first, ...random(31)), handle: random(85) });

describe.each(engines)("push handles on $name", (engine) => {
  let opened: OpenedEngine;
  let store: PushHandleStore;
  beforeEach(async () => {
    opened = await engine.open();
    store = opened.stores.pushHandles;
  });
  afterEach(() => opened.dispose());

  it("a mailbox has the handle that was set last, and none once it is removed", async () => {
    const [one, other, none] = [device(), device(127), device()];
    const [first, second, third] = [random(85), random(85), random(85)];
    await store.setMailbox(one, first, 100);
    await store.setMailbox(one, second, 100);
    await store.setMailbox(other, third, 100);
    expect(await store.mailboxes([other, none, one, other])).toEqual([third, undefined, second, third]);
    expect(await store.mailboxes([])).toEqual([]);
    await store.removeMailbox(one);
    await store.removeMailbox(none);
    expect(await store.mailboxes([one, other])).toEqual([undefined, third]);
  });

  it("devices of one account have handles of their own", async () => {
    const one = device(1);
    const second = { ...one, deviceId: deviceId(2) };
    const handle = random(85);
    await store.setMailbox(second, handle, 100);
    expect(await store.mailboxes([one, second])).toEqual([undefined, handle]);
  });

  it("the leaves of a group come page by page in the order of their keys, each once", async () => {
    const [group, other] = [groupId(random(16)), groupId(random(16))];
    const leaves = [3, 250, 7, 128, 1].map(leaf);
    for (const each of leaves) await store.setLeaf(group, each, 100);
    await store.setLeaf(other, leaf(5), 100);
    const sorted = [4, 0, 2, 3, 1].map((index) => leaves[index]!);
    expect(await store.leaves(group, undefined, 10)).toEqual(sorted);
    const page = await store.leaves(group, undefined, 2);
    expect(page).toEqual(sorted.slice(0, 2));
    expect(await store.leaves(group, page[1]!.signatureKey, 2)).toEqual(sorted.slice(2, 4));
    expect(await store.leaves(group, sorted[4]!.signatureKey, 2)).toEqual([]);
    expect(await store.leaves(groupId(random(16)), undefined, 2)).toEqual([]);
  });

  it("a leaf has the handle that was set last, and none once it is removed, whatever other groups have", async () => {
    const [group, other] = [groupId(random(16)), groupId(random(16))];
    const one = leaf(1);
    await store.setLeaf(group, leaf(1), 100);
    await store.setLeaf(group, one, 100);
    await store.setLeaf(group, { ...one, handle: random(85) }, 100);
    await store.setLeaf(group, one, 100);
    await store.setLeaf(other, one, 100);
    expect(await store.leaves(group, undefined, 10)).toHaveLength(2);
    await store.removeLeaf(group, one.signatureKey);
    await store.removeLeaf(group, one.signatureKey);
    expect(await store.leaves(group, undefined, 10)).toHaveLength(1);
    expect(await store.leaves(other, undefined, 10)).toEqual([one]);
  });

  it("handles that nobody renewed go, some at a time, and renewed ones stay", async () => {
    const group = groupId(random(16));
    const devices = [device(), device(), device()];
    for (const each of devices) await store.setMailbox(each, random(85), 100);
    for (const each of [1, 2, 3].map(leaf)) await store.setLeaf(group, each, 100);
    const kept = leaf(4);
    await store.setLeaf(group, kept, 101);
    await store.setMailbox(devices[0]!, random(85), 101);
    expect(await store.expire(100, 10)).toBe(0);
    expect(await store.expire(101, 2)).toBe(4);
    expect(await store.expire(101, 2)).toBe(1);
    expect(await store.expire(101, 2)).toBe(0);
    expect(await store.leaves(group, undefined, 10)).toEqual([kept]);
    const left = await store.mailboxes(devices);
    expect(left.map((handle) => handle !== undefined)).toEqual([true, false, false]);
  });
});

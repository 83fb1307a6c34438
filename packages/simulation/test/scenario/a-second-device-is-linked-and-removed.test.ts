import { cpSync, rmSync } from "node:fs";
import { equalBytes, parseGroupId } from "@murmuration/base";
import { expect, test } from "vitest";
import { query } from "../../../delivery-service/test/support/database.ts";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { insidesOf } from "../support/bent-creator.ts";
import { groupOf } from "../support/pairwise-groups.ts";

/** Links a new device to the account of `first`. */
async function link(world: World, first: SimulatedDevice): Promise<SimulatedDevice> {
  const second = world.device();
  await second.open();
  const request = await second.client.linking.request(first.client.linking.offer());
  await second.client.linking.finish(await first.client.linking.approve(request));
  second.client.connection.start();
  await second.client.connection.caughtUp();
  return second;
}

test("a linked device gets contacts, groups, and copies of what either device sends and reads", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  const group = await alice.client.conversations.createGroup({ title: "Birds", members: [bob.id] });
  const tablet = await link(world, alice);
  expect(tablet.client.account).toMatchObject({ accountId: alice.id, deviceId: 2, name: "Alice" });
  await until(() => tablet.client.contacts.list().length === 1);
  await until(() => tablet.client.conversations.get(group.id)?.state === "active");

  await alice.client.conversations.direct(bob.id).send({ text: "from the phone" });
  await until(() => textsOf(tablet.client, bob.id).includes("from the phone"));
  await tablet.client.conversations.direct(bob.id).send({ text: "from the tablet" });
  await until(() => textsOf(alice.client, bob.id).includes("from the tablet"));
  await until(() => textsOf(bob.client, alice.id).length === 2);
  await bob.client.conversations.direct(alice.id).send({ text: "to both" });
  await until(() => [alice, tablet].every((device) => textsOf(device.client, bob.id).includes("to both")));

  await tablet.client.conversations.get(group.id)!.send({ text: "group, from the tablet" });
  await until(() => [alice, bob].every((device) => textsOf(device.client, group.id).length === 1));
  await bob.client.conversations.get(group.id)!.send({ text: "group, from Bob" });
  await until(() => [alice, tablet].every((device) => textsOf(device.client, group.id).length === 2));

  const line = tablet.client.conversations.direct(bob.id).history().at(-1)!;
  await tablet.client.conversations.direct(bob.id).markRead(line.historyId);
  await until(() => {
    const same = alice.client.conversations.direct(bob.id).message(line);
    return same?.kind === "message" && same.read;
  });
});

test("what one device says in a new group is there on the other one, which was away when it was made", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  const tablet = await link(world, alice);
  await until(() => tablet.client.contacts.list().length === 1);
  await tablet.stop();
  const group = await alice.client.conversations.createGroup({ title: "Birds", members: [bob.id] });
  await group.send({ text: "welcome" });
  await alice.client.outbox.settled();
  await tablet.start();
  await until(() => tablet.client.conversations.get(group.id)?.state === "active");
  await until(() => textsOf(tablet.client, group.id).includes("welcome"));
});

test("a device removed while it is offline gets nothing any more, and peers repair by themselves", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  const tablet = await link(world, alice);
  await bob.client.conversations.direct(alice.id).send({ text: "one" });
  await until(() => [alice, tablet].every((device) => textsOf(device.client, bob.id).includes("one")));

  await tablet.stop();
  await alice.client.linking.remove(2);
  await bob.client.conversations.direct(alice.id).send({ text: "two" });
  await until(() => textsOf(alice.client, bob.id).includes("two"));
  await bob.client.outbox.settled();

  await tablet.start();
  await until(() => tablet.client.connection.state === "removed");
  expect(textsOf(tablet.client, bob.id)).toEqual(["one"]);
});

test("a device that is removed while the service is away is removed there as soon as it is back", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  const tablet = await link(world, alice);
  await world.stopService();
  await expect(alice.client.linking.remove(2)).rejects.toThrow("transport/unreachable");
  expect(alice.client.linking.devices()).toEqual([1]);
  await alice.stop();
  await world.startService();
  await alice.start();
  await until(() => tablet.client.connection.state === "removed");
  await expect(alice.client.linking.remove(2)).rejects.toThrow("pairwise/no-such-device");
});

test("whoever removes or links a device while the service is away does it by asking again", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  const { linking } = alice.client;
  const tablet = world.device();
  await tablet.open();
  const request = await tablet.client.linking.request(linking.offer());
  await world.stopService();
  await expect(linking.approve(request)).rejects.toThrow("transport/unreachable");
  await world.startService();
  await tablet.client.linking.finish(await linking.approve(request));
  tablet.client.connection.start();
  await until(() => tablet.client.contacts.list().length === 1);
  expect(linking.devices()).toEqual([1, 2]);

  await world.stopService();
  await expect(linking.remove(2)).rejects.toThrow("transport/unreachable");
  await world.startService();
  await linking.remove(2);
  await until(() => tablet.client.connection.state === "removed");
});

test("a service brought back from before a device was removed is told again that it is gone", async () => {
  await using world = await World.start();
  const alice = await world.join("Alice");
  await link(world, alice);
  const known = () =>
    query(`${world.serviceDirectory}/delivery-service.sqlite`, "SELECT device_id FROM devices").length;
  await world.stopService();
  const copy = `${world.serviceDirectory}-copy`;
  cpSync(world.serviceDirectory, copy, { recursive: true });
  await world.startService();
  await alice.client.linking.remove(2);
  expect(known()).toBe(1);
  await alice.stop();
  await world.stopService();
  rmSync(world.serviceDirectory, { recursive: true });
  cpSync(copy, world.serviceDirectory, { recursive: true });
  await world.startService();
  expect(known()).toBe(2);
  await alice.start();
  await until(() => known() === 1);
});

test("a device that is removed knows the key of no pairwise group for long in which its account may draw a new one", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  const tablet = await link(world, alice);
  const { id } = await groupOf(alice, bob);
  await until(() => tablet.client.conversations.get(id)?.state === "active");
  const keyOf = (device: SimulatedDevice) =>
    insidesOf(device).context.conversations.group(parseGroupId(id))!.groupKey;
  const known = keyOf(tablet);
  expect(keyOf(bob)).toEqual(known);

  await alice.client.linking.remove(2);
  await until(() => !equalBytes(keyOf(bob), known) && equalBytes(keyOf(alice), keyOf(bob)));
  await alice.client.conversations.get(id)!.send({ text: "among us" });
  await until(() => textsOf(bob.client, id).includes("among us"));
});

test("a linked device keeps the timer of a conversation", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  const withBob = alice.client.conversations.direct(bob.id);
  await withBob.setExpiry(3_600);
  const tablet = await link(world, alice);
  const there = () => tablet.client.conversations.get(bob.id);
  await until(() => there()?.expireAfterSeconds === 3_600);
  const { messageId } = await there()!.send({ text: "for an hour" });
  const atBob = bob.client.conversations.get(alice.id)!;
  await until(() => textsOf(bob.client, alice.id).includes("for an hour"));
  await atBob.markRead(atBob.history().at(-1)!.historyId);
  expect(atBob.message({ author: alice.id, messageId })).toMatchObject({ expiresAtMs: expect.any(Number) });
});

test("a name that is changed on one device is the account's on the other one too", async () => {
  await using world = await World.start();
  const alice = await world.join("Alice");
  const tablet = await link(world, alice);
  await alice.client.setName("Alice of the hills");
  await until(() => tablet.client.account!.name === "Alice of the hills");
});

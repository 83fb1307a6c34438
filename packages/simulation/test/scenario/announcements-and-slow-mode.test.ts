import { parseGroupId, submitId } from "@murmuration/base";
import { systemEnvironment } from "@murmuration/client-core";
import type { Replacements } from "@murmuration/delivery-service";
import { expect, test } from "vitest";
import { createInProcessValidator } from "../../../delivery-service/src/adapters/in-process-validator.ts";
import { type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { allShow, flockOf, inGroup, newcomer, talkRound } from "../support/flock.ts";
import { Outlaw } from "../support/outlaw.ts";

/** A service that lets everybody write, whatever the group has decided. */
function lenient(): Replacements {
  const honest = createInProcessValidator();
  const settings = { announcementOnly: false, slowModeSeconds: 0 };
  const loosened = <T extends object>(leaf: T | undefined) =>
    leaf === undefined ? leaf : { ...leaf, settings };
  return {
    validator: {
      ...honest,
      leaf: async (base, leafIndex) => loosened(await honest.leaf(base, leafIndex)),
      leafOfKey: async (base, key) => loosened(await honest.leafOfKey(base, key)),
    },
  };
}

const line = (device: SimulatedDevice, group: string, messageId: string) =>
  inGroup(device, group)!.message({ author: device.id, messageId });

const knows = (device: SimulatedDevice, group: string) => inGroup(device, group)!.community.settings();

/** What the service says to a message of this device that its client does not even send. */
async function refusalOfMessage(device: SimulatedDevice, world: World, group: string): Promise<string> {
  const outlaw = new Outlaw(device, world.origin);
  const connection = await outlaw.enter(group);
  const { message } = outlaw.group(group).createApplicationMessage(systemEnvironment.random(8));
  const id = submitId(systemEnvironment.random(16));
  return connection.refusalOf({ kind: "groupSubmit", groupId: parseGroupId(group), submitId: id, message });
}

test("where only admins write, a member's message fails visibly, and an admin's arrives", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = [
    await newcomer(world, "Alice"),
    await newcomer(world, "Bob"),
    await newcomer(world, "Carol"),
  ];
  const group = await flockOf(alice, bob, carol);
  await group.setRole(carol.id, "admin");
  await group.community.setSettings({ announcementOnly: true });
  await until(() => [bob, carol].every((device) => knows(device, group.id).announcementOnly));

  const { messageId } = await inGroup(bob, group.id)!.send({ text: "may I?" });
  await until(() => line(bob, group.id, messageId)?.kind === "message", 5_000);
  await bob.client.outbox.settled();
  expect(line(bob, group.id, messageId)).toMatchObject({ sendState: "failed", failure: "group/not-allowed" });
  expect(await refusalOfMessage(bob, world, group.id)).toBe("group/not-allowed");
  await inGroup(carol, group.id)!.send({ text: "from an admin" });
  await allShow([alice], group.id, "from an admin");
  await group.send({ text: "from the owner" });
  await allShow([bob], group.id, "from the owner");
  expect(textsOf(alice.client, group.id)).toEqual(["from an admin", "from the owner"]);

  await group.community.setSettings({ announcementOnly: false });
  await until(() => !knows(bob, group.id).announcementOnly);
  await talkRound([bob, alice, carol], group.id, "everybody again");
  expect(textsOf(alice.client, group.id)).not.toContain("may I?");
});

test("in slow mode a member's second message waits visibly until it may go, and arrives once", async () => {
  await using world = await World.start();
  const [alice, bob] = [await newcomer(world, "Alice"), await newcomer(world, "Bob")];
  const group = await flockOf(alice, bob);
  await group.community.setSettings({ slowModeSeconds: 3_600 });
  await until(() => knows(bob, group.id).slowModeSeconds === 3_600);

  await inGroup(bob, group.id)!.send({ text: "first" });
  const { messageId } = await inGroup(bob, group.id)!.send({ text: "second" });
  await allShow([alice], group.id, "first");
  expect(await refusalOfMessage(bob, world, group.id)).toBe("group/slow-mode");
  // An owner does not wait, and Bob's message is still where he sees it.
  for (const text of ["one", "two", "three"]) await group.send({ text });
  await allShow([bob], group.id, "three");
  expect(line(bob, group.id, messageId)).toMatchObject({ sendState: "waiting" });
  expect(bob.client.outbox.waiting).toBe(1);
  expect(textsOf(alice.client, group.id)).toEqual(["first", "one", "two", "three"]);

  await group.community.setSettings({ slowModeSeconds: 0 });
  await allShow([alice], group.id, "second");
  await bob.client.outbox.settled();
  expect(line(bob, group.id, messageId)).toMatchObject({ sendState: "accepted" });
  expect(textsOf(alice.client, group.id)).toEqual(["first", "one", "two", "three", "second"]);
});

test("where only admins write, members show no other's message, even if the service lets it through", async () => {
  await using world = await World.start({ replacements: lenient });
  const [alice, bob, carol] = [
    await newcomer(world, "Alice"),
    await newcomer(world, "Bob"),
    await newcomer(world, "Carol"),
  ];
  const group = await flockOf(alice, bob, carol);
  await inGroup(bob, group.id)!.send({ text: "before" });
  await allShow([alice, carol], group.id, "before");
  const target = { author: alice.id, messageId: (await group.send({ text: "read this" })).messageId };
  await allShow([bob, carol], group.id, "read this");
  await group.community.setSettings({ announcementOnly: true });
  await until(() => [bob, carol].every((device) => knows(device, group.id).announcementOnly));

  const { messageId } = await inGroup(bob, group.id)!.send({ text: "past the service" });
  await inGroup(bob, group.id)!.react(target, "!");
  await bob.client.outbox.settled();
  expect(line(bob, group.id, messageId)).toMatchObject({ sendState: "accepted" });
  await group.send({ text: "after" });
  await allShow([bob, carol], group.id, "after");

  for (const member of [alice, carol]) {
    expect(textsOf(member.client, group.id)).toEqual(["before", "read this", "after"]);
    expect(inGroup(member, group.id)!.message(target)).toMatchObject({ reactions: [] });
  }
});

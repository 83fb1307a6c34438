import { expect, test } from "vitest";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";

const membersOf = (device: SimulatedDevice, group: string) =>
  device.client.conversations
    .get(group)
    ?.members()
    .map((member) => member.name)
    .sort();

test("a group is created, talked in, renamed, grows, loses a member and goes on without it", async () => {
  await using world = await World.start();
  const [alice, bob, carol, dave] = [
    await world.join("Alice"),
    await world.join("Bob"),
    await world.join("Carol"),
    await world.join("Dave"),
  ];
  await introduce(alice, bob, carol, dave);

  const group = await alice.client.conversations.createGroup({ title: "Birds", members: [bob.id, carol.id] });
  const on = (device: SimulatedDevice) => device.client.conversations.get(group.id);
  await until(() => on(bob) !== undefined && on(carol) !== undefined);
  expect(membersOf(bob, group.id)).toEqual(["Alice", "Bob", "Carol"]);
  expect(on(bob)?.protocol).toBe("pairwise");

  await group.send({ text: "one" });
  await until(() => textsOf(bob.client, group.id).includes("one"));
  await on(bob)!.send({ text: "two" });
  await until(
    () => textsOf(alice.client, group.id).length === 2 && textsOf(carol.client, group.id).length === 2,
  );

  await group.setTitle("Starlings");
  await group.add([dave.id]);
  await until(() => on(dave)?.state === "active" && on(bob)?.title === "Starlings");
  await group.send({ text: "three" });
  await until(() => textsOf(dave.client, group.id).includes("three"));

  await group.remove(carol.id);
  await until(() => on(carol)?.state === "removed" && membersOf(bob, group.id)?.length === 3);
  await on(bob)!.send({ text: "four" });
  await until(() => [alice, dave].every((device) => textsOf(device.client, group.id).includes("four")));
  expect(textsOf(carol.client, group.id)).toEqual(["one", "two", "three"]);
  await expect(on(carol)!.send({ text: "still here?" })).rejects.toThrow("conversation/not-active");
});

test("a member leaves: an owner draws a new key, and the last owner's heir can go on", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = [await world.join("Alice"), await world.join("Bob"), await world.join("Carol")];
  await introduce(alice, bob, carol);
  const group = await alice.client.conversations.createGroup({ title: "Birds", members: [bob.id, carol.id] });
  const on = (device: SimulatedDevice) => device.client.conversations.get(group.id);
  await until(() => on(bob) !== undefined && on(carol) !== undefined);

  await on(carol)!.leave();
  expect(on(carol)?.state).toBe("left");
  await until(() => membersOf(alice, group.id)?.length === 2 && membersOf(bob, group.id)?.length === 2);
  await group.leave();
  await until(() => membersOf(bob, group.id)?.length === 1);
  expect(on(bob)?.members()[0]?.role).toBe("owner");
  await on(bob)!.setTitle("Alone");
  expect(on(bob)?.title).toBe("Alone");
});

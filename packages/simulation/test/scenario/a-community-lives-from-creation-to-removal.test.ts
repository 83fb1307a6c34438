import { expect, test } from "vitest";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";

/** Small groups over MLS, so that a story needs few people. */
const settings = { mlsThreshold: 3, keyPackageStock: 4 };

const membersOf = (device: SimulatedDevice, group: string) =>
  device.client.conversations
    .get(group)
    ?.members()
    .map((member) => `${member.name}/${member.role}`)
    .sort();

test("a community is created, talked in, renamed, grows, loses a member and goes on without it", async () => {
  await using world = await World.start();
  const join = (name: string) => world.join(name, { settings });
  const [alice, bob, carol, dave] = [
    await join("Alice"),
    await join("Bob"),
    await join("Carol"),
    await join("Dave"),
  ];
  await introduce(alice, bob, carol, dave);

  const group = await alice.client.conversations.createGroup({ title: "Flock", members: [bob.id, carol.id] });
  const on = (device: SimulatedDevice) => device.client.conversations.get(group.id);
  expect(group.protocol).toBe("mls");
  await until(() => on(bob)?.title === "Flock" && on(carol)?.title === "Flock");
  expect(membersOf(bob, group.id)).toEqual(["Alice/owner", "Bob/member", "Carol/member"]);

  await group.send({ text: "one" });
  await until(() => textsOf(bob.client, group.id).includes("one"));
  await on(bob)!.send({ text: "two" });
  await until(
    () => textsOf(alice.client, group.id).length === 2 && textsOf(carol.client, group.id).length === 2,
  );

  await group.setTitle("Murmuration");
  expect(await group.add([dave.id])).toEqual([]);
  await until(() => on(dave)?.state === "active" && on(dave)?.title === "Murmuration");
  await until(() => on(bob)?.title === "Murmuration");
  await group.send({ text: "three" });
  await until(() => textsOf(dave.client, group.id).includes("three"));
  // A newcomer sees from its join on.
  expect(textsOf(dave.client, group.id)).toEqual(["three"]);

  await group.remove(carol.id);
  await until(() => on(carol)?.state === "removed" && membersOf(bob, group.id)?.length === 3);
  await on(bob)!.send({ text: "four" });
  await until(() => [alice, dave].every((device) => textsOf(device.client, group.id).includes("four")));
  expect(textsOf(carol.client, group.id)).toEqual(["one", "two", "three"]);
  await expect(on(carol)!.send({ text: "still here?" })).rejects.toThrow("conversation/not-active");
});

test("a member leaves by itself, roles change hands, and who has no role cannot remove anybody", async () => {
  await using world = await World.start();
  const join = (name: string) => world.join(name, { settings });
  const [alice, bob, carol] = [await join("Alice"), await join("Bob"), await join("Carol")];
  await introduce(alice, bob, carol);
  const group = await alice.client.conversations.createGroup({ title: "Flock", members: [bob.id, carol.id] });
  const on = (device: SimulatedDevice) => device.client.conversations.get(group.id);
  await until(() => on(bob)?.title === "Flock" && on(carol)?.title === "Flock");

  await expect(on(bob)!.remove(carol.id)).rejects.toThrow(/^community\//);
  await group.setRole(bob.id, "admin");
  await until(() => membersOf(carol, group.id)?.includes("Bob/admin") === true);

  await on(carol)!.leave();
  expect(on(carol)?.state).toBe("left");
  await until(() => membersOf(alice, group.id)?.length === 2 && membersOf(bob, group.id)?.length === 2);
  await expect(group.leave()).rejects.toThrow("group/last-owner");
});

test("whoever was offline finds everything that was said, and what they wrote meanwhile goes out once", async () => {
  await using world = await World.start();
  const join = (name: string) => world.join(name, { settings });
  const [alice, bob, carol] = [await join("Alice"), await join("Bob"), await join("Carol")];
  await introduce(alice, bob, carol);
  const group = await alice.client.conversations.createGroup({ title: "Flock", members: [bob.id, carol.id] });
  const on = (device: SimulatedDevice) => device.client.conversations.get(group.id);
  await until(() => on(bob)?.title === "Flock" && on(carol)?.title === "Flock");

  await bob.client.connection.stop();
  for (const text of ["one", "two", "three"]) await group.send({ text });
  await on(bob)!.send({ text: "from afar" });
  await alice.client.outbox.settled();
  await group.setTitle("Renamed");
  await bob.stop();
  await bob.start();
  await bob.client.connection.caughtUp();
  await until(() => textsOf(carol.client, group.id).includes("from afar"));
  expect([...textsOf(bob.client, group.id)].sort()).toEqual(["from afar", "one", "three", "two"]);
  expect([...textsOf(alice.client, group.id)].sort()).toEqual(["from afar", "one", "three", "two"]);
  await until(() => on(bob)?.title === "Renamed");
});

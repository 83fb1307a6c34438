import { expect, test } from "vitest";
import { introduce, textsOf, until, World } from "../../src/index.ts";

test("two accounts that write to each other for the first time at the same moment lose nothing", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  const toBob = alice.client.conversations.direct(bob.id);
  const toAlice = bob.client.conversations.direct(alice.id);
  for (let round = 0; round < 5; round++) {
    await Promise.all([toBob.send({ text: `a${round}` }), toAlice.send({ text: `b${round}` })]);
  }
  const everything = ["a0", "a1", "a2", "a3", "a4", "b0", "b1", "b2", "b3", "b4"];
  await until(() => textsOf(alice.client, bob.id).length >= 10 && textsOf(bob.client, alice.id).length >= 10);
  await Promise.all([alice.client.outbox.settled(), bob.client.outbox.settled()]);
  expect([...textsOf(alice.client, bob.id)].sort()).toEqual(everything);
  expect([...textsOf(bob.client, alice.id)].sort()).toEqual(everything);
});

test("all members of a group write at once, and two admins change it at once", async () => {
  await using world = await World.start();
  const devices = [await world.join("Alice"), await world.join("Bob"), await world.join("Carol")];
  await introduce(...devices);
  const [alice, bob, carol] = devices as [(typeof devices)[0], (typeof devices)[0], (typeof devices)[0]];
  const group = await alice!.client.conversations.createGroup({
    title: "Birds",
    members: [bob!.id, carol!.id],
  });
  const on = (device: (typeof devices)[0]) => device.client.conversations.get(group.id)!;
  await until(() => devices.every((device) => device.client.conversations.get(group.id) !== undefined));
  await group.setRole(bob!.id, "admin");
  await until(() =>
    on(bob!)
      .members()
      .some((member) => member.role === "admin"),
  );

  await Promise.all(devices.map((device) => on(device).send({ text: `by ${device.id}` })));
  await Promise.all([on(alice!).setTitle("One"), on(bob!).setTitle("Two")]);
  await until(() => devices.every((device) => textsOf(device.client, group.id).length === 3));
  await until(() => new Set(devices.map((device) => on(device).title)).size === 1);
  expect(["One", "Two"]).toContain(on(alice!).title);
});

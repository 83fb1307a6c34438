import { expect, test } from "vitest";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";

const on = (device: SimulatedDevice, group: string) => device.client.conversations.get(group);

test("a group that talks moves to MLS: nothing is lost, doubled or out of order, and what it was it stays", async () => {
  await using world = await World.start();
  const devices = await Promise.all(
    ["Alice", "Bob", "Carol", "Dave", "Erin"].map((name) => world.join(name)),
  );
  const [alice, bob, carol] = devices as [SimulatedDevice, SimulatedDevice, SimulatedDevice];
  await introduce(...devices);
  const group = await alice.client.conversations.createGroup({
    title: "Birds",
    members: devices.slice(1).map(({ id }) => id),
  });
  await until(() => devices.every((device) => on(device, group.id) !== undefined));
  await group.setRole(bob.id, "admin");
  const first = await group.send({ text: "0" });
  await until(() => devices.every((device) => textsOf(device.client, group.id).length === 1));
  const number = await alice.client.contacts.safetyNumber(carol.id);

  const isAdminAt = (device: SimulatedDevice) =>
    on(device, group.id)!
      .members()
      .find(({ accountId }) => accountId === bob.id)?.role === "admin";
  await until(() => devices.every(isAdminAt));
  const readThrough = devices.map((device) => device.client.events.read(0, 10_000).at(-1)?.eventId ?? 0);
  await group.migrate("start");
  let said = 1;
  while (!devices.every((device) => on(device, group.id)?.protocol === "mls")) {
    const speaker = devices[said % devices.length]!;
    await on(speaker, group.id)!.send({ text: String(said++) });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(said).toBeLessThan(1_000);
  }
  for (let more = 0; more < 5; more++)
    await on(devices[said % devices.length]!, group.id)!.send({ text: String(said++) });

  // Everybody followed: nobody had to come in from outside.
  expect(devices.map((device) => device.client.communityCosts.rejoins)).toEqual([0, 0, 0, 0, 0]);

  const all = Array.from({ length: said }, (_, index) => String(index));
  await until(() => devices.every((device) => textsOf(device.client, group.id).length >= said));
  for (const device of devices) {
    const texts = textsOf(device.client, group.id);
    expect([...texts].sort((a, b) => Number(a) - Number(b))).toEqual(all);
    // What one member says is in its order.
    for (let speaker = 0; speaker < devices.length; speaker++) {
      const own = texts.map(Number).filter((text) => text > 0 && text % devices.length === speaker);
      expect(own).toEqual([...own].sort((a, b) => a - b));
    }
    const conversation = on(device, group.id)!;
    expect(conversation.title).toBe("Birds");
    expect(conversation.memberCount).toBe(5);
    expect(conversation.members().find(({ accountId }) => accountId === alice.id)?.role).toBe("owner");
    expect(conversation.members().find(({ accountId }) => accountId === bob.id)?.role).toBe("admin");
  }
  expect(await alice.client.contacts.safetyNumber(carol.id)).toBe(number);
  await until(() => group.migration?.state === "mls");

  // An application is told that the protocol has changed, once, and of what is said; nothing else of the group changes.
  for (const [at, device] of devices.entries()) {
    const events = device.client.events.read(readThrough[at]!, 10_000);
    expect(events.filter(({ kind }) => kind === "protocol-changed")).toEqual([
      expect.objectContaining({ conversationId: group.id }),
    ]);
    expect(new Set(events.map(({ kind }) => kind))).toEqual(
      new Set(["line-added", "line-changed", "protocol-changed"]),
    );
  }

  // Reactions reach what was said before, and the group lives on as a community.
  await on(carol, group.id)!.react({ author: alice.id, messageId: first.messageId }, "🪶");
  await until(() =>
    devices.every((device) => {
      const line = on(device, group.id)!.message({ author: alice.id, messageId: first.messageId });
      return line?.kind === "message" && line.reactions.length === 1;
    }),
  );
  await group.setTitle("Starlings");
  await until(() => devices.every((device) => on(device, group.id)?.title === "Starlings"));
}, 60_000);

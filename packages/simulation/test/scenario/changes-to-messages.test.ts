import { expect, test } from "vitest";
import { introduce, textsOf, until, World } from "../../src/index.ts";

test("edit, reaction, reply and delete reach everybody and change one line", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  const toBob = alice.client.conversations.direct(bob.id);
  const toAlice = bob.client.conversations.direct(alice.id);
  const { messageId } = await toBob.send({ text: "helo" });
  const target = { author: alice.id, messageId };
  const seen = () => {
    const line = toAlice.message(target);
    return line?.kind === "message" ? line : undefined;
  };
  await until(() => seen() !== undefined);
  await toBob.edit(messageId, "hello");
  await toAlice.react(target, "🐦");
  await until(() => seen()?.text === "hello" && seen()?.edited === true);
  await until(() => {
    const line = toBob.message(target);
    return (
      line?.kind === "message" && line.reactions[0]?.emoji === "🐦" && line.reactions[0].author === bob.id
    );
  });
  await toAlice.send({ text: "yes?", replyTo: target });
  await until(() => textsOf(alice.client, bob.id).includes("yes?"));
  expect(toBob.history().at(-1)).toMatchObject({ replyTo: target });
  await toAlice.react(target, undefined);
  await until(() => {
    const line = toBob.message(target);
    return line?.kind === "message" && line.reactions.length === 0;
  });
  await toBob.delete(target);
  await until(() => seen()?.deleted === true);
  expect(seen()).toMatchObject({ text: "", deleted: true });
  await expect(toAlice.edit(messageId, "mine")).rejects.toThrow("conversation/no-such-message");
  await expect(toBob.edit(messageId, "again")).rejects.toThrow("conversation/no-such-message");
  await expect(toAlice.delete(target)).rejects.toThrow("conversation/not-the-author");
});

// A client that puts down what it encrypted for a message that is gone by then ends with a broken database constraint.
test("a message that is deleted while it is encrypted goes to nobody, and its sender goes on", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  const { conversations } = alice.client;
  const group = await conversations.createGroup({ title: "Birds", members: [bob.id] });
  for (let round = 0; round < 40; round++) {
    for (const conversation of [conversations.direct(bob.id), group]) {
      const { messageId } = await conversation.send({ text: `wrong ${round}` });
      for (let turn = 0; turn < round % 8; turn++) await new Promise((resolve) => setImmediate(resolve));
      await conversation.delete({ author: alice.id, messageId });
    }
  }
  for (const id of [bob.id, group.id]) await alice.client.conversations.get(id)!.send({ text: "right" });
  const shown = (conversation: string) => textsOf(bob.client, conversation).filter((text) => text !== "");
  await until(() => [alice.id, group.id].every((id) => shown(id).join() === "right"));
});

test("typing reaches a connected peer and is stored nowhere", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  await alice.client.conversations.direct(bob.id).send({ text: "hello" });
  await bob.client.conversations.direct(alice.id).send({ text: "hello" });
  await until(() => textsOf(alice.client, bob.id).length === 2);
  // Receipts are stored events, and come when they come.
  for (const [device, peer] of [
    [alice, bob],
    [bob, alice],
  ] as const) {
    const lines = () => device.client.conversations.direct(peer.id).history();
    await until(() => lines().some((line) => line.kind === "message" && line.deliveredTo.length === 1));
  }
  const heard: unknown[] = [];
  bob.client.events.on((event) => {
    if (event.kind === "typing") heard.push(event);
  });
  const before = bob.client.events.read(0, 10_000).length;
  await alice.client.conversations.direct(bob.id).typing(true);
  await until(() => heard.length === 1);
  expect(heard[0]).toMatchObject({ eventId: 0, accountId: alice.id, started: true });
  expect(bob.client.events.read(0, 10_000)).toHaveLength(before);
});

import { expect, test } from "vitest";
import { introduce, textsOf, until, World } from "../../src/index.ts";

test("two clients with contact cards talk sealed, and both see accepted and delivered", async () => {
  await using world = await World.start();
  const alice = await world.join("Alice");
  const bob = await world.join("Bob");
  await introduce(alice, bob);

  const { historyId } = await alice.client.conversations.direct(bob.id).send({ text: "hello" });
  await alice.client.outbox.settled();
  await until(() => textsOf(bob.client, alice.id).includes("hello"));
  await bob.client.conversations.direct(alice.id).send({ text: "hello yourself" });
  await until(() => textsOf(alice.client, bob.id).length === 2);

  const line = () =>
    alice.client.conversations
      .direct(bob.id)
      .history()
      .find((l) => l.historyId === historyId);
  await until(() => {
    const sent = line();
    return sent?.kind === "message" && sent.deliveredTo.length === 1;
  });
  expect(line()).toMatchObject({ sendState: "accepted", deliveredTo: [bob.id] });
  expect(textsOf(alice.client, bob.id)).toEqual(["hello", "hello yourself"]);
  expect(textsOf(bob.client, alice.id)).toEqual(["hello", "hello yourself"]);
});

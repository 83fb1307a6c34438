import { expect, test } from "vitest";
import { introduce, textsOf, until, World } from "../../src/index.ts";

test("what is sent to an offline recipient waits at the service and arrives in order, once", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  const aliceId = alice.id;
  const bobId = bob.id;
  await bob.stop();
  const texts = Array.from({ length: 150 }, (_, i) => `message ${i}`);
  for (const text of texts) await alice.client.conversations.direct(bobId).send({ text });
  await alice.client.outbox.settled();
  expect(alice.client.outbox.waiting).toBe(0);

  await bob.start();
  await bob.client.connection.caughtUp();
  expect(textsOf(bob.client, aliceId)).toEqual(texts);
  await bob.stop();
  await bob.start();
  await bob.client.connection.caughtUp();
  expect(textsOf(bob.client, aliceId)).toEqual(texts);
});

test("a sender without a service keeps its messages and sends them when the service is back", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  await world.stopService();
  await alice.client.conversations.direct(bob.id).send({ text: "patience" });
  await expect(alice.client.outbox.settled({ timeoutMs: 300 })).rejects.toThrow("outbox/still-waiting");
  expect(alice.client.outbox.waiting).toBe(1);
  await world.startService();
  await alice.client.outbox.settled();
  await until(() => textsOf(bob.client, alice.id).includes("patience"));
});

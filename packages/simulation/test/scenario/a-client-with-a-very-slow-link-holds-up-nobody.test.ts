import { expect, test } from "vitest";
import { startFaultProxy } from "../../src/fault-proxy.ts";
import { Harness } from "../../src/harness.ts";
import { introduce, textsOf, until } from "../../src/world.ts";

test("a client with a very slow link gets everything in order, once, and holds up nobody", async () => {
  await using harness = await Harness.start();
  await using proxy = await startFaultProxy({ target: harness.port });
  const alice = await harness.join("Alice");
  const bob = await harness.join("Bob", { origin: proxy.origin });
  const carol = await harness.join("Carol");
  const devices = [alice, bob, carol];
  await introduce(...devices);
  const { id } = await alice.client.conversations.createGroup({
    title: "birds",
    members: [bob.id, carol.id],
  });
  await until(() => devices.every(({ client }) => client.conversations.get(id)?.memberCount === 3));

  proxy.shape({ delayMs: 150, jitterMs: 50, bytesPerSecond: 6_000 });
  const texts = Array.from({ length: 40 }, (_, index) => `message ${index}`);
  for (const text of texts) await alice.client.conversations.get(id)!.send({ text });
  await alice.client.outbox.settled();
  await until(() => textsOf(carol.client, id).length === texts.length);
  expect(textsOf(bob.client, id).length).toBeLessThan(texts.length);

  // The slow link carries both directions.
  await bob.client.conversations.get(id)!.send({ text: "slowly" });
  await until(() => textsOf(carol.client, id).includes("slowly"));
  await until(() => textsOf(bob.client, id).length === texts.length + 1);
  await bob.client.connection.caughtUp();
  expect(textsOf(bob.client, id).filter((text) => text !== "slowly")).toEqual(texts);
  expect(textsOf(carol.client, id)).toEqual([...texts, "slowly"]);
  expect(bob.client.connection.state).toBe("connected");
});

import type { ClientEvent } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { introduce, textsOf, until, World } from "../../src/index.ts";

test("events keep their ids over restarts, come again until acknowledged, and then never", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  const [aliceId, bobId] = [alice.id, bob.id];
  const say = async (text: string) => {
    await alice.client.conversations.direct(bobId).send({ text });
    await until(() => textsOf(bob.client, aliceId).includes(text));
  };
  await say("one");
  await say("two");
  const before = bob.client.events.read();
  expect(before.map((event) => event.eventId)).toEqual(
    before.map((event) => event.eventId).sort((a, b) => a - b),
  );
  await bob.stop();
  await bob.start();
  expect(bob.client.events.read().slice(0, before.length)).toEqual(before);

  const added = (event: ClientEvent) => event.kind === "line-added" && event.line?.kind === "message";
  const [first] = before.filter(added);
  await bob.client.events.acknowledge(first!.eventId);
  expect(bob.client.events.acknowledged).toBe(first!.eventId);
  expect(bob.client.events.read().filter(added)).toHaveLength(1);
  expect(bob.client.events.read(0).filter(added)).toHaveLength(1);

  const heard: string[] = [];
  const stop = new AbortController();
  const listening = (async () => {
    for await (const event of bob.client.events.listen({ signal: stop.signal })) {
      if (event.kind === "line-added" && event.line?.kind === "message") heard.push(event.line.text);
      await bob.client.events.acknowledge(event.eventId);
    }
  })();
  await say("three");
  await until(() => heard.length === 2);
  expect(heard).toEqual(["two", "three"]);
  stop.abort();
  await listening;
  await bob.stop();
  await bob.start();
  expect(bob.client.events.read().filter(added)).toEqual([]);
});

import { systemEnvironment } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { introduce, textsOf, until, World } from "../../src/index.ts";

test("muting reaches the own other device, ends by itself, and keeps no line and no event back", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  const tablet = world.device();
  await tablet.open();
  const request = await tablet.client.linking.request(alice.client.linking.offer());
  await tablet.client.linking.finish(await alice.client.linking.approve(request));
  tablet.client.connection.start();
  await tablet.client.connection.caughtUp();
  const toBob = alice.client.conversations.direct(bob.id);
  await toBob.send({ text: "hello" });
  await until(() => tablet.client.conversations.get(bob.id) !== undefined);
  const there = tablet.client.conversations.get(bob.id)!;
  expect([toBob.mutedUntilMs, there.mutedUntilMs]).toEqual([undefined, undefined]);

  await toBob.setMuted(Number.MAX_SAFE_INTEGER);
  expect(toBob.mutedUntilMs).toBe(Number.MAX_SAFE_INTEGER);
  await until(() => there.mutedUntilMs === Number.MAX_SAFE_INTEGER, 20_000, "the tablet hears of it");
  const heard: string[] = [];
  alice.client.events.on(({ kind }) => heard.push(kind));
  await bob.client.conversations.direct(alice.id).send({ text: "psst" });
  await until(() => textsOf(alice.client, bob.id).includes("psst") && heard.includes("line-added"));

  await there.setMuted(systemEnvironment.now() + 500);
  await until(() => toBob.mutedUntilMs === undefined, 20_000, "its time is over");
  await until(() => there.mutedUntilMs === undefined);
  await toBob.setMuted(systemEnvironment.now() + 3_600_000);
  await alice.stop();
  await alice.start();
  const again = alice.client.conversations.get(bob.id)!;
  expect(again.mutedUntilMs).toBeDefined();
  await again.setMuted(undefined);
  expect(again.mutedUntilMs).toBeUndefined();
  await expect(again.setMuted(-1)).rejects.toThrow("conversation/bad-time");
});

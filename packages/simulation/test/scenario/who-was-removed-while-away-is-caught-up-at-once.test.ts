import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { until, World } from "../../src/index.ts";
import { flockOf, inGroup, newcomer, talkRound } from "../support/flock.ts";

// The fault that this finds: the log of a group in which one is no more was waited for until the time was over.
test.each(["removed", "banned"] as const)("whoever was %s while away is caught up at once", async (how) => {
  await using world = await World.start();
  const [alice, bob] = [await newcomer(world, "Alice"), await newcomer(world, "Bob")];
  const carol = await newcomer(world, "Carol");
  const group = await flockOf(alice, bob, carol);
  await talkRound([alice, bob, carol], group.id, "before");
  const bobId = bob.id;
  await bob.stop();
  if (how === "removed") await group.remove(bobId);
  else await group.community!.ban(bobId);
  await until(() => inGroup(carol, group.id)?.memberCount === 2);
  await bob.start();
  const caughtUp = bob.client.connection.caughtUp().then(() => "caught up");
  expect(await Promise.race([caughtUp, delay(8_000, "still waiting")])).toBe("caught up");
  expect(inGroup(bob, group.id)?.state).not.toBe("active");
});

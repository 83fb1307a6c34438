import { type Row, systemEnvironment } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { introduce, until, World } from "../../src/index.ts";
import { flockOf, inGroup, newcomer } from "../support/flock.ts";

const cautious = { settings: { acceptUnknown: false } };

test("a stranger who names a friend of ours owner of its group still has to ask; the friend itself does not", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob", cautious);
  const mallory = await newcomer(world, "Mallory");
  const carol = await newcomer(world, "Carol");
  await introduce(alice, bob);
  const group = await flockOf(mallory, alice, carol);
  await group.setRole(alice.id, "owner");

  expect(await group.add([bob.id])).toEqual([]);
  await until(() => inGroup(bob, group.id) !== undefined, 20_000, "Bob hears of the group");
  expect(inGroup(bob, group.id)!.state).toBe("request");

  const friends = await flockOf(alice, carol);
  expect(await friends.add([bob.id])).toEqual([]);
  await until(() => inGroup(bob, friends.id) !== undefined, 20_000, "Bob hears of the other group");
  expect(inGroup(bob, friends.id)!.state).toBe("active");
});

test("whoever adds us under a friend's name with another key than the friend's has to ask", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob", cautious);
  const carol = await newcomer(world, "Carol");
  await introduce(alice, bob);
  await bob.stop();
  // The card that Bob holds of Alice is of another key than the one that her leaf shows.
  await bob.start({
    wrapStorage: (storage) => {
      storage.run("UPDATE contact SET fingerprint = ? WHERE accepted = 1", [systemEnvironment.random(32)]);
      const { n } = storage.get("SELECT count(*) AS n FROM contact WHERE accepted = 1") as Row;
      expect(n).toBe(1);
      return storage;
    },
  });
  const group = await flockOf(alice, carol);

  expect(await group.add([bob.id])).toEqual([]);

  await until(() => inGroup(bob, group.id) !== undefined, 20_000, "Bob hears of the group");
  expect(inGroup(bob, group.id)!.state).toBe("request");
});

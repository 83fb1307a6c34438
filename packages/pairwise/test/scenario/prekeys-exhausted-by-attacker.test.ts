import { expect, test } from "vitest";
import { Peer, World } from "../support/peers.ts";

test("an attacker who claims every bundle leaves the last-resort key, with which others still reach the device", async () => {
  const world = new World();
  const bob = await Peer.create(world);
  const claimed = Array.from({ length: 150 }, () => world.bundle(bob.address));
  expect(claimed.filter((bundle) => bundle.preKey !== undefined)).toHaveLength(100);
  expect(new Set(claimed.slice(100).map((bundle) => bundle.kyberPreKey.id)).size).toBe(1);

  const [alice, carol] = [await Peer.create(world), await Peer.create(world)];
  await alice.meet(bob);
  await carol.meet(bob);
  expect(await bob.read((await alice.send("from alice", [bob])).envelopes[0]!)).toBe("from alice");
  expect(await bob.read((await carol.send("from carol", [bob])).envelopes[0]!)).toBe("from carol");
  expect(bob.store.keys("base-key")).toHaveLength(2);

  const upload = await bob.replenish();
  expect(upload).toMatchObject({ signedPreKey: undefined, lastResortKyberPreKey: undefined });
  expect([upload!.preKeys.length, upload!.kyberPreKeys.length]).toEqual([100, 100]);
  // A bundle that the attacker claimed before still works: its private keys were kept.
  const mallory = await Peer.create(world);
  await mallory.fetchList(bob.account);
  await mallory.engine.processBundles([claimed[0]!], mallory.store.persist());
  expect(await bob.read((await mallory.send("late", [bob])).envelopes[0]!)).toBe("late");
});

import { expect, test } from "vitest";
import { Peer, World } from "../support/peers.ts";

test("two devices that never met exchange messages, sealed and identified, in one transaction each", async () => {
  const world = new World();
  const alice = await Peer.create(world);
  const bob = await Peer.create(world);
  await alice.meet(bob);

  const before = alice.store.applied;
  const sent = await alice.send("hello", [bob]);
  expect(alice.store.applied - before).toBe(1);
  const received = await bob.receive(sent.envelopes[0]!);
  expect(received).toMatchObject({ kind: "message", sealed: true, sender: alice.address });
  expect(await bob.read((await alice.send("again", [bob])).envelopes[0]!)).toBe("again");
  expect(await alice.read((await bob.send("hello yourself", [alice])).envelopes[0]!)).toBe("hello yourself");

  const open = await bob.send("open", [alice], { mode: "identified" });
  expect(await alice.receive(open.envelopes[0]!)).toMatchObject({ kind: "message", sealed: false });
});

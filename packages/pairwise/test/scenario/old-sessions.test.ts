import { describe, expect, test } from "vitest";
import { DAY_MS, establishedPair, Peer, textOf, World } from "../support/peers.ts";

describe("gotcha 7: skipped keys and unacknowledged sessions do not last for ever", () => {
  test("2,001 messages later a first one that was held back is asked for again, not dropped as a duplicate", async () => {
    const { alice, bob } = await establishedPair();
    const heldBack = (await alice.send("held back", [bob])).envelopes[0]!;
    let last = heldBack;
    for (let i = 0; i < 2_001; i++) last = (await alice.send(`${i}`, [bob])).envelopes[0]!;
    expect(await bob.read(last)).toBe("2000");
    const outcome = await bob.receive(heldBack);
    expect(outcome).toMatchObject({ kind: "retry", attempt: 1 });
    expect(await bob.receive(last)).toMatchObject({ kind: "duplicate" });
  });

  test("2,000 skipped messages can still be read", async () => {
    const { alice, bob } = await establishedPair();
    const heldBack = (await alice.send("held back", [bob])).envelopes[0]!;
    let last = heldBack;
    for (let i = 0; i < 1_999; i++) last = (await alice.send(`${i}`, [bob])).envelopes[0]!;
    await bob.read(last);
    expect(textOf(await bob.receive(heldBack))).toBe("held back");
  });

  test("a session that was never acknowledged asks for a new bundle after 30 days", async () => {
    const world = new World();
    const alice = await Peer.create(world);
    const bob = await Peer.create(world);
    await alice.meet(bob);
    await alice.send("into the void", [bob]);
    const request = { recipients: [bob.address], body: new Uint8Array(1), mode: "identified" } as const;
    world.nowMs += 29 * DAY_MS;
    expect((await alice.engine.encrypt(request, alice.store.persist())).kind).toBe("persisted");
    world.nowMs += 2 * DAY_MS;
    const before = alice.store.copy();
    const outcome = await alice.engine.encrypt(request, alice.store.persist());
    expect(outcome).toMatchObject({ kind: "not-ready", sessionsNeeded: [bob.address] });
    expect(alice.store.copy()).toEqual(before);
  });
});

import { describe, expect, test } from "vitest";
import type { Persist } from "../../src/index.ts";
import { establishedPair, Peer, World } from "../support/peers.ts";

class Crash extends Error {}

/** The process dies inside the transaction: nothing of it is there after the restart. */
function crash<T>(): Persist<T, T> {
  return () => {
    throw new Crash();
  };
}

describe("gotcha 3: an operation writes one set at once or nothing", () => {
  test("a first message is received after a crash before its write set was stored: its prekeys are still there", async () => {
    const world = new World();
    const alice = await Peer.create(world);
    const bob = await Peer.create(world);
    await alice.meet(bob);
    await bob.fetchList(alice.account);
    const first = (await alice.send("first", [bob])).envelopes[0]!;

    const before = bob.store.copy();
    await expect(bob.engine.decrypt({ envelopes: [first] }, crash())).rejects.toThrow(Crash);
    expect(bob.store.copy()).toEqual(before);
    expect(bob.store.keys("pre-key")).toHaveLength(100);
    bob.restart();
    expect(await bob.read(first)).toBe("first");
    expect(bob.store.keys("pre-key")).toHaveLength(99);
  });

  test("session, prekeys and the note against duplicates are in one set with the plaintext", async () => {
    const world = new World();
    const alice = await Peer.create(world);
    const bob = await Peer.create(world);
    await alice.meet(bob);
    await bob.fetchList(alice.account);
    const first = (await alice.send("first", [bob])).envelopes[0]!;
    const staged = await bob.engine.decrypt({ envelopes: [first] }, (set) => set);
    expect(staged.output[0]!.kind).toBe("message");
    const changes = staged.writeSet.changes.map(
      ({ table, value }) => `${value ? "write" : "delete"} ${table}`,
    );
    expect(changes.sort()).toEqual([
      "delete kyber-pre-key",
      "delete pre-key",
      "write received",
      "write session",
    ]);
    // Not applied: so nothing changed, and the next read sees the old state.
    expect(bob.store.keys("session")).toHaveLength(0);
  });

  test("a send whose write set was lost is encrypted again with the same key, since its bytes never left", async () => {
    const { alice, bob } = await establishedPair();
    const request = { recipients: [bob.address], body: new Uint8Array([1]), mode: "sealed" } as const;
    await expect(alice.engine.encrypt(request, crash())).rejects.toThrow(Crash);
    alice.restart();
    expect(await bob.read((await alice.send("after the crash", [bob])).envelopes[0]!)).toBe(
      "after the crash",
    );
  });

  test("bytes that were stored and sent twice after a crash are a duplicate the second time", async () => {
    const { alice, bob } = await establishedPair();
    const sent = await alice.send("once", [bob]);
    alice.restart();
    expect(await bob.read(sent.envelopes[0]!)).toBe("once");
    expect(await bob.receive(sent.envelopes[0]!)).toEqual({ kind: "duplicate", sender: alice.address });
    expect(await bob.read((await alice.send("next", [bob])).envelopes[0]!)).toBe("next");
  });

  test("a bad envelope between good ones harms none of them, and all share one write set", async () => {
    const { alice, bob } = await establishedPair();
    const [one, two, three] = [
      (await alice.send("one", [bob])).envelopes[0]!,
      (await alice.send("two", [bob])).envelopes[0]!,
      (await alice.send("three", [bob])).envelopes[0]!,
    ];
    const spoiled = { ...two, ciphertext: two.ciphertext.slice() };
    spoiled.ciphertext[spoiled.ciphertext.length - 1]! ^= 1;
    const before = bob.store.applied;
    const outcomes = await bob.receiveOnly(three, spoiled, one, two, three);
    expect(bob.store.applied - before).toBe(1);
    expect(outcomes.map((outcome) => outcome.kind)).toEqual([
      "message",
      "rejected",
      "message",
      "message",
      "duplicate",
    ]);
  });

  test("a failed operation gives its queue back", async () => {
    const { alice, bob } = await establishedPair();
    const request = { recipients: [bob.address], body: new Uint8Array([1]), mode: "sealed" } as const;
    const crashed = alice.engine.encrypt(request, crash());
    const next = alice.send("next", [bob]);
    await expect(crashed).rejects.toThrow(Crash);
    expect(await bob.read((await next).envelopes[0]!)).toBe("next");
  });
});

import { describe, expect, test } from "vitest";
import type { IncomingEnvelope } from "../../src/index.ts";
import { establishedPair, Peer, World } from "../support/peers.ts";

describe("gotcha 1: libsignal has no locks, so operations on one address stand in a queue", () => {
  test("fifty encrypts to one device at the same moment use fifty different message keys", async () => {
    const { alice, bob } = await establishedPair();
    const texts = Array.from({ length: 50 }, (_, i) => `message ${i}`);
    const sent = await Promise.all(texts.map((text) => alice.send(text, [bob])));
    const read: string[] = [];
    for (const { envelopes } of sent) read.push(await bob.read(envelopes[0]!));
    expect(read).toEqual(texts);
  });

  test("both sides send their first message at the same moment, and both are read", async () => {
    const world = new World();
    const alice = await Peer.create(world);
    const bob = await Peer.create(world);
    await Promise.all([alice.meet(bob), bob.meet(alice)]);
    const [a, b] = await Promise.all([alice.send("from alice", [bob]), bob.send("from bob", [alice])]);
    const read = await Promise.all([bob.read(a.envelopes[0]!), alice.read(b.envelopes[0]!)]);
    expect(read).toEqual(["from alice", "from bob"]);
    for (let i = 0; i < 3; i++) {
      expect(await bob.read((await alice.send(`a${i}`, [bob])).envelopes[0]!)).toBe(`a${i}`);
      expect(await alice.read((await bob.send(`b${i}`, [alice])).envelopes[0]!)).toBe(`b${i}`);
    }
  });

  test("two senders reach one device at the same moment, and a send overlaps with both", async () => {
    const world = new World();
    const [alice, bob, carol] = [
      await Peer.create(world),
      await Peer.create(world),
      await Peer.create(world),
    ];
    await alice.meet(bob);
    await carol.meet(bob);
    const fromAlice = (await alice.send("from alice", [bob])).envelopes[0]!;
    const fromCarol = (await carol.send("from carol", [bob])).envelopes[0]!;
    await bob.fetchList(alice.account);
    await bob.fetchList(carol.account);
    const read = await Promise.all([bob.read(fromAlice), bob.read(fromCarol)]);
    expect(read).toEqual(["from alice", "from carol"]);
    // Each took its own one-time keys although both ran at once.
    expect(bob.store.keys("pre-key")).toHaveLength(98);
    expect(bob.store.keys("kyber-pre-key")).toHaveLength(99);
  });
});

test("decrypts are stored in the order they were asked for, also when a later one has less to do", async () => {
  const { alice, bob, world } = await establishedPair();
  const carol = await Peer.create(world);
  await carol.meet(bob);
  await bob.fetchList(carol.account);
  const many = await Promise.all(Array.from({ length: 30 }, (_, i) => alice.send(`${i}`, [bob])));
  const one = await carol.send("one", [bob]);
  const order: string[] = [];
  const decrypt = (name: string, envelopes: readonly IncomingEnvelope[]) =>
    bob.engine.decrypt({ envelopes }, ({ writeSet, output }) => {
      expect(output.every((outcome) => outcome.kind === "message")).toBe(true);
      bob.store.applyWriteSet(writeSet);
      order.push(name);
    });
  const first = decrypt(
    "thirty",
    many.map((sent) => sent.envelopes[0]!),
  );
  await Promise.all([first, decrypt("one", one.envelopes)]);
  expect(order).toEqual(["thirty", "one"]);
});

describe("gotcha 2: the cryptography runs on the main thread", () => {
  test("64 encrypts yield eight times, and other work runs in between", async () => {
    const { alice, bob } = await establishedPair();
    let turns = 0;
    let running = true;
    const ticker = (async () => {
      while (running) {
        await new Promise((resolve) => setImmediate(resolve));
        turns++;
      }
    })();
    const before = alice.yields;
    for (let i = 0; i < 64; i++) await alice.send("x", [bob]);
    running = false;
    await ticker;
    expect(alice.yields - before).toBe(8);
    expect(turns).toBeGreaterThanOrEqual(8);
  });

  test("an operation refuses to begin while the caller has a transaction open, since it would yield inside it", async () => {
    const { alice, bob } = await establishedPair();
    const before = alice.store.copy();
    const begin = () => {
      const recipients = [bob.address];
      const request = { recipients, body: new Uint8Array(3), mode: "sealed" } as const;
      return alice.engine.encrypt(request, alice.store.persist());
    };
    const refused = alice.store.transaction(begin);
    await expect(refused).rejects.toThrow("pairwise/transaction-open");
    expect(alice.store.copy()).toEqual(before);
    await begin();
  });

  test("a persist function that returns a promise is the caller's mistake", async () => {
    const { alice, bob } = await establishedPair();
    const request = { recipients: [bob.address], body: new Uint8Array(3), mode: "sealed" } as const;
    const late = alice.engine.encrypt(request, async () => {});
    await expect(late).rejects.toThrow("pairwise/persist-not-synchronous");
  });
});

import { accountId, formatAddress, UsageError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { validatePreKeyUpload } from "../../src/server/index.ts";
import { DAY_MS, establishedPair, Peer, random, START_MS, World } from "../support/peers.ts";

const rowsOf = (peer: Peer) => ({
  preKeys: peer.store.keys("pre-key").length,
  kyber: peer.store.keys("kyber-pre-key").length,
  signed: peer.store.keys("signed-pre-key").length,
  baseKeys: peer.store.keys("base-key").length,
});

describe("prekey life cycle", () => {
  test("the first upload has 100 one-time keys of both kinds, a signed prekey and a last-resort Kyber prekey", async () => {
    const peer = Peer.blank(new World());
    await peer.engine.generateAccount(accountId(random(16)), peer.store.persist());
    const counts = { preKeys: 0, kyberPreKeys: 0 };
    const upload = (await peer.engine.preparePreKeys(counts, peer.store.persist()))!;
    expect(upload.preKeys).toHaveLength(100);
    expect(upload.kyberPreKeys).toHaveLength(100);
    validatePreKeyUpload(peer.engine.local()!.identityKey, upload);
    expect(rowsOf(peer)).toEqual({ preKeys: 100, kyber: 101, signed: 1, baseKeys: 0 });
  });

  test("an upload that was not confirmed is returned again as it was, also after a restart", async () => {
    const world = new World();
    const peer = Peer.blank(world);
    await peer.engine.generateAccount(accountId(random(16)), peer.store.persist());
    const counts = { preKeys: 0, kyberPreKeys: 0 };
    const first = (await peer.engine.preparePreKeys(counts, peer.store.persist()))!;
    peer.restart();
    expect(await peer.engine.preparePreKeys(counts, peer.store.persist())).toEqual(first);
    await peer.engine.confirmPreKeyUpload(random(16), peer.store.persist());
    expect(await peer.engine.preparePreKeys(counts, peer.store.persist())).toEqual(first);
    await peer.engine.confirmPreKeyUpload(first.uploadId, peer.store.persist());
    const full = { preKeys: 100, kyberPreKeys: 100 };
    expect(await peer.engine.preparePreKeys(full, peer.store.persist())).toBeUndefined();
  });

  test("one-time keys are filled up to 100 below 25 of a kind, and not at 25", async () => {
    const peer = await Peer.create(new World());
    const at25 = { preKeys: 25, kyberPreKeys: 25 };
    expect(await peer.engine.preparePreKeys(at25, peer.store.persist())).toBeUndefined();
    const at24 = { preKeys: 24, kyberPreKeys: 25 };
    const upload = await peer.engine.preparePreKeys(at24, peer.store.persist());
    expect(upload).toMatchObject({ signedPreKey: undefined, lastResortKyberPreKey: undefined });
    expect([upload!.preKeys.length, upload!.kyberPreKeys.length]).toEqual([76, 0]);
  });

  test("a device that wants fewer keeps as many as it wants, filled up below a quarter", async () => {
    const peer = Peer.blank(new World(), { preKeyStock: 8 });
    await peer.engine.generateAccount(accountId(random(16)), peer.store.persist());
    const asked = async (left: number) => {
      const upload = await peer.engine.preparePreKeys(
        { preKeys: left, kyberPreKeys: left },
        peer.store.persist(),
      );
      if (upload !== undefined) await peer.engine.confirmPreKeyUpload(upload.uploadId, peer.store.persist());
      return upload === undefined ? 0 : upload.preKeys.length;
    };
    expect([await asked(0), await asked(8), await asked(2), await asked(1)]).toEqual([8, 0, 0, 7]);
  });

  test.each([0, 101, 2.5, Number.NaN])("a stock of %s is refused at once", async (preKeyStock) => {
    expect(() => Peer.blank(new World(), { preKeyStock })).toThrow(UsageError);
  });

  test("signed and last-resort prekey are replaced after a week and deleted 30 days after that, not earlier", async () => {
    const world = new World();
    const peer = await Peer.create(world);
    const step = async (day: number) => {
      world.nowMs = START_MS + day * DAY_MS;
      return peer.replenish();
    };
    expect(await step(7 - 1 / 24)).toBeUndefined();
    const rotated = await step(7);
    expect(rotated?.signedPreKey).toBeDefined();
    expect(rotated?.lastResortKyberPreKey).toBeDefined();
    expect(rotated?.preKeys).toHaveLength(0);
    expect(rowsOf(peer)).toMatchObject({ signed: 2, kyber: 102 });
    await step(14);
    await step(21);
    await step(28);
    await step(35);
    expect(rowsOf(peer)).toMatchObject({ signed: 6, kyber: 106 });
    await step(37 - 1 / 24);
    expect(rowsOf(peer)).toMatchObject({ signed: 6, kyber: 106 });
    await step(37);
    expect(rowsOf(peer)).toMatchObject({ signed: 5, kyber: 105 });
  });

  test("a replaced key is kept for 30 days from when the directory has its successor, however late that is", async () => {
    const world = new World();
    const alice = await Peer.create(world);
    const bob = await Peer.create(world);
    world.nowMs += 8 * DAY_MS;
    // Bob's phone goes off between generating the next keys and uploading them.
    const full = { preKeys: 100, kyberPreKeys: 100 };
    const upload = (await bob.engine.preparePreKeys(full, bob.store.persist()))!;
    expect(upload.signedPreKey).toBeDefined();
    world.nowMs += 20 * DAY_MS;
    await alice.refreshCertificate();
    await alice.meet(bob);
    const first = (await alice.send("are you there?", [bob])).envelopes[0]!;
    world.nowMs += 12 * DAY_MS;
    expect(await bob.engine.preparePreKeys(full, bob.store.persist())).toEqual(upload);
    world.upload(bob.address, upload);
    await bob.engine.confirmPreKeyUpload(upload.uploadId, bob.store.persist());
    await bob.replenish();
    expect(await bob.read(first)).toBe("are you there?");
    const [original] = bob.store.keys("signed-pre-key");
    world.nowMs += 29 * DAY_MS;
    await bob.replenish();
    expect(bob.store.keys("signed-pre-key")).toContain(original);
    world.nowMs += DAY_MS;
    await bob.replenish();
    expect(bob.store.keys("signed-pre-key")).not.toContain(original);
  });

  test("a clock that went back rotates at once instead of never", async () => {
    const world = new World();
    const peer = await Peer.create(world);
    world.nowMs = START_MS - DAY_MS;
    expect((await peer.replenish())?.signedPreKey).toBeDefined();
  });

  test("at most 2,000 one-time keys of a kind are kept, the newest, however often bundles are drained", async () => {
    const world = new World();
    const peer = await Peer.create(world);
    const ids = new Set<number>();
    for (let i = 0; i < 21; i++) {
      world.nowMs += 1;
      world.directory.forEach((entry) => {
        entry.preKeys.length = 0;
        entry.kyberPreKeys.length = 0;
      });
      for (const key of (await peer.replenish())!.preKeys) ids.add(key.id);
    }
    expect(rowsOf(peer)).toMatchObject({ preKeys: 2_000, kyber: 2_001 });
    const kept = new Set(peer.store.keys("pre-key").map(Number));
    expect([...ids].slice(-100).every((id) => kept.has(id))).toBe(true);
  });
});

describe("gotcha 5: markKyberPreKeyUsed", () => {
  test("deletes a one-time Kyber prekey with the first message, and its EC prekey too", async () => {
    const { bob } = await establishedPair();
    expect(rowsOf(bob)).toEqual({ preKeys: 99, kyber: 100, signed: 1, baseKeys: 0 });
  });

  test("keeps the last-resort key, notes the base key, and refuses a second session from the same base key", async () => {
    const world = new World();
    const alice = await Peer.create(world);
    const bob = await Peer.create(world);
    world.directory.forEach((entry) => {
      entry.preKeys.length = 0;
      entry.kyberPreKeys.length = 0;
    });
    await alice.meet(bob);
    const first = (await alice.send("first", [bob])).envelopes[0]!;
    expect(await bob.read(first)).toBe("first");
    expect(rowsOf(bob)).toEqual({ preKeys: 100, kyber: 101, signed: 1, baseKeys: 1 });

    // Without the session, and without the note of what was accepted, libsignal runs the handshake again.
    const key = formatAddress(alice.address);
    const gone = (["session", "received"] as const).map((table) => ({ table, key, value: undefined }));
    bob.store.applyWriteSet({ changes: gone });
    expect(await bob.receive(first)).toMatchObject({ kind: "rejected", code: "pairwise/base-key-reused" });
    expect(rowsOf(bob)).toEqual({ preKeys: 100, kyber: 101, signed: 1, baseKeys: 1 });
  });

  test("base keys are forgotten together with their last-resort key", async () => {
    const world = new World();
    const alice = await Peer.create(world);
    const bob = await Peer.create(world);
    world.directory.forEach((entry) => {
      entry.kyberPreKeys.length = 0;
    });
    await alice.meet(bob);
    await bob.read((await alice.send("first", [bob])).envelopes[0]!);
    expect(rowsOf(bob).baseKeys).toBe(1);
    world.nowMs += 7 * DAY_MS;
    await bob.replenish();
    expect(rowsOf(bob).baseKeys).toBe(1);
    world.nowMs += 30 * DAY_MS;
    await bob.replenish();
    expect(rowsOf(bob).baseKeys).toBe(0);
  });
});

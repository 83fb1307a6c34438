import { describe, expect, test } from "vitest";
import type { PreKeyBundle } from "../../src/index.ts";
import { Peer, random, World } from "../support/peers.ts";

type Bytes = Uint8Array<ArrayBuffer>;

function flipped(bytes: Bytes, at: number): Bytes {
  const copy = bytes.slice();
  copy[at]! ^= 1 << (at % 8);
  return copy;
}

async function strangers() {
  const world = new World();
  const alice = await Peer.create(world);
  const bob = await Peer.create(world);
  await alice.fetchList(bob.account);
  return { world, alice, bob };
}

async function offer(alice: Peer, bundle: PreKeyBundle) {
  const [outcome] = await alice.engine.processBundles([bundle], alice.store.persist());
  return outcome!;
}

describe("a tampered bundle is refused with pairwise/bundle-tampered, and nothing can be sent", () => {
  test("each signed field, changed anywhere in it", async () => {
    const { world, alice, bob } = await strangers();
    const bundle = world.bundle(bob.address);
    const { signedPreKey, kyberPreKey } = bundle;
    const changed: [string, PreKeyBundle][] = [];
    const everyByte = (bytes: Bytes, step: number, build: (damaged: Bytes) => PreKeyBundle, name: string) => {
      for (let at = 0; at < bytes.length; at += step)
        changed.push([`${name} ${at}`, build(flipped(bytes, at))]);
      changed.push([`${name} short`, build(bytes.slice(1))], [`${name} empty`, build(new Uint8Array(0))]);
    };
    everyByte(
      signedPreKey.publicKey,
      1,
      (publicKey) => ({ ...bundle, signedPreKey: { ...signedPreKey, publicKey } }),
      "signed prekey",
    );
    everyByte(
      signedPreKey.signature,
      1,
      (signature) => ({ ...bundle, signedPreKey: { ...signedPreKey, signature } }),
      "signature",
    );
    everyByte(
      kyberPreKey.publicKey,
      23,
      (publicKey) => ({ ...bundle, kyberPreKey: { ...kyberPreKey, publicKey } }),
      "Kyber prekey",
    );
    everyByte(
      kyberPreKey.signature,
      1,
      (signature) => ({ ...bundle, kyberPreKey: { ...kyberPreKey, signature } }),
      "Kyber signature",
    );
    for (const [name, damaged] of changed) {
      const outcome = await offer(alice, damaged);
      expect(outcome, name).toEqual({
        kind: "rejected",
        code: "pairwise/bundle-tampered",
        address: bob.address,
      });
    }
    expect(alice.store.keys("session")).toHaveLength(0);
    const request = { recipients: [bob.address], body: new Uint8Array(1), mode: "sealed" } as const;
    const outcome = await alice.engine.encrypt(request, alice.store.persist());
    expect(outcome).toMatchObject({ kind: "not-ready", sessionsNeeded: [bob.address] });
    expect(await offer(alice, bundle)).toMatchObject({ kind: "session-created" });
    console.log(`${changed.length} tampered bundles refused`);
  });

  test("keys of another device, numbers out of range, and an identity key that is not on the list", async () => {
    const { world, alice, bob } = await strangers();
    const mallory = await Peer.create(world);
    const bundle = world.bundle(bob.address);
    const foreign = world.bundle(mallory.address);
    const tampered: PreKeyBundle[] = [
      { ...bundle, signedPreKey: foreign.signedPreKey },
      { ...bundle, kyberPreKey: foreign.kyberPreKey },
      { ...bundle, registrationId: 0 },
      { ...bundle, registrationId: 16_381 },
      { ...bundle, registrationId: 1.5 },
      { ...bundle, preKey: { ...bundle.preKey!, id: 0 } },
      { ...bundle, signedPreKey: { ...bundle.signedPreKey, id: 2 ** 24 } },
      { ...bundle, kyberPreKey: { ...bundle.kyberPreKey, id: -1 } },
      { ...bundle, preKey: { ...bundle.preKey!, publicKey: random(32) } },
      { ...bundle, preKey: { ...bundle.preKey!, publicKey: new Uint8Array(33) } },
    ];
    for (const damaged of tampered) {
      expect(await offer(alice, damaged)).toMatchObject({ code: "pairwise/bundle-tampered" });
    }
    const whole = { ...foreign, address: bob.address };
    expect(await offer(alice, whole)).toEqual({ kind: "device-list-needed", address: bob.address });
    expect(alice.store.keys("session")).toHaveLength(0);
    const twice = async () => alice.engine.processBundles([bundle, bundle], alice.store.persist());
    await expect(twice()).rejects.toThrow("pairwise/bundle-twice");
  });

  test("one tampered bundle among three leaves the two others usable, in one write set", async () => {
    const { world, alice, bob } = await strangers();
    const carol = await Peer.create(world);
    const dave = await Peer.create(world);
    await alice.fetchList(carol.account);
    await alice.fetchList(dave.account);
    const bad = world.bundle(carol.address);
    const spoiled = { ...bad, signedPreKey: { ...bad.signedPreKey, signature: new Uint8Array(64) } };
    const bundles = [world.bundle(bob.address), spoiled, world.bundle(dave.address)];
    const before = alice.store.applied;
    const outcomes = await alice.engine.processBundles(bundles, alice.store.persist());
    expect(outcomes.map(({ kind }) => kind)).toEqual(["session-created", "rejected", "session-created"]);
    expect(alice.store.applied - before).toBe(1);
    expect(alice.store.keys("session")).toHaveLength(2);
  });
});

describe("gotcha 6: the one-time EC prekey is not signed", () => {
  test("a swapped one cannot be seen by the sender; the recipient cannot read and asks again, nobody else can read", async () => {
    const { world, alice, bob } = await strangers();
    const mallory = await Peer.create(world);
    const bundle = world.bundle(bob.address);
    const swapped = { ...bundle, preKey: world.bundle(mallory.address).preKey };
    expect(await offer(alice, swapped)).toMatchObject({ kind: "session-created" });
    const sent = await alice.send("secret", [bob]);
    const outcome = await bob.receive(sent.envelopes[0]!);
    expect(outcome).toMatchObject({ kind: "retry", attempt: 1 });
    expect(await mallory.receive(sent.envelopes[0]!)).toMatchObject({ code: "pairwise/unseal-failed" });
    if (outcome.kind !== "retry") return;

    const asked = await alice.receive(bob.envelope(outcome.request));
    expect(asked).toMatchObject({ kind: "retry-requested", sessionArchived: true });
    await alice.meet(bob);
    const again = await alice.send("secret", [bob], { reference: sent.reference });
    expect(await bob.read(again.envelopes[0]!)).toBe("secret");
  });

  test("one with a right key under a wrong id is no prekey of the recipient", async () => {
    const { world, alice, bob } = await strangers();
    const bundle = world.bundle(bob.address);
    const free = [1, 2].find((id) => bob.store.read("pre-key", String(id)) === undefined)!;
    await offer(alice, { ...bundle, preKey: { ...bundle.preKey!, id: free } });
    const sent = await alice.send("secret", [bob]);
    expect(await bob.receive(sent.envelopes[0]!)).toMatchObject({ kind: "retry" });
    expect(bob.store.keys("session")).toHaveLength(0);
  });
});

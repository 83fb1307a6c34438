import { describe, expect, test } from "vitest";
import { type IncomingEnvelope, MAX_CIPHERTEXT_BYTES } from "../../src/index.ts";
import { establishedPair, Peer, random, textOf, World } from "../support/peers.ts";

function flipped(envelope: IncomingEnvelope, at: number): IncomingEnvelope {
  const ciphertext = envelope.ciphertext.slice();
  ciphertext[at]! ^= 1 << (at % 8);
  return { ...envelope, ciphertext };
}

const codeOf = (outcome: { kind: string; code?: string }) => outcome.code ?? outcome.kind;

/** What became of envelopes, counted by outcome. */
function tally(outcomes: readonly { kind: string; code?: string }[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const outcome of outcomes) counts[codeOf(outcome)] = (counts[codeOf(outcome)] ?? 0) + 1;
  return counts;
}

describe("tampered envelopes", () => {
  test("a sealed one changed in any single byte is refused, and changes nothing", async () => {
    const { alice, bob } = await establishedPair();
    const { envelopes } = await alice.send("hello", [bob]);
    const envelope = envelopes[0]!;
    const before = bob.store.copy();
    const changed = Array.from(envelope.ciphertext, (_, at) => flipped(envelope, at));
    const outcomes = await bob.receiveOnly(...changed);
    expect(Object.keys(tally(outcomes))).toEqual(["pairwise/unseal-failed"]);
    expect(bob.store.copy()).toEqual(before);
    expect(await bob.read(envelope)).toBe("hello");
    console.log(`${changed.length} sealed envelopes:`, tally(outcomes));
  });

  test("an identified one changed in any single byte is never accepted as something else", async () => {
    const { alice, bob } = await establishedPair();
    const { envelopes } = await alice.send("hello", [bob], { mode: "identified" });
    const envelope = envelopes[0]!;
    const outcomes = [];
    for (let at = 0; at < envelope.ciphertext.length; at++) {
      const copy = bob.store.copy();
      const [outcome] = await bob.receiveOnly(flipped(envelope, at));
      // The marker (bytes 1 to 10) is the service's to change: it names the message, it is not the message. Its
      // first two bytes must be zero.
      if (outcome!.kind === "message") expect(at).toBeGreaterThan(0);
      if (outcome!.kind === "message") expect(at).toBeLessThan(11);
      bob.store.restore(copy);
      outcomes.push(outcome!);
    }
    const counts = tally(outcomes);
    console.log(`${outcomes.length} identified envelopes:`, counts);
    expect(Object.keys(counts).sort()).toEqual(["message", "pairwise/malformed", "retry"]);
    expect(counts["message"]).toBe(8);
  });

  test("a first message changed in any byte of a bounded slice says the same or nothing, and then uses up no prekey", async () => {
    const world = new World();
    const [alice, bob] = [await Peer.create(world), await Peer.create(world)];
    await alice.meet(bob);
    await bob.fetchList(alice.account);
    const { envelopes } = await alice.send("hello", [bob], { mode: "identified" });
    const envelope = envelopes[0]!;
    const before = bob.store.copy();
    const accepted: number[] = [];
    for (let at = 11; at < envelope.ciphertext.length; at += at < 160 ? 1 : 29) {
      bob.store.restore(before);
      const [outcome] = await bob.receiveOnly(flipped(envelope, at));
      if (outcome!.kind === "message") {
        expect(textOf(outcome!)).toBe("hello");
        accepted.push(at);
        continue;
      }
      expect(["retry", "rejected", "device-list-needed"], `byte ${at}`).toContain(outcome!.kind);
      expect(bob.store.keys("session"), `byte ${at}`).toHaveLength(0);
      expect(bob.store.keys("pre-key"), `byte ${at}`).toHaveLength(100);
      expect(bob.store.keys("kyber-pre-key"), `byte ${at}`).toHaveLength(101);
    }
    console.log("bytes of a first message that nothing authenticates:", accepted);
    expect(accepted.length).toBeLessThanOrEqual(4);
    bob.store.restore(before);
    expect(await bob.read(envelope)).toBe("hello");
  });

  test("truncated to any length, empty, oversize or random: refused with a stable code", async () => {
    const { alice, bob } = await establishedPair();
    const { envelopes } = await alice.send("hello", [bob]);
    const envelope = envelopes[0]!;
    const cut = Array.from({ length: envelope.ciphertext.length }, (_, length) => ({
      ...envelope,
      ciphertext: envelope.ciphertext.slice(0, length),
    }));
    const noise = Array.from({ length: 200 }, (_, i) => ({ ...envelope, ciphertext: random(i * 7) }));
    const before = bob.store.copy();
    const outcomes = await bob.receiveOnly(...cut, ...noise);
    expect(Object.keys(tally(outcomes))).toEqual(["pairwise/unseal-failed"]);
    const oversize = { ...envelope, ciphertext: new Uint8Array(MAX_CIPHERTEXT_BYTES + 1) };
    expect(tally(await bob.receiveOnly(oversize))).toEqual({ "pairwise/oversize": 1 });
    const open = noise.map((item) => ({ ...item, identifiedSender: alice.address }));
    const codes = Object.keys(tally(await bob.receiveOnly(...open)));
    for (const code of codes) expect(["pairwise/malformed", "pairwise/unsupported-type"]).toContain(code);
    expect(bob.store.copy()).toEqual(before);
  });
});

test("a type that this protocol does not use, such as a sender-key message, is refused before libsignal sees it", async () => {
  const { alice, bob } = await establishedPair();
  const { envelopes } = await alice.send("hello", [bob], { mode: "identified" });
  for (const type of [0, 1, 7, 9, 255]) {
    const ciphertext = envelopes[0]!.ciphertext.slice();
    ciphertext[0] = type;
    const outcome = await bob.receive({ ...envelopes[0]!, ciphertext });
    expect(outcome).toMatchObject({ kind: "rejected", code: "pairwise/unsupported-type" });
  }
});

describe("envelopes of somebody else", () => {
  test("one for another device does not open, and one of oneself is refused", async () => {
    const { alice, bob, world } = await establishedPair();
    const carol = await Peer.create(world);
    const { envelopes } = await alice.send("for bob", [bob]);
    expect(await carol.receive(envelopes[0]!)).toMatchObject({ code: "pairwise/unseal-failed" });
    const identified = { ...envelopes[0]!, identifiedSender: bob.address };
    expect(await bob.receive(identified)).toMatchObject({ kind: "rejected" });
    const own = await alice.send("open", [bob], { mode: "identified" });
    const reflected = { ...own.envelopes[0]!, identifiedSender: bob.address };
    expect(await bob.receive(reflected)).toMatchObject({ code: "pairwise/self-send" });
  });

  test("gotcha 12: a service that claims another sender for an identified envelope is refused", async () => {
    const { alice, bob, world } = await establishedPair();
    const mallory = await Peer.create(world);
    await mallory.meet(bob);
    await bob.read((await mallory.send("I am Mallory", [bob])).envelopes[0]!);
    const open = await mallory.send("who am I?", [bob], { mode: "identified" });
    const before = bob.store.keys("session").length;
    const outcome = await bob.receive({ ...open.envelopes[0]!, identifiedSender: alice.address });
    expect(["retry", "rejected"]).toContain(outcome.kind);
    expect(bob.store.keys("session")).toHaveLength(before);
    expect(await bob.read(open.envelopes[0]!)).toBe("who am I?");
  });

  test("gotcha 12: a device that moves its own plaintext under a third party's address is found out", async () => {
    const world = new World();
    const [alice, bob] = [await Peer.create(world), await Peer.create(world)];
    const tablet = await bob.link();
    world.uploadList(bob);
    await alice.meet(bob, tablet);
    const { envelopes } = await alice.send("for the phone", [bob, tablet]);
    expect(await tablet.receive(envelopes[0]!)).toMatchObject({ code: "pairwise/unseal-failed" });
    expect(await bob.read(envelopes[0]!)).toBe("for the phone");
  });

  test("a replayed envelope is a duplicate, however often and in whatever company", async () => {
    const { alice, bob } = await establishedPair();
    const one = (await alice.send("one", [bob])).envelopes[0]!;
    const two = (await alice.send("two", [bob])).envelopes[0]!;
    const outcomes = await bob.receiveOnly(one, one, two, one, two);
    expect(tally(outcomes)).toEqual({ message: 2, duplicate: 3 });
    bob.restart();
    expect(tally(await bob.receiveOnly(two, one))).toEqual({ duplicate: 2 });
  });

  test("a retry request for another device's message is refused, and so is garbage in its place", async () => {
    const { alice, bob, world } = await establishedPair();
    const tablet = await alice.link();
    world.uploadList(alice);
    await bob.fetchList(alice.account);
    await bob.meet(tablet);
    const { envelopes } = await alice.send("hello", [bob]);
    await bob.engine.deleteSessions([alice.address], bob.store.persist());
    const failed = await bob.receive(envelopes[0]!);
    if (failed.kind !== "retry") throw new Error(failed.kind);
    // The request names device 1; a service that brings it to device 2 cannot even have it unsealed.
    expect(await tablet.receive(bob.envelope(failed.request))).toMatchObject({
      code: "pairwise/unseal-failed",
    });
    const plain = new Uint8Array([8, ...new Uint8Array(10), 0xc0, 0x80]);
    const open = { ciphertext: plain, identifiedSender: bob.address, acceptedAtMs: world.nowMs };
    expect(await alice.receive(open)).toMatchObject({ code: "pairwise/malformed" });
  });
});

describe("requests that only a mistaken caller makes", () => {
  test("no recipient, a recipient twice, too many, an oversize body and a bad reference are UsageErrors", async () => {
    const { alice, bob } = await establishedPair();
    const request = { recipients: [bob.address], body: new Uint8Array(1), mode: "sealed" } as const;
    const wrong: [string, object][] = [
      ["pairwise/recipient-count", { recipients: [] }],
      ["pairwise/recipient-count", { recipients: Array(1_281).fill(bob.address) }],
      ["pairwise/recipient-twice", { recipients: [bob.address, bob.address] }],
      ["pairwise/recipient-is-self", { recipients: [alice.address] }],
      ["pairwise/body-too-long", { body: new Uint8Array(40_897) }],
      ["pairwise/bad-reference", { reference: 2 ** 48 }],
      ["pairwise/bad-reference", { reference: -1 }],
    ];
    const before = alice.store.copy();
    for (const [code, change] of wrong) {
      const encrypted = alice.engine.encrypt({ ...request, ...change }, alice.store.persist());
      await expect(encrypted, code).rejects.toThrow(code);
    }
    expect(alice.store.copy()).toEqual(before);
  });

  test("the largest body goes through, also as a first message with all its keys", async () => {
    const world = new World();
    const [alice, bob] = [await Peer.create(world), await Peer.create(world)];
    await alice.meet(bob);
    const body = random(40_896);
    const { envelopes } = await alice.send(body, [bob]);
    expect(envelopes[0]!.ciphertext.length).toBeLessThanOrEqual(MAX_CIPHERTEXT_BYTES);
    expect(await bob.receive(envelopes[0]!)).toMatchObject({ kind: "message", body });
  });
});

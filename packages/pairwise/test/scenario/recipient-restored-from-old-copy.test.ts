import { expect, test } from "vitest";
import { addressKey } from "../../src/address.ts";
import { DAY_MS, establishedPair, type Peer, textOf, World } from "../support/peers.ts";

/** What the sender's client does with a retry: fetch a bundle if told to, and encrypt the same again. */
async function sendAgain(sender: Peer, recipient: Peer, request: Uint8Array<ArrayBuffer>, text: string) {
  const outcome = await sender.receive({
    ciphertext: request,
    identifiedSender: undefined,
    acceptedAtMs: sender.world.nowMs,
  });
  if (outcome.kind !== "retry-requested") throw new Error(outcome.kind);
  if (outcome.sessionArchived) await sender.meet(recipient);
  const { reference } = outcome;
  return { outcome, envelope: (await sender.send(text, [recipient], { reference })).envelopes[0]! };
}

test("a recipient restored from an old copy of its store asks again and gets every message once", async () => {
  const { alice, bob } = await establishedPair();
  const oldCopy = bob.store.copy();
  for (let round = 0; round < 2; round++) {
    await alice.read((await bob.send("a ratchet step", [alice])).envelopes[0]!);
    await bob.read((await alice.send("that the copy does not know", [bob])).envelopes[0]!);
  }
  bob.store.restore(oldCopy);
  bob.restart();

  const lost = await alice.send("to the restored one", [bob]);
  const failed = await bob.receive(lost.envelopes[0]!);
  expect(failed).toMatchObject({ kind: "retry", attempt: 1, reference: lost.reference, mode: "sealed" });
  if (failed.kind !== "retry") return;
  const { outcome, envelope } = await sendAgain(alice, bob, failed.request.ciphertext, "to the restored one");
  expect(outcome).toMatchObject({ reference: lost.reference, attempt: 1, sessionArchived: true });
  expect(await bob.read(envelope)).toBe("to the restored one");
  expect(await alice.read((await bob.send("and back", [alice])).envelopes[0]!)).toBe("and back");
});

test("the session that a peer could not read is given up: nothing is encrypted on it before a new bundle came", async () => {
  const { alice, bob } = await establishedPair();
  const sent = await alice.send("hello", [bob]);
  await bob.engine.deleteSessions([alice.address], bob.store.persist());
  const failed = await bob.receive(sent.envelopes[0]!);
  if (failed.kind !== "retry") throw new Error(failed.kind);
  expect(await alice.receive(bob.envelope(failed.request))).toMatchObject({ sessionArchived: true });
  const request = { recipients: [bob.address], body: new Uint8Array(1), mode: "sealed" } as const;
  const outcome = await alice.engine.encrypt(request, alice.store.persist());
  expect(outcome).toMatchObject({ kind: "not-ready", sessionsNeeded: [bob.address] });
  // Asked a second time for the old message, Alice must not give up the session that she made since.
  await alice.meet(bob);
  expect(await alice.receive(bob.envelope(failed.request))).toMatchObject({ sessionArchived: false });
  expect(await bob.read((await alice.send("hello", [bob])).envelopes[0]!)).toBe("hello");
});

test("a sender restored from an old copy reuses counters: what it sends is asked for again, not taken for a duplicate", async () => {
  const { alice, bob } = await establishedPair();
  const oldCopy = alice.store.copy();
  const seen = await alice.send("before", [bob]);
  expect(await bob.read(seen.envelopes[0]!)).toBe("before");
  alice.store.restore(oldCopy);
  alice.restart();

  const reused = await alice.send("with a used counter", [bob]);
  const failed = await bob.receive(reused.envelopes[0]!);
  expect(failed.kind).toBe("retry");
  if (failed.kind !== "retry") return;
  const { envelope } = await sendAgain(alice, bob, failed.request.ciphertext, "with a used counter");
  expect(await bob.read(envelope)).toBe("with a used counter");
  expect(await bob.receive(seen.envelopes[0]!)).toMatchObject({ kind: "duplicate" });
});

test("a host that knows of the restore deletes its sessions, and nothing needs to be asked for", async () => {
  const { alice, bob } = await establishedPair();
  const oldCopy = bob.store.copy();
  await bob.send("a counter that the copy does not know", [alice]);
  bob.store.restore(oldCopy);
  bob.restart();
  await bob.engine.deleteSessions(undefined, bob.store.persist());
  await bob.meet(alice);
  expect(await alice.read((await bob.send("fresh", [alice])).envelopes[0]!)).toBe("fresh");
});

test("a message that cannot be decrypted is asked for three times, then it is lost, then refused", async () => {
  const { alice, bob } = await establishedPair();
  const { reference } = await alice.send("never readable", [bob]);
  const outcomes: string[] = [];
  for (let round = 1; round <= 5; round++) {
    const { envelopes } = await alice.send("never readable", [bob], { reference });
    // The session is gone again each time, but the count of what was asked for is not.
    const session = { table: "session", key: addressKey(alice.address), value: undefined } as const;
    bob.store.applyWriteSet({ changes: [session] });
    const failed = await bob.receive(envelopes[0]!);
    outcomes.push(
      "code" in failed ? failed.code : `${failed.kind} ${"attempt" in failed ? failed.attempt : ""}`,
    );
  }
  expect(outcomes).toEqual(["retry 1", "retry 2", "retry 3", "lost ", "pairwise/too-many-retries"]);
});

test("a peer that asks for the same message a fourth time is refused", async () => {
  const { alice, bob } = await establishedPair();
  const sent = await alice.send("hello", [bob]);
  const session = { table: "session", key: addressKey(alice.address), value: undefined } as const;
  bob.store.applyWriteSet({ changes: [session] });
  const failed = await bob.receive(sent.envelopes[0]!);
  if (failed.kind !== "retry") throw new Error(failed.kind);
  const attempts: unknown[] = [];
  for (let i = 0; i < 5; i++) {
    const outcome = await alice.receive(bob.envelope(failed.request));
    attempts.push(outcome.kind === "retry-requested" ? outcome.attempt : "code" in outcome && outcome.code);
  }
  expect(attempts).toEqual([1, 2, 3, "pairwise/too-many-retries", "pairwise/too-many-retries"]);
});

test("a retry needs a certificate to be sealed with; without one the envelope waits, it is not answered openly", async () => {
  const { alice, bob, world } = await establishedPair();
  const sent = await alice.send("hello", [bob]);
  await bob.engine.deleteSessions([alice.address], bob.store.persist());
  world.nowMs += 2 * DAY_MS;
  const before = bob.store.copy();
  const [waiting] = await bob.receiveOnly(sent.envelopes[0]!);
  expect(waiting).toEqual({ kind: "certificate-needed", sender: alice.address });
  expect(bob.store.copy()).toEqual(before);
  await bob.refreshCertificate();
  expect(await bob.receive(sent.envelopes[0]!)).toMatchObject({ kind: "retry", attempt: 1 });
});

test("an identified first message that nobody can read is asked for openly, as it came", async () => {
  const world = new World();
  const { alice, bob } = await establishedPair(world);
  const request = await alice.send("may I?", [bob], { mode: "identified" });
  await bob.engine.deleteSessions([alice.address], bob.store.persist());
  const failed = await bob.receive(request.envelopes[0]!);
  expect(failed).toMatchObject({ kind: "retry", mode: "identified", reference: request.reference });
  if (failed.kind !== "retry") return;
  const answer = await alice.receive(bob.envelope(failed.request, "identified"));
  expect(answer).toMatchObject({ kind: "retry-requested", reference: request.reference });
  await alice.meet(bob);
  const again = await alice.send("may I?", [bob], { mode: "identified", reference: request.reference });
  expect(textOf(await bob.receive(again.envelopes[0]!))).toBe("may I?");
});

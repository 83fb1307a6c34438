import { describe, expect, test } from "vitest";
import {
  generateCertificateSigner,
  generateTrustRoot,
  issueSenderCertificate,
} from "../../src/server/index.ts";
import { DAY_MS, establishedPair } from "../support/peers.ts";

describe("gotcha 8: unsealing does not validate the sender certificate, so it is validated before dispatch", () => {
  test("a sender whose certificate has run out, or is about to, fetches another before anything is encrypted", async () => {
    const { alice, bob, world } = await establishedPair();
    const request = { recipients: [bob.address], body: new Uint8Array(1), mode: "sealed" } as const;
    const before = alice.store.copy();
    world.nowMs += DAY_MS - 30_000;
    const notReady = await alice.engine.encrypt(request, alice.store.persist());
    expect(notReady).toEqual({
      kind: "not-ready",
      sessionsNeeded: [],
      deviceListsNeeded: [],
      decisionsNeeded: [],
      certificateNeeded: true,
    });
    expect(alice.store.copy()).toEqual(before);
    await alice.refreshCertificate();
    expect(await bob.read((await alice.send("renewed", [bob])).envelopes[0]!)).toBe("renewed");
  });

  test("an envelope is measured when it was accepted: 29 days in a mailbox do not make it expired", async () => {
    const { alice, bob, world } = await establishedPair();
    const sent = await alice.send("on holiday", [bob]);
    world.nowMs += 29 * DAY_MS;
    expect(await bob.read(sent.envelopes[0]!)).toBe("on holiday");
  });

  test("an envelope accepted after its certificate ran out is refused and changes nothing", async () => {
    const { alice, bob, world } = await establishedPair();
    const envelope = (await alice.send("late", [bob])).envelopes[0]!;
    const before = bob.store.copy();
    const late = { ...envelope, acceptedAtMs: world.nowMs + DAY_MS + 1 };
    const outcome = await bob.receive(late);
    expect(outcome).toMatchObject({ kind: "rejected", code: "pairwise/certificate-expired" });
    expect(bob.store.copy()).toEqual(before);
    expect(await bob.read(envelope)).toBe("late");
  });

  test("a certificate of another authority is refused, by its holder and by every recipient", async () => {
    const { alice, bob, world } = await establishedPair();
    const { address, identityKey } = alice.engine.local()!;
    const otherRoot = generateTrustRoot();
    const signer = generateCertificateSigner(otherRoot.privateKey, 1);
    const foreign = issueSenderCertificate(signer, { address, identityKey }, world.nowMs + DAY_MS);
    const adopt = alice.engine.acceptCertificate(foreign, alice.store.persist());
    await expect(adopt).rejects.toThrow("pairwise/certificate-untrusted");

    // A sender that does not check itself.
    const row = { table: "own", key: "certificate", value: foreign } as const;
    alice.store.applyWriteSet({ changes: [row] });
    const sent = await alice.send("trust me", [bob]);
    const outcome = await bob.receive(sent.envelopes[0]!);
    expect(outcome).toMatchObject({ kind: "rejected", code: "pairwise/certificate-untrusted" });
  });

  test("a certificate for another device, account or key is not ours", async () => {
    const { alice, bob, world } = await establishedPair();
    const bobs = alice.engine.acceptCertificate(world.certificate(bob), alice.store.persist());
    await expect(bobs).rejects.toThrow("pairwise/certificate-not-ours");
    const { address } = alice.engine.local()!;
    const { identityKey } = bob.engine.local()!;
    const mixed = issueSenderCertificate(world.signer, { address, identityKey }, world.nowMs + DAY_MS);
    const adopt = alice.engine.acceptCertificate(mixed, alice.store.persist());
    await expect(adopt).rejects.toThrow("pairwise/certificate-not-ours");
    const garbage = alice.engine.acceptCertificate(new Uint8Array(40), alice.store.persist());
    await expect(garbage).rejects.toThrow("pairwise/certificate-malformed");
  });

  test("a certificate that the authority gave out for a key not on the device list is refused", async () => {
    const { alice, bob, world } = await establishedPair();
    // The authority is the delivery service: it could certify a key of its own for Alice's address.
    const mallory = (await establishedPair(world)).alice;
    const { identityKey } = mallory.engine.local()!;
    const forged = issueSenderCertificate(
      world.signer,
      { address: alice.address, identityKey },
      world.nowMs + DAY_MS,
    );
    await mallory.meet(bob);
    const row = { table: "own", key: "certificate", value: forged } as const;
    mallory.store.applyWriteSet({ changes: [row] });
    const sent = await mallory.send("I am Alice", [bob]);
    const outcome = await bob.receive(sent.envelopes[0]!);
    expect(outcome).toMatchObject({
      kind: "rejected",
      code: "pairwise/device-not-listed",
      sender: alice.address,
    });
  });
});

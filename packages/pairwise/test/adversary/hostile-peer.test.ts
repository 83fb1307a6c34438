import { UsageError } from "@murmuration/base";
import {
  CiphertextMessage,
  DecryptionErrorMessage,
  PlaintextContent,
  SenderCertificate,
  SessionRecord,
  signalEncrypt,
} from "@signalapp/libsignal-client";
import { describe, expect, test } from "vitest";
import { addressKey, protocolAddress } from "../../src/address.ts";
import { wrap } from "../../src/encrypting.ts";
import { encodeIdentified } from "../../src/envelope-format.ts";
import type { IncomingEnvelope } from "../../src/index.ts";
import { LibsignalStores } from "../../src/libsignal-stores.ts";
import { Overlay, rowsOf } from "../../src/overlay.ts";
import { readCertificate, requireOwnDevice } from "../../src/own-identity.ts";
import { encodePlaintext, type Plaintext } from "../../src/plaintext.ts";
import { establishedPair, Peer, textOf } from "../support/peers.ts";

/** A peer with valid keys that keeps no rule: it writes what it wants into each layer. */
class Hostile {
  private readonly peer: Peer;
  private readonly stores: LibsignalStores;
  private readonly overlay: Overlay;

  constructor(peer: Peer) {
    this.peer = peer;
    this.overlay = new Overlay(rowsOf(peer.store), () => true);
    this.stores = new LibsignalStores(this.overlay, requireOwnDevice(this.overlay));
  }

  async encrypt(to: Peer, plaintext: Uint8Array<ArrayBuffer>): Promise<CiphertextMessage> {
    const { sessions, identities } = this.stores;
    const [remote, local] = [protocolAddress(to.address), protocolAddress(this.peer.address)];
    const now = new Date(this.peer.world.nowMs);
    return signalEncrypt(plaintext, remote, local, sessions, identities, now);
  }

  async seal(
    to: Peer,
    message: CiphertextMessage,
    options: { certificate?: SenderCertificate; reference?: number } = {},
  ): Promise<IncomingEnvelope> {
    const certificate = options.certificate ?? readCertificate(this.overlay)!;
    const marker = { reference: options.reference ?? 1, registrationId: 7 };
    const remote = protocolAddress(to.address);
    const ciphertext = await wrap(message, remote, marker, certificate, this.stores.identities);
    return { ciphertext, identifiedSender: undefined, acceptedAtMs: this.peer.world.nowMs };
  }

  session(to: Peer): SessionRecord {
    return SessionRecord.deserialize(this.overlay.read("session", addressKey(to.address))!);
  }
}

function plaintextFrom(sender: Peer, recipient: Peer, change: Partial<Plaintext> = {}): Plaintext {
  return {
    sender: sender.address,
    senderListVersion: 1,
    recipient: recipient.address,
    recipientListVersion: 1,
    sentAtMs: sender.world.nowMs,
    body: new Uint8Array([104, 105]),
    ...change,
  };
}

describe("a peer with valid keys that keeps no rule", () => {
  test("the same tool, keeping the rules, is understood: so the refusals below are for what they name", async () => {
    const { alice, bob } = await establishedPair();
    const hostile = new Hostile(alice);
    const message = await hostile.encrypt(bob, encodePlaintext(plaintextFrom(alice, bob)));
    expect(textOf(await bob.receive(await hostile.seal(bob, message)))).toBe("hi");
  });

  test("gotcha 12: a plaintext that names other parties, or a plaintext of no form, is refused and changes nothing", async () => {
    const { alice, bob, world } = await establishedPair();
    const other = (await establishedPair(world)).alice;
    const hostile = new Hostile(alice);
    const forms: [string, Uint8Array<ArrayBuffer>][] = [
      ["pairwise/wrong-recipient", encodePlaintext(plaintextFrom(alice, other))],
      ["pairwise/wrong-sender", encodePlaintext(plaintextFrom(other, bob))],
      ["pairwise/bad-plaintext", new Uint8Array(160)],
      ["pairwise/bad-plaintext", new Uint8Array(0)],
      ["pairwise/bad-plaintext", new Uint8Array(161)],
      ["pairwise/bad-plaintext", encodePlaintext(plaintextFrom(alice, bob, { sentAtMs: 2 ** 60 }))],
    ];
    for (const [code, plaintext] of forms) {
      const before = bob.store.copy();
      const envelope = await hostile.seal(bob, await hostile.encrypt(bob, plaintext));
      expect(await bob.receive(envelope), code).toMatchObject({ kind: "rejected", code });
      expect(bob.store.copy()).toEqual(before);
    }
  });

  test("numbers beyond what JavaScript holds do not stop the mailbox: each is refused, the next envelope is read", async () => {
    const { alice, bob } = await establishedPair();
    const good = (await alice.send("good", [bob])).envelopes[0]!;
    const hostile = new Hostile(alice);
    const huge = [0x10, ...Array(9).fill(0xff), 0x01, 0x18, 0x01];
    const content = PlaintextContent.deserialize(new Uint8Array([0xc0, 0x42, huge.length, ...huge, 0x80]));
    const request = await hostile.seal(bob, CiphertextMessage.from(content));

    const message = await hostile.encrypt(bob, encodePlaintext(plaintextFrom(alice, bob)));
    const reference = await hostile.seal(bob, message, { reference: 2 ** 52 });
    const certificate = endlessCertificate(alice);
    const expiration = await hostile.seal(bob, message, { certificate });
    const late = { ...good, acceptedAtMs: Number.NaN };

    const outcomes = await bob.receiveOnly(request, reference, expiration, late, good);
    expect(outcomes.map((outcome) => ("code" in outcome ? outcome.code : outcome.kind))).toEqual([
      "pairwise/malformed",
      "pairwise/malformed",
      "pairwise/certificate-malformed",
      "pairwise/malformed",
      "message",
    ]);
  });

  test("Mallory and the delivery service together: a first message under Alice's address, naming Alice inside, is refused", async () => {
    const { alice, bob, world } = await establishedPair();
    const mallory = await Peer.create(world);
    await mallory.meet(bob);
    const message = await new Hostile(mallory).encrypt(bob, encodePlaintext(plaintextFrom(alice, bob)));
    const marker = { reference: 1, registrationId: 7 };
    const ciphertext = encodeIdentified({ type: message.type(), marker, message: message.serialize() });
    const forged = { ciphertext, identifiedSender: alice.address, acceptedAtMs: world.nowMs };
    const before = bob.store.copy();
    expect(await bob.receiveOnly(forged)).toEqual([{ kind: "device-list-needed", sender: alice.address }]);
    expect(await bob.receive(forged)).toMatchObject({ code: "pairwise/device-not-listed" });
    expect(bob.store.copy()).toEqual(before);
  });

  test("a session row that belongs to another device's key is never encrypted on", async () => {
    const { alice, bob, world } = await establishedPair();
    const carol = await Peer.create(world);
    await alice.meet(carol);
    const value = alice.store.read("session", carol.key);
    alice.store.applyWriteSet({ changes: [{ table: "session", key: bob.key, value }] });
    await expect(alice.send("to whom?", [bob])).rejects.toThrow("pairwise/session-of-another-key");
  });

  test("a request to send again what another device of the account had sent is refused", async () => {
    const { alice, bob } = await establishedPair();
    const hostile = new Hostile(alice);
    const original = await hostile.encrypt(bob, encodePlaintext(plaintextFrom(alice, bob)));
    const before = bob.store.copy();
    for (const [device, code] of [
      [9, "pairwise/wrong-recipient"],
      [1, undefined],
    ] as const) {
      const failed = DecryptionErrorMessage.forOriginal(original.serialize(), original.type(), 5, device);
      const request = CiphertextMessage.from(PlaintextContent.from(failed));
      const outcome = await bob.receive(await hostile.seal(bob, request));
      if (code === undefined) expect(outcome).toMatchObject({ kind: "retry-requested", reference: 5 });
      else expect(outcome).toMatchObject({ kind: "rejected", code });
      if (code !== undefined) expect(bob.store.copy()).toEqual(before);
    }
  });

  test("garbage inside a sealed layer is refused, whichever type it claims", async () => {
    const { alice, bob } = await establishedPair();
    const hostile = new Hostile(alice);
    const message = await hostile.encrypt(bob, new Uint8Array(500));
    // A message of the session with itself, replayed under other references, stays one failure each.
    for (const reference of [1, 2, 3]) {
      const outcome = await bob.receive(await hostile.seal(bob, message, { reference }));
      expect(outcome).toMatchObject({ kind: "rejected", code: "pairwise/bad-plaintext" });
    }
    expect(hostile.session(bob).hasCurrentState(new Date(alice.world.nowMs))).toBe(true);
  });
});

/** Alice's certificate with every bit of its expiration set: signed by nobody, but it parses. */
function endlessCertificate(alice: Peer): SenderCertificate {
  const bytes = alice.world.certificate(alice);
  const expiration = new DataView(new ArrayBuffer(8));
  expiration.setBigUint64(0, BigInt(SenderCertificate.deserialize(bytes).expiration()), true);
  const at = Buffer.from(bytes).indexOf(Buffer.from(expiration.buffer));
  expect(at).toBeGreaterThan(0);
  bytes.fill(0xff, at, at + 8);
  return SenderCertificate.deserialize(bytes);
}

describe("options that only a mistaken caller gives", () => {
  test("an engine without a trust root, or with something that is no key, does not open", async () => {
    const { alice } = await establishedPair();
    const { openPairwiseEngine } = await import("../../src/index.ts");
    const options = { store: alice.store, now: () => 0, random: (length: number) => new Uint8Array(length) };
    expect(() => openPairwiseEngine({ ...options, trustRoots: [] })).toThrow(UsageError);
    const bad = { ...options, trustRoots: [new Uint8Array(33)] };
    expect(() => openPairwiseEngine(bad)).toThrow(UsageError);
  });
});

import {
  CiphertextMessage,
  ContentHint,
  DecryptionErrorMessage,
  PlaintextContent,
  PrivateKey,
  SenderCertificate,
  sealedSenderEncrypt,
  UnidentifiedSenderMessageContent,
} from "@signalapp/libsignal-client";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { protocolAddress } from "../../src/address.ts";
import type { IncomingEnvelope } from "../../src/index.ts";
import { LibsignalStores } from "../../src/libsignal-stores.ts";
import { Overlay, rowsOf } from "../../src/overlay.ts";
import { requireOwnDevice } from "../../src/own-identity.ts";
import { establishedPair, type Peer, textOf } from "../support/peers.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** A sender certificate with this content, signed by the key that the service signs certificates with. */
function certify(peer: Peer, content: Bytes): Bytes {
  const signature = PrivateKey.deserialize(peer.world.signer.privateKey).sign(content);
  const length =
    content.length < 128 ? [content.length] : [(content.length & 127) | 128, content.length >> 7];
  return Uint8Array.from([0x0a, ...length, ...content, 0x12, 64, ...signature]);
}

function contentOf(peer: Peer): Bytes {
  return SenderCertificate.deserialize(peer.world.certificate(peer)).certificate();
}

/** The certificate's content with every bit of its expiration set. */
function endless(peer: Peer): Bytes {
  const bytes = peer.world.certificate(peer);
  const expiration = new DataView(new ArrayBuffer(8));
  expiration.setBigUint64(0, BigInt(SenderCertificate.deserialize(bytes).expiration()), true);
  const content = contentOf(peer);
  const at = Buffer.from(content).indexOf(Buffer.from(expiration.buffer));
  expect(at).toBeGreaterThan(0);
  return content.fill(0xff, at, at + 8);
}

describe("a service that signs certificates it should not", () => {
  test("the tool that signs them makes good ones too: so the refusals below are for what they name", async () => {
    const { alice } = await establishedPair();
    await alice.engine.acceptCertificate(certify(alice, contentOf(alice)), alice.store.persist());
  });

  test("one that runs out at a time which JavaScript cannot hold is not stored, and sending goes on", async () => {
    const { alice, bob } = await establishedPair();
    const before = alice.store.copy();
    const accept = alice.engine.acceptCertificate(certify(alice, endless(alice)), alice.store.persist());
    await expect(accept).rejects.toMatchObject({ code: "pairwise/certificate-malformed" });
    expect(alice.store.copy()).toEqual(before);
    expect(await bob.read((await alice.send("still here", [bob])).envelopes[0]!)).toBe("still here");
  });
});

/** One change to bytes: what a fuzzer would do, replayable by its seed. */
interface Edit {
  readonly at: number;
  readonly remove: number;
  readonly insert: readonly number[];
}

const edits: fc.Arbitrary<readonly Edit[]> = fc.array(
  fc.record({
    at: fc.nat({ max: 2_000 }),
    remove: fc.nat({ max: 9 }),
    insert: fc.array(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff, 0x11, 0x1a), { maxLength: 10 }),
  }),
  { minLength: 1, maxLength: 3 },
);

function edited(bytes: Uint8Array, list: readonly Edit[]): Bytes {
  const out = [...bytes];
  for (const { at, remove, insert } of list) out.splice(at % (out.length + 1), remove, ...insert);
  return Uint8Array.from(out);
}

describe("whatever stands in any layer of an envelope, it has an outcome and the next envelope is read", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
  const runs = { numRuns: 150, seed };
  test.each(["session message", "request to send again", "sealed content", "certificate"] as const)(
    `%s (seed ${seed})`,
    async (layer) => {
      const { alice, bob } = await establishedPair();
      const overlay = new Overlay(rowsOf(alice.store), () => true);
      const { identities } = new LibsignalStores(overlay, requireOwnDevice(overlay));
      const open = (await alice.send("open", [bob], { mode: "identified" })).envelopes[0]!;
      const good = (await alice.send("good", [bob])).envelopes[0]!;
      const failed = DecryptionErrorMessage.forOriginal(open.ciphertext.slice(11), open.ciphertext[0]!, 5, 1);
      const request = PlaintextContent.from(failed);
      const seal = async (content: UnidentifiedSenderMessageContent): Promise<IncomingEnvelope> => ({
        ...good,
        ciphertext: await sealedSenderEncrypt(content, protocolAddress(bob.address), identities),
      });
      const wrap = (certificate: Bytes) =>
        UnidentifiedSenderMessageContent.new(
          CiphertextMessage.from(request),
          SenderCertificate.deserialize(certificate),
          ContentHint.Resendable,
          new Uint8Array(10),
        );
      const make = async (list: readonly Edit[]): Promise<IncomingEnvelope> => {
        const header = open.ciphertext.slice(1, 11);
        switch (layer) {
          case "session message":
            return { ...open, ciphertext: edited(open.ciphertext, list) };
          case "request to send again":
            return {
              ...open,
              ciphertext: Uint8Array.from([8, ...header, ...edited(request.serialize(), list)]),
            };
          case "sealed content": {
            const content = wrap(alice.world.certificate(alice)).serialize();
            return seal(UnidentifiedSenderMessageContent.deserialize(edited(content, list)));
          }
          case "certificate":
            return seal(wrap(certify(alice, edited(contentOf(alice), list))));
        }
      };
      const before = bob.store.copy();
      await fc.assert(
        fc.asyncProperty(edits, async (list) => {
          const envelope = await make(list).catch(() => fc.pre(false));
          const [outcome, next] = await bob.receiveOnly(envelope!, good);
          expect(outcome?.kind).toMatch(/^[a-z-]+$/);
          expect(textOf(next!)).toBe("good");
          bob.store.restore(before);
        }),
        runs,
      );
    },
  );
});

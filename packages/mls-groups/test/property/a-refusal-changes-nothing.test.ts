import { RejectionError, toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { type CryptoProvider, counting, type GroupConfig, nativeCrypto } from "../../src/index.ts";
import type { Commit } from "../../src/structs/commit.ts";
import { hpkeCiphertextVector } from "../../src/structs/hpke-ciphertext.ts";
import {
  commitOf,
  commitWithout,
  created,
  damaged as damagedBytes,
  editedCommit,
  frameCommit,
} from "../adversary/wrong-messages.ts";
import { addAll, Client, textOf } from "../clients.ts";
import { dumpMemory, dumpRows, dumpSecretTrees } from "../model/dump.ts";
import { seededRandom } from "../seeded.ts";

/** Everything Bob holds: stored rows, memory, and the rows of his secret trees in memory. */
function everythingOf({ store, group }: Client): object {
  return { rows: dumpRows(store as never), memory: dumpMemory(group), secretTrees: dumpSecretTrees(group) };
}

function expectRefused(bob: Client, message: Uint8Array): void {
  const before = everythingOf(bob);
  let refusal: unknown;
  try {
    bob.group.receive(message);
  } catch (error) {
    refusal = error;
  }
  expect(refusal).toBeInstanceOf(RejectionError);
  expect(everythingOf(bob)).toEqual(before);
}

interface Scene {
  readonly alice: Client;
  readonly bob: Client;
  readonly carol: Client;
}

/** Bob in the middle of things: past epochs, cached proposals, an Update and a commit of his own under way. */
function scene(config: Partial<GroupConfig>): Scene {
  const crypto = nativeCrypto(1, { random: seededRandom("a refusal changes nothing") });
  const [alice, bob, carol] = ["alice", "bob", "carol"].map((name) => new Client(name, crypto, config)) as [
    Client,
    Client,
    Client,
  ];
  alice.create("scene");
  addAll(alice, [bob, carol]);
  for (const committer of [alice, carol]) {
    const { message } = committer.commit();
    for (const client of [alice, bob, carol]) if (client !== committer) client.receive(message);
    bob.receive(committer.say("past"));
  }
  bob.receive(alice.say("one"));
  const update = bob.group.proposeUpdate();
  bob.save(update.writes);
  const { message, writes } = carol.group.proposeUpdate();
  carol.save(writes);
  bob.receive(message);
  alice.receive(message);
  alice.receive(update.message);
  carol.receive(update.message);
  bob.save(bob.group.createCommit().writes);
  return { alice, bob, carol };
}

/** Positions at which a message is damaged: all of a short one, the ends and every seventh byte of a long one. */
function* positions(length: number): Generator<number> {
  for (let at = 0; at < length; at++) if (at < 96 || at >= length - 96 || at % 7 === 0) yield at;
}

function* damaged(message: Uint8Array): Generator<Uint8Array> {
  for (const at of positions(message.length)) {
    for (const bit of [0x01, 0x80]) {
      const copy = message.slice();
      copy[at]! ^= bit;
      yield copy;
    }
  }
  for (let length = 0; length < message.length; length += length < 64 ? 1 : 37)
    yield message.slice(0, length);
  yield Uint8Array.from([...message, 0]);
}

describe.each(["mls_public_message", "mls_private_message"] as const)(
  "a refused message leaves the group as it was, to the byte (handshakes as %s)",
  (handshakeFormat) => {
    const config = { handshakeFormat };

    test("a damaged commit: any byte changed, cut short, or with a byte behind it", () => {
      const { alice, bob } = scene(config);
      const { message } = alice.group.createCommit();
      for (const copy of damaged(message)) expectRefused(bob, copy);
      expect(bob.receive(message).kind).toBe("commit");
    });

    test("a damaged proposal", () => {
      const { bob, carol } = scene(config);
      const { message } = carol.group.propose({ kind: "self_remove" });
      for (const copy of damaged(message)) expectRefused(bob, copy);
      expect(bob.receive(message).kind).toBe("proposal");
    });

    test.each(["this epoch", "a past epoch"])(
      "a damaged application message of %s, or the same one twice",
      (epoch) => {
        const { alice, bob, carol } = scene(config);
        const { message: commit } = alice.commit();
        for (const client of [bob, carol]) client.receive(commit);
        const message = carol.say("hello");
        if (epoch === "a past epoch") {
          const { message: next } = alice.commit();
          for (const client of [bob, carol]) client.receive(next);
        }
        for (const copy of damaged(message)) expectRefused(bob, copy);
        expect(textOf(bob.receive(message))).toBe("hello");
        expectRefused(bob, message);
      },
    );

    test("whole messages at the wrong place: replays, other epochs, other groups, our own, other kinds", () => {
      const { alice, bob, carol } = scene(config);
      const bundle = bob.keyPackage();
      const add = { kind: "add", keyPackage: bundle.keyPackage } as const;
      const other = new Client("mallory", alice.crypto, config);
      other.create("scene");
      const foreign = new Client("trent", alice.crypto, config);
      foreign.create("elsewhere");
      const { message: accepted } = alice.commit();
      for (const client of [bob, carol]) client.receive(accepted);
      const wrong = [
        accepted,
        other.say("same group id, other group"),
        foreign.say("other group id"),
        other.group.createCommit().message,
        foreign.group.propose({ kind: "self_remove" }).message,
        bob.say("our own"),
        alice.group.groupInfo(),
        alice.group.ratchetTree(),
        foreign.commit({ cached: "none", proposals: [add] }).welcome!,
        foreign.group.createCommit().message,
        new Uint8Array(0),
      ];
      const said = carol.say("twice");
      bob.receive(said);
      for (const message of [...wrong, said]) expectRefused(bob, message);
      // An epoch that has not come yet for Bob.
      const { message: next } = carol.commit();
      alice.receive(next);
      for (const early of [alice.say("from the future"), alice.group.createCommit().message])
        expectRefused(bob, early);
      bob.receive(next);
      expect(toHex(bob.group.epochAuthenticator())).toBe(toHex(alice.group.epochAuthenticator()));
    });
  },
);

test("a commit that a member signed and that fails late leaves the group as it was: damaged ciphertexts, wrong tag", () => {
  const { alice, bob, carol } = scene({});
  const { message: fresh } = alice.commit();
  for (const client of [bob, carol]) client.receive(fresh);
  const ciphertexts = (commit: Commit) =>
    commit.path!.nodes.map(({ encryptedPathSecret }) => encryptedPathSecret);
  const withDamaged = (commit: Commit): Commit => ({
    ...commit,
    path: {
      ...commit.path!,
      nodes: commit.path!.nodes.map((node, i) => ({
        ...node,
        encryptedPathSecret: hpkeCiphertextVector(
          [...ciphertexts(commit)[i]!].map((one) => ({ ...one, ciphertext: damagedBytes(one.ciphertext) })),
        ),
      })),
    },
  });
  const psk = { kind: "external", pskId: new Uint8Array([1]), pskNonce: new Uint8Array(32) } as const;
  const refused = [
    editedCommit(alice, {}, withDamaged),
    frameCommit(alice, commitOf(created(alice))),
    editedCommit(alice, {}, (commit) => ({
      ...commit,
      proposals: [{ kind: "reference", reference: new Uint8Array(32) }],
    })),
    editedCommit(alice, {}, (commit) => ({
      ...commit,
      proposals: [{ kind: "proposal", proposal: { kind: "psk", psk } }],
    })),
  ];
  for (const message of refused) expectRefused(bob, message);
  const { message } = alice.commit();
  for (const client of [bob, carol]) client.receive(message);
  expect(toHex(bob.group.epochAuthenticator())).toBe(toHex(alice.group.epochAuthenticator()));
});

test("no message key stays in memory, whether the message was accepted, refused at once, or refused after decryption", () => {
  const inner = nativeCrypto(1);
  const used: Uint8Array[] = [];
  const watched: CryptoProvider = {
    ...counting(inner).provider,
    open(key, nonce, aad, ciphertext) {
      used.push(key);
      return inner.open(key, nonce, aad, ciphertext);
    },
  };
  const config = { handshakeFormat: "mls_private_message" } as const;
  const [alice, carol] = [new Client("alice", inner, config), new Client("carol", inner, config)];
  const bob = new Client("bob", watched, config);
  alice.create("keys");
  addAll(alice, [bob, carol]);
  const keysAfter = (action: () => void): boolean[] => {
    used.length = 0;
    action();
    return used.map((key) => key.every((byte) => byte === 0));
  };
  const refused = (message: Uint8Array, sequence?: bigint) => () =>
    expect(() => bob.group.receive(message, { sequence })).toThrow(RejectionError);

  const late = carol.say("late");
  expect(keysAfter(() => bob.receive(alice.say("accepted")))).toEqual([true, true]);
  expect(keysAfter(refused(damagedBytes(alice.say("damaged"))))).toEqual([true, true]);
  // An Add whose KeyPackage Bob refuses, in a commit that is otherwise right.
  const { keyPackage } = new Client("dave", inner).keyPackage();
  const wrong = { ...keyPackage, signature: damagedBytes(keyPackage.signature) };
  const invalid = commitWithout(alice, ["key-package/signature"], {
    proposals: [{ kind: "add", keyPackage: wrong }],
  });
  expect(keysAfter(refused(invalid))).toEqual([true, true]);

  const { message } = alice.commit({ proposals: [{ kind: "remove", removed: carol.group.ownLeaf }] });
  const received = bob.group.receive(message);
  if (received.kind !== "commit") throw new TypeError(received.kind);
  bob.save(bob.group.merge(received.commit, { nowMs: 0, sequence: 5n }));
  expect(keysAfter(refused(late, 6n))).toEqual([true, true]);
  expect(textOf(bob.group.receive(late, { sequence: 4n }))).toBe("late");
});

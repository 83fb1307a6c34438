import { toHex } from "@murmuration/base";
import { expect, test } from "vitest";
import { nativeCrypto } from "../../src/index.ts";
import { addAll, Client, textOf } from "../clients.ts";

const crypto = nativeCrypto(1);

test("a commit sent as a PrivateMessage can be inspected while other messages arrive, and is merged after them", () => {
  const [alice, bob, carol] = ["alice", "bob", "carol"].map(
    (name) => new Client(name, crypto, { handshakeFormat: "mls_private_message" }),
  ) as [Client, Client, Client];
  alice.create("hidden");
  addAll(alice, [bob, carol]);

  const bundle = bob.group.createCommit();
  bob.save(bundle.writes);
  const staged = alice.group.receive(bundle.message);
  if (staged.kind !== "commit") throw new Error("not a commit");
  expect(textOf(alice.receive(carol.say("meanwhile")))).toBe("meanwhile");
  expect(textOf(alice.receive(bob.say("me too")))).toBe("me too");

  alice.save(alice.group.merge(staged.commit, { nowMs: 0 }));
  bob.save(bob.group.mergePending({ nowMs: 0 }));
  carol.receive(bundle.message);
  expect(new Set([alice, bob, carol].map(({ group }) => toHex(group.epochAuthenticator()))).size).toBe(1);
  alice.reload();
  expect(textOf(alice.receive(bob.say("in the new epoch")))).toBe("in the new epoch");
});

test("a commit that was inspected and not merged can be received again", () => {
  const [alice, bob] = ["alice", "bob"].map(
    (name) => new Client(name, crypto, { handshakeFormat: "mls_private_message" }),
  ) as [Client, Client];
  alice.create("hidden");
  addAll(alice, [bob]);
  const { message } = bob.commit();
  expect(alice.group.receive(message).kind).toBe("commit");
  alice.receive(message);
  expect(toHex(alice.group.epochAuthenticator())).toBe(toHex(bob.group.epochAuthenticator()));
});

import { utf8 } from "@murmuration/base";
import { expect, test } from "vitest";
import { nativeCrypto, signForService, verifyLeafSignature } from "../../src/index.ts";
import { addAll, Client } from "../clients.ts";
import { expectCode } from "../expect-error.ts";

const crypto = nativeCrypto(1);

function pair(): { alice: Client; bob: Client } {
  const [alice, bob] = [new Client("alice", crypto), new Client("bob", crypto)];
  alice.create("friends");
  addAll(alice, [bob]);
  return { alice, bob };
}

test("a member signs for a service with the key of its leaf, which holds for label and content together", () => {
  const { bob } = pair();
  const content = utf8("let me in");
  const signature = bob.group.signForService("Murmuration GroupAccess", content);
  const key = bob.group.tree.signatureKey(bob.group.ownLeaf)!;
  const verify = (label: string, signed: Uint8Array) =>
    verifyLeafSignature(crypto, key, label, signed, signature);
  expect(verify("Murmuration GroupAccess", content)).toBe(true);
  expect(verify("Murmuration Ban", content)).toBe(false);
  expect(verify("Murmuration GroupAccess", utf8("let me out"))).toBe(false);
  const { privateKey } = bob.identity.signatureKeys;
  const apart = signForService(crypto, privateKey, "Murmuration GroupAccess", content);
  expect(verifyLeafSignature(crypto, key, "Murmuration GroupAccess", content, apart)).toBe(true);
  expect(verifyLeafSignature(crypto, new Uint8Array(3), "Murmuration Ban", content, signature)).toBe(false);
});

test("nothing of the protocol can be signed or verified this way", () => {
  const { bob } = pair();
  for (const label of [
    "FramedContentTBS",
    "LeafNodeTBS",
    "GroupInfoTBS",
    "",
    "murmuration Ban",
    "Murmuration",
  ]) {
    expectCode(() => bob.group.signForService(label, utf8("content")), "mls/label-not-ours");
    const key = bob.group.tree.signatureKey(bob.group.ownLeaf)!;
    expect(verifyLeafSignature(crypto, key, label, utf8("content"), new Uint8Array(64))).toBe(false);
  }
});

test("who was removed does not sign any more", () => {
  const { alice, bob } = pair();
  const { message } = alice.commit({ proposals: [{ kind: "remove", removed: bob.group.ownLeaf }] });
  bob.receive(message);
  expectCode(() => bob.group.signForService("Murmuration GroupAccess", utf8("x")), "mls/group-removed");
});

test("a pending commit can be inspected before it is accepted", () => {
  const { alice, bob } = pair();
  expect(alice.group.pendingCommit).toBeUndefined();
  const { message } = alice.group.createCommit({
    proposals: [{ kind: "remove", removed: bob.group.ownLeaf }],
  });
  const pending = alice.group.pendingCommit!;
  expect(pending.message).toEqual(message);
  expect(pending.public.plan.removes).toEqual([bob.group.ownLeaf]);
  expect(pending.from.context.epoch).toBe(alice.group.epoch);
});

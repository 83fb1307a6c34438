import { expect, test } from "vitest";
import {
  counting,
  generateKeyPackage,
  type HpkeKeyPair,
  type KeyPackageBundle,
  nativeCrypto,
} from "../../src/index.ts";
import { addAll, Client, lifetime } from "../clients.ts";

const crypto = nativeCrypto(1);

function threeFriends(): [Client, Client, Client] {
  const friends = ["alice", "bob", "carol"].map((name) => new Client(name, crypto));
  const [alice, bob, carol] = friends as [Client, Client, Client];
  alice.create("friends");
  addAll(alice, [bob, carol]);
  return [alice, bob, carol];
}

test("a member cannot keep itself in the group by proposing an Update before its removal is committed", () => {
  const [alice, bob, carol] = threeFriends();
  const update = carol.group.proposeUpdate();
  for (const client of [alice, bob]) client.receive(update.message);
  const { message } = alice.commit({ proposals: [{ kind: "remove", removed: carol.group.ownLeaf }] });
  bob.receive(message);
  carol.receive(message);
  expect([...bob.group.members()].map(({ leaf }) => leaf)).toEqual([0, 1]);
  expect(carol.group.status).toBe("removed");
});

test("an Add that somebody proposed is left out when the committer adds the same client itself", () => {
  const [alice, bob, carol] = threeFriends();
  const dave = new Client("dave", crypto);
  const [first, second] = [dave.keyPackage(), dave.keyPackage()];
  const proposed = bob.group.propose({ kind: "add", keyPackage: first.keyPackage });
  for (const client of [alice, carol]) client.receive(proposed.message);
  const { message, welcome } = alice.commit({
    proposals: [{ kind: "add", keyPackage: second.keyPackage }],
    groupInfo: { ratchetTree: true },
  });
  for (const client of [bob, carol]) client.receive(message);
  dave.join(welcome!, second);
  expect(carol.group.memberCount).toBe(4);
});

test("a ReInit is committed alone: cached proposals stay out of it, and a cached one waits when there are others", () => {
  const [alice, bob, carol] = threeFriends();
  const reinit = {
    kind: "reinit",
    groupId: new Uint8Array([1]),
    version: 1,
    cipherSuite: 1,
    extensions: [],
  } as const;
  const cached = bob.group.propose(reinit);
  const update = carol.group.proposeUpdate();
  alice.receive(cached.message);
  carol.receive(cached.message);
  for (const client of [alice, bob]) client.receive(update.message);
  // Both wait for Alice: the Update goes into this commit, the ReInit does not.
  const first = alice.commit();
  for (const client of [bob, carol]) client.receive(first.message);
  expect(bob.group.status).toBe("active");
  const again = carol.group.proposeUpdate();
  for (const client of [alice, bob]) client.receive(again.message);
  const last = alice.commit({ proposals: [reinit] });
  for (const client of [bob, carol]) client.receive(last.message);
  expect([alice, bob, carol].map(({ group }) => group.status)).toEqual(Array(3).fill("suspended"));
});

test("proposals that are valid only one without the other, or need a PSK that the committer lacks, do not block commits", () => {
  const [alice, bob, carol] = threeFriends();
  const [dave, eve] = [new Client("dave", crypto), new Client("eve", crypto)];
  const daves = dave.keyPackage();
  // Eve's KeyPackage is her own, but for the encryption key, which is Dave's.
  const copycat = generateKeyPackage(
    { ...counting(crypto).provider, generateHpkeKeyPair: copyKeys(daves) },
    eve.identity,
    lifetime,
  );
  const psk = { kind: "external", pskId: new Uint8Array([7]), pskNonce: new Uint8Array(32) } as const;
  for (const proposal of [
    { kind: "add", keyPackage: daves.keyPackage },
    { kind: "add", keyPackage: copycat.keyPackage },
    { kind: "psk", psk },
  ] as const) {
    const { message } = carol.group.propose(proposal);
    for (const client of [alice, bob]) client.receive(message);
  }
  const { message, welcome } = alice.commit({ groupInfo: { ratchetTree: true } });
  for (const client of [bob, carol]) client.receive(message);
  dave.join(welcome!, daves);
  expect(bob.group.memberCount).toBe(4);
});

/** First a fresh init key pair, then the leaf's key pair of somebody else. */
function copyKeys(victim: KeyPackageBundle): () => HpkeKeyPair {
  const leaf = { publicKey: victim.keyPackage.leafNode.encryptionKey, privateKey: victim.leafPrivateKey };
  const queue = [crypto.generateHpkeKeyPair(), leaf as HpkeKeyPair];
  return () => queue.shift()!;
}

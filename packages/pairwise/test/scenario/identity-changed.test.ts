import { type AccountId, formatId, UsageError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { establishedPair, Peer, random, type World } from "../support/peers.ts";

/** Somebody else, or Alice with a new phone: the same account id under another account identity key. */
async function reinstalled(world: World, account: AccountId): Promise<Peer> {
  world.lists.delete(formatId(account));
  return Peer.create(world, account);
}

describe("a changed account identity key is a question for the user", () => {
  test("the list is only noted, sending stops, receiving under the new key waits, and accepting goes on", async () => {
    const { alice, bob, world } = await establishedPair();
    const { accountIdentityKey: knownAccountKey } = alice.engine.local()!;
    const verified = { accountId: alice.account, accountIdentityKey: knownAccountKey, verified: true };
    await bob.engine.setVerified(verified, bob.store.persist());
    const again = await reinstalled(world, alice.account);
    const claimedAccountKey = again.engine.local()!.accountIdentityKey;

    await again.meet(bob);
    const envelope = (await again.send("it is me", [bob])).envelopes[0]!;
    const decision = {
      kind: "decision-needed",
      code: "pairwise/identity-changed",
      accountId: alice.account,
      wasVerified: true,
      knownAccountKey,
      claimedAccountKey,
    };
    expect(await bob.fetchList(alice.account)).toEqual(decision);
    expect(await bob.receive(envelope)).toEqual(decision);
    const request = { recipients: [alice.address], body: new Uint8Array(1), mode: "sealed" } as const;
    const stopped = await bob.engine.encrypt(request, bob.store.persist());
    expect(stopped).toMatchObject({ kind: "not-ready", decisionsNeeded: [decision] });

    const answer = { accountId: alice.account, claimedAccountKey, accept: true };
    await bob.engine.decideIdentity(answer, bob.store.persist());
    expect(bob.store.keys("session")).toHaveLength(0);
    expect(bob.engine.identityOf(alice.account)).toEqual({
      accountId: alice.account,
      accountIdentityKey: claimedAccountKey,
      verified: false,
      claimedAccountKey: undefined,
    });
    expect(await bob.read(envelope)).toBe("it is me");
    expect(await again.read((await bob.send("welcome back", [again])).envelopes[0]!)).toBe("welcome back");
    // What the old key's device sends is not accepted any more.
    const old = (await alice.send("I am still here", [bob])).envelopes[0]!;
    world.lists.set(formatId(alice.account), again.engine.local()!.deviceList);
    expect(await bob.receive(old)).toMatchObject({ kind: "rejected", code: "pairwise/device-not-listed" });
  });

  test("refusing keeps the known key, its verification and its sessions", async () => {
    const { alice, bob, world } = await establishedPair();
    const again = await reinstalled(world, alice.account);
    const claimedAccountKey = again.engine.local()!.accountIdentityKey;
    await bob.fetchList(alice.account);
    const wrong = { accountId: alice.account, claimedAccountKey: random(33), accept: true };
    await expect(bob.engine.decideIdentity(wrong, bob.store.persist())).rejects.toThrow(UsageError);
    const answer = { accountId: alice.account, claimedAccountKey, accept: false };
    await bob.engine.decideIdentity(answer, bob.store.persist());
    expect(await alice.read((await bob.send("still you", [alice])).envelopes[0]!)).toBe("still you");
    expect(bob.engine.identityOf(alice.account)?.claimedAccountKey).toBeUndefined();
    await expect(bob.engine.decideIdentity(answer, bob.store.persist())).rejects.toThrow(
      "pairwise/no-such-claim",
    );
  });

  test("nobody can claim another key for one's own account", async () => {
    const { alice, world } = await establishedPair();
    const impostor = await reinstalled(world, alice.account);
    const claimed = impostor.engine.local()!.deviceList;
    const outcome = await alice.engine.acceptDeviceList(alice.account, claimed, alice.store.persist());
    expect(outcome).toEqual({ kind: "rejected", code: "device-list/account-key-changed" });
  });

  test("a device that was set up again under the same account key needs no decision", async () => {
    const { alice, bob, world } = await establishedPair();
    const tablet = await alice.link();
    world.uploadList(alice);
    await bob.meet(tablet);
    await tablet.read((await bob.send("hello", [tablet])).envelopes[0]!);
    await alice.engine.removeDevice(tablet.address.deviceId, alice.store.persist());
    const anew = await alice.link();
    world.uploadList(alice);
    expect(await bob.fetchList(alice.account)).toMatchObject({ kind: "accepted" });
    await bob.meet(anew);
    expect(await anew.read((await bob.send("hello again", [anew])).envelopes[0]!)).toBe("hello again");
  });
});

describe("safety numbers", () => {
  test("are the same 60 digits on both sides, scan as equal, and cover the account key, not the device", async () => {
    const { alice, bob, world } = await establishedPair();
    const ours = alice.engine.safetyNumber(bob.account)!;
    const theirs = bob.engine.safetyNumber(alice.account)!;
    expect(ours.digits).toMatch(/^[0-9]{60}$/);
    expect(ours.digits).toBe(theirs.digits);
    expect(alice.engine.safetyNumberMatches(bob.account, theirs.scannable)).toBe(true);
    expect(bob.engine.safetyNumberMatches(alice.account, ours.scannable)).toBe(true);

    await alice.link();
    world.uploadList(alice);
    await bob.fetchList(alice.account);
    expect(bob.engine.safetyNumber(alice.account)!.digits).toBe(ours.digits);
  });

  test("differ under another account key, for another pair, and for garbage", async () => {
    const { alice, bob, world } = await establishedPair();
    const carol = await Peer.create(world);
    await carol.fetchList(alice.account);
    await alice.fetchList(carol.account);
    const before = bob.engine.safetyNumber(alice.account)!;
    expect(carol.engine.safetyNumber(alice.account)!.digits).not.toBe(before.digits);
    const ofCarol = carol.engine.safetyNumber(alice.account)!.scannable;
    expect(alice.engine.safetyNumberMatches(bob.account, ofCarol)).toBe(false);
    const garbage = () => alice.engine.safetyNumberMatches(bob.account, random(30));
    expect(garbage).toThrow("pairwise/bad-safety-number");
    expect(alice.engine.safetyNumber(random(16) as AccountId)).toBeUndefined();

    const again = await reinstalled(world, alice.account);
    await bob.fetchList(alice.account);
    const claimedAccountKey = again.engine.local()!.accountIdentityKey;
    const answer = { accountId: alice.account, claimedAccountKey, accept: true };
    await bob.engine.decideIdentity(answer, bob.store.persist());
    expect(bob.engine.safetyNumber(alice.account)!.digits).not.toBe(before.digits);
  });
});

import { equalBytes } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import {
  BanList,
  type Credential,
  communityPolicy,
  deviceOf,
  type GroupPolicy,
  joinGroupInBatches,
  nativeCrypto,
} from "../../src/index.ts";
import { PublicGroup } from "../../src/public-group/index.ts";
import { addAll } from "../clients.ts";
import { accountOf, contextWith, Device, identityOf, idOf, StandInIdentities } from "../community-kit.ts";
import { bans, World } from "../community-world.ts";

const crypto = nativeCrypto(1);

function isOf(credential: Credential, account: string): boolean {
  return equalBytes(deviceOf(credential).accountId, accountOf(account));
}

function policyWith(identity: StandInIdentities, rememberedCredentials?: number): GroupPolicy {
  const options = { identity, banList: () => undefined };
  return communityPolicy(
    rememberedCredentials === undefined ? options : { ...options, rememberedCredentials },
  );
}

describe("credentials that were verified", () => {
  const ask = (policy: GroupPolicy, { credential, signatureKeys }: ReturnType<typeof identityOf>) =>
    policy.credentialIsValid(credential, signatureKeys.publicKey);

  test("are not verified again, and what is invalid is never remembered", () => {
    const identity = new StandInIdentities();
    const policy = policyWith(identity);
    const alice = identityOf(crypto, { account: "alice" });
    expect([ask(policy, alice), ask(policy, alice)]).toEqual([true, true]);
    expect(identity.verifications).toBe(2);
    const wrong = { ...alice, signatureKeys: identityOf(crypto, { account: "alice" }).signatureKeys };
    expect([ask(policy, wrong), ask(policy, wrong)]).toEqual([false, false]);
    expect(identity.verifications).toBe(6);
    expect(policy.credentialIsValid({ kind: "x509", certificates: [] }, wrong.signatureKeys.publicKey)).toBe(
      false,
    );
  });

  test("are forgotten in the end, the newest last", () => {
    const identity = new StandInIdentities();
    const policy = policyWith(identity, 8);
    const everybody = Array.from({ length: 20 }, (_, i) => identityOf(crypto, { account: `person ${i}` }));
    for (const person of everybody) ask(policy, person);
    expect(identity.verifications).toBe(40);
    for (const person of everybody.slice(-4)) ask(policy, person);
    expect(identity.verifications).toBe(40);
    ask(policy, everybody[0]!);
    expect(identity.verifications).toBe(42);
    const forgetful = policyWith(identity, 0);
    for (let times = 0; times < 3; times++) ask(forgetful, everybody[0]!);
    expect(identity.verifications).toBe(48);
  });

  test("are verified one by one also by who joins or follows in batches, and one that is wrong is enough", async () => {
    const alice = new Device(crypto, { account: "alice" });
    alice.found("a community", contextWith({ owners: ["alice"] }));
    const others = Array.from({ length: 300 }, (_, i) => new Device(crypto, { account: `person ${i}` }));
    const bundles = others.map((other) => other.keyPackage());
    const proposals = bundles.map(({ keyPackage }) => ({ kind: "add", keyPackage }) as const);
    const { welcome, groupInfo } = alice.commit({ proposals, groupInfo: { ratchetTree: true } });
    const [own, followers] = [new StandInIdentities(), new StandInIdentities()];
    const request = { welcome: welcome!, keyPackage: bundles[7]! };
    await joinGroupInBatches(crypto, request, { policy: policyWith(own) });
    await PublicGroup.followInBatches(crypto, { groupInfo }, policyWith(followers));
    expect([own.verifications, followers.verifications]).toEqual([602, 602]);
    const stranger: GroupPolicy = {
      ...policyWith(own),
      credentialIsValid: (credential) => !isOf(credential, "person 299"),
    };
    const code = "mls/leaf-node/credential-valid";
    await expect(joinGroupInBatches(crypto, request, { policy: stranger })).rejects.toMatchObject({ code });
    await expect(PublicGroup.followInBatches(crypto, { groupInfo }, stranger)).rejects.toMatchObject({
      code,
    });
  });

  test("cost a self-update of an unchanged leaf nothing, for members and for a follower", () => {
    const [own, followers] = [new StandInIdentities(), new StandInIdentities()];
    const alice = new Device(crypto, { account: "alice" });
    alice.found("a community", contextWith({ owners: ["alice"] }));
    const bob = new Device(crypto, { account: "bob" }, { policy: policyWith(own) });
    addAll(alice, [bob]);
    const request = { groupInfo: alice.group.groupInfo(), ratchetTree: alice.group.ratchetTree() };
    const follower = PublicGroup.follow(crypto, request, policyWith(followers));
    const before = [own.verifications, followers.verifications];
    const { message } = alice.group.createCommit();
    expect([bob.group.receive(message).kind, follower.receive(message).kind]).toEqual(["commit", "commit"]);
    expect([own.verifications, followers.verifications]).toEqual(before);
    expect(before).toEqual([4, 4]);
  });
});

describe("a ban list that is not at hand", () => {
  test("may be fetched, and the same commit received again", () => {
    const list = bans("trudy");
    const fetched: BanList[] = [];
    const policy = communityPolicy({ identity: new StandInIdentities(), banList: () => fetched[0] });
    const world = new World();
    const nina = new Device(crypto, { account: "nina" }, { policy });
    const olga = world.device("olga");
    const bundle = nina.keyPackage();
    const add = { kind: "add", keyPackage: bundle.keyPackage } as const;
    const { message, welcome } = olga.commit({ proposals: [add], groupInfo: { ratchetTree: true } });
    world.all(message, olga);
    nina.join(welcome!, bundle);
    world.ban("trudy");
    const banning = world.commit(olga, { proposals: [world.change({ banListHash: list.hash() })] });
    expect(() => nina.group.receive(banning)).toThrow("community/ban-list-unknown");
    // Another list than the one that was asked for is none.
    fetched[0] = bans("mallory");
    expect(() => nina.group.receive(banning)).toThrow("community/ban-list-unknown");
    fetched[0] = list;
    expect(nina.group.receive(banning).kind).toBe("commit");
  });

  test("does not keep a group with a pending commit from being loaded", () => {
    const lists = [bans("trudy")];
    const policy = communityPolicy({ identity: new StandInIdentities(), banList: () => lists[0] });
    const alice = new Device(crypto, { account: "alice" }, { policy });
    const context = contextWith({ owners: ["alice"] }, { banListHash: bans("trudy").hash() });
    alice.found("a community", context);
    const { keyPackage } = new Device(crypto, { account: "bob" }).keyPackage();
    alice.save(alice.group.createCommit({ proposals: [{ kind: "add", keyPackage }] }).writes);
    lists.length = 0;
    alice.reload();
    alice.save(alice.group.mergePending({ nowMs: 0 }));
    expect(alice.group.memberCount).toBe(2);
    const carol = new Device(crypto, { account: "carol" }).keyPackage();
    const proposals = [{ kind: "add", keyPackage: carol.keyPackage } as const];
    expect(() => alice.group.createCommit({ proposals })).toThrow("community/ban-list-unknown");
  });

  test("is not asked for where nobody is banned", () => {
    const identity = new StandInIdentities();
    const banList = () => {
      throw new Error("asked");
    };
    const alice = new Device(
      crypto,
      { account: "alice" },
      { policy: communityPolicy({ identity, banList }) },
    );
    alice.found("a community", contextWith({ owners: ["alice"] }));
    addAll(alice, [new Device(crypto, { account: "bob" })]);
    expect(BanList.empty.has(idOf("a community"), alice.account)).toBe(false);
  });
});

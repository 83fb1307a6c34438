import { equalBytes, toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import {
  branchGroup,
  continueByReInit,
  joinGroup,
  joinGroupExternally,
  nativeCrypto,
  trimWelcomes,
} from "../../src/index.ts";
import { addAll, Client, lifetime, textOf } from "../clients.ts";

const crypto = nativeCrypto(1);

function friends(...names: string[]): Client[] {
  return names.map((name) => new Client(name, crypto));
}

function expectSameEpoch(...clients: Client[]): void {
  const authenticators = clients.map(({ group }) => `${group.epoch} ${toHex(group.epochAuthenticator())}`);
  expect(new Set(authenticators).size).toBe(1);
}

describe("a group lives (RFC 9420 sections 11 and 12)", () => {
  test("members are added, talk, update, leave, and everyone left agrees on each epoch", () => {
    const [alice, bob, carol, dave] = friends("alice", "bob", "carol", "dave") as [
      Client,
      Client,
      Client,
      Client,
    ];
    alice.create("friends");
    addAll(alice, [bob, carol]);
    expectSameEpoch(alice, bob, carol);
    const hello = bob.say("hello");
    expect(textOf(alice.receive(hello))).toBe("hello");
    expect(textOf(carol.receive(hello))).toBe("hello");
    addAll(bob, [dave], [alice, bob, carol]);
    expectSameEpoch(alice, bob, carol, dave);
    for (const committer of [dave, carol, alice, bob]) {
      const { message } = committer.commit();
      for (const other of [alice, bob, carol, dave]) if (other !== committer) other.receive(message);
      expectSameEpoch(alice, bob, carol, dave);
    }
    const { message } = alice.commit({ proposals: [{ kind: "remove", removed: carol.group.ownLeaf }] });
    bob.receive(message);
    dave.receive(message);
    expectSameEpoch(alice, bob, dave);
    carol.receive(message);
    expect(carol.group.status).toBe("removed");
    expect([...carol.store.keys("")]).toEqual([]);
  });

  test("proposals by reference are covered by another member's commit, an Update of its own among them", () => {
    const [alice, bob, carol] = friends("alice", "bob", "carol") as [Client, Client, Client];
    alice.create("friends");
    addAll(alice, [bob, carol]);
    const update = bob.group.proposeUpdate();
    bob.save(update.writes);
    for (const client of [alice, carol]) client.receive(update.message);
    expect(() => bob.say("too early")).not.toThrow();
    expect(() => alice.say("too early")).toThrow("mls/proposals-pending");
    const { message } = alice.commit();
    for (const client of [bob, carol]) client.receive(message);
    expectSameEpoch(alice, bob, carol);
    bob.reload();
    expect(textOf(alice.receive(bob.say("updated")))).toBe("updated");
  });

  test("somebody joins by external commit, and again from another device in place of the first", () => {
    const [alice, bob, carol] = friends("alice", "bob", "carol") as [Client, Client, Client];
    alice.create("friends");
    addAll(alice, [bob]);
    const join = (removes?: number) => {
      const { group, message, writes } = joinGroupExternally(crypto, {
        groupInfo: alice.group.groupInfo({ ratchetTree: true }),
        identity: carol.identity,
        removes,
      });
      carol.save(writes);
      for (const client of [alice, bob]) client.receive(message);
      carol.group = group;
      carol.save(group.confirmJoin());
    };
    join();
    expectSameEpoch(alice, bob, carol);
    join(carol.group.ownLeaf);
    expectSameEpoch(alice, bob, carol);
    expect(alice.group.memberCount).toBe(3);
    expect(textOf(bob.receive(carol.say("back")))).toBe("back");
  });

  test("a group is re-initialised under another suite and branched", () => {
    const [alice, bob] = friends("alice", "bob") as [Client, Client];
    alice.create("friends");
    addAll(alice, [bob]);
    const branchPackage = bob.keyPackage();
    const branch = branchGroup(crypto, alice.group, {
      groupId: new Uint8Array([1, 2, 3]),
      identity: alice.identity,
      lifetime,
      keyPackages: [branchPackage.keyPackage],
      groupInfo: { ratchetTree: true },
    });
    branch.group.mergePending({ nowMs: 0 });
    const joined = joinGroup(crypto, {
      welcome: branch.welcome!,
      keyPackage: branchPackage,
      continues: bob.group,
    });
    expect(toHex(joined.group.epochAuthenticator())).toBe(toHex(branch.group.epochAuthenticator()));
    expect(() => joinGroup(crypto, { welcome: branch.welcome!, keyPackage: branchPackage })).toThrow(
      "mls/welcome/unexpected-subgroup",
    );

    const reinit = {
      kind: "reinit",
      groupId: new Uint8Array([9]),
      version: 1,
      cipherSuite: 3,
      extensions: [],
    } as const;
    const { message } = alice.commit({ proposals: [reinit] });
    bob.receive(message);
    expect([alice.group.status, bob.group.status]).toEqual(["suspended", "suspended"]);
    expect(() => bob.say("no more")).toThrow("mls/group-suspended");
    const other = nativeCrypto(3);
    const [alice3, bob3] = [new Client("alice", other), new Client("bob", other)];
    const bundle = bob3.keyPackage();
    const next = continueByReInit(other, alice.group, {
      identity: alice3.identity,
      lifetime,
      keyPackages: [bundle.keyPackage],
      groupInfo: { ratchetTree: true },
    });
    next.group.mergePending({ nowMs: 0 });
    const again = joinGroup(other, { welcome: next.welcome!, keyPackage: bundle, continues: bob.group });
    expect(toHex(again.group.epochAuthenticator())).toBe(toHex(next.group.epochAuthenticator()));
  });

  test("each joiner gets a Welcome of its own, cut from the one of the commit, and the tree from elsewhere", () => {
    const [alice, ...others] = friends("alice", "bob", "carol", "dave") as [Client, ...Client[]];
    alice.create("friends");
    const bundles = others.map((client) => client.keyPackage());
    const { welcome } = alice.commit({
      proposals: bundles.map(({ keyPackage }) => ({ kind: "add", keyPackage }) as const),
      path: "required",
    });
    const trimmed = trimWelcomes(welcome!);
    for (const [i, client] of others.entries())
      client.join(trimmed[i]!, bundles[i]!, alice.group.ratchetTree());
    expectSameEpoch(alice, ...others);
    expect(trimmed.every((one) => one.length < welcome!.length)).toBe(true);

    // Whoever did not make it says what it must keep: as many entries as Adds, and no copy above a size.
    const maxBytes = Math.max(...trimmed.map((one) => one.length));
    expect(trimWelcomes(welcome!, { joiners: 3, maxBytes })).toEqual(trimmed);
    expect(() => trimWelcomes(welcome!, { joiners: 3, maxBytes: maxBytes - 1 })).toThrow(
      "mls/welcome/too-large",
    );
    // The count is looked at before anything is cut, which would be too large here.
    for (const joiners of [2, 4]) {
      expect(() => trimWelcomes(welcome!, { joiners, maxBytes: 1 })).toThrow("mls/welcome/entries");
    }
  });

  test("a reloaded client, also one with a commit pending, goes on as if nothing had happened", () => {
    const [alice, bob] = friends("alice", "bob") as [Client, Client];
    alice.create("friends");
    addAll(alice, [bob]);
    for (let turn = 0; turn < 5; turn++) {
      const bundle = bob.group.createCommit();
      bob.save(bundle.writes);
      bob.reload();
      expect(equalBytes(bob.group.pendingCommitMessage!, bundle.message)).toBe(true);
      alice.receive(bundle.message);
      expect(bob.group.receive(bundle.message).kind).toBe("own-commit");
      bob.save(bob.group.mergePending({ nowMs: turn }));
      bob.reload();
      alice.reload();
      expectSameEpoch(alice, bob);
      expect(textOf(bob.receive(alice.say(`turn ${turn}`)))).toBe(`turn ${turn}`);
    }
  });
});

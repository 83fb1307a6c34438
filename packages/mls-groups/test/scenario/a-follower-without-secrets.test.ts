import { encode, InvariantError, RejectionError, toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { internalsOf } from "../../src/group/group.ts";
import { PROPOSALS_PER_SENDER } from "../../src/group/proposal-cache.ts";
import { joinGroupExternally, nativeCrypto } from "../../src/index.ts";
import { type FollowedCommit, groupInfoSummary, PublicGroup } from "../../src/public-group/index.ts";
import { disableRule } from "../../src/rules.ts";
import { addAll, Client } from "../clients.ts";
import { contextWith, Device } from "../community-kit.ts";

const crypto = nativeCrypto(1);

function startedGroup(): { alice: Client; bob: Client; carol: Client; follower: PublicGroup } {
  const [alice, bob, carol] = ["alice", "bob", "carol"].map((name) => new Client(name, crypto)) as [
    Client,
    Client,
    Client,
  ];
  alice.create("friends");
  addAll(alice, [bob, carol]);
  const follower = PublicGroup.follow(crypto, {
    groupInfo: alice.group.groupInfo(),
    ratchetTree: alice.group.ratchetTree(),
  });
  return { alice, bob, carol, follower };
}

function follow(follower: PublicGroup, message: Uint8Array): FollowedCommit {
  const followed = follower.receive(message);
  if (followed.kind !== "commit") throw new Error("not a commit");
  follower.merge(followed.commit);
  return followed.commit;
}

describe("a follower that starts again from what it stored", () => {
  test("has the same tree and context, and goes on following", () => {
    const { alice, bob, carol, follower } = startedGroup();
    const snapshot = follower.treeSnapshot();
    const deltas: Uint8Array[] = [];
    let groupInfo = new Uint8Array(0);
    for (const committer of [bob, alice, carol, bob]) {
      const bundle = committer.commit();
      for (const client of [alice, bob, carol]) if (client !== committer) client.receive(bundle.message);
      const commit = follow(follower, bundle.message);
      deltas.push(follower.treeDelta(commit));
      groupInfo = bundle.groupInfo;
    }
    const restored = PublicGroup.restore(crypto, { groupInfo, snapshot, deltas });
    expect(toHex(restored.ratchetTree())).toBe(toHex(follower.ratchetTree()));
    expect(restored.context).toEqual(follower.context);
    const { message } = alice.commit();
    const [a, b] = [follow(follower, message), follow(restored, message)];
    expect(toHex(a.next.contextBytes)).toBe(toHex(b.next.contextBytes));
    expect(a.next.interimTranscriptHash).toEqual(b.next.interimTranscriptHash);
  });

  test("does not start from what does not belong together or was damaged", () => {
    const { alice, bob, follower } = startedGroup();
    const groupInfo = alice.group.groupInfo();
    const snapshot = follower.treeSnapshot();
    const { message, groupInfo: nextInfo } = bob.commit();
    const delta = follower.treeDelta(follow(follower, message));
    const restore = (request: Parameters<typeof PublicGroup.restore>[1]) => () =>
      PublicGroup.restore(crypto, request);
    expect(restore({ groupInfo: nextInfo, snapshot, deltas: [delta] })).not.toThrow();
    for (const wrong of [
      { groupInfo, snapshot, deltas: [delta] },
      { groupInfo: nextInfo, snapshot, deltas: [] },
      { groupInfo: nextInfo, snapshot: follower.treeSnapshot(), deltas: [delta.subarray(1)] },
      { groupInfo: nextInfo, snapshot: snapshot.subarray(1), deltas: [delta] },
      { groupInfo: snapshot, snapshot, deltas: [delta] },
    ]) {
      expect(restore(wrong)).toThrow(InvariantError);
    }
    for (let at = 0; at < snapshot.length; at++) {
      const damaged = snapshot.slice();
      damaged[at]! ^= 1;
      expect(restore({ groupInfo, snapshot: damaged, deltas: [] }), `byte ${at}`).toThrow(InvariantError);
    }
    expect(() => PublicGroup.restore(nativeCrypto(3), { groupInfo, snapshot, deltas: [] })).toThrow(
      InvariantError,
    );
  });

  test("remembers that the group was reinitialized, if it is told", () => {
    const { alice, follower } = startedGroup();
    const snapshot = follower.treeSnapshot();
    const reinit = {
      kind: "reinit",
      groupId: new Uint8Array(3),
      version: 1,
      cipherSuite: 1,
      extensions: [],
    } as const;
    const { message, groupInfo } = alice.commit({ proposals: [reinit] });
    const deltas = [follower.treeDelta(follow(follower, message))];
    expect(follower.reinitialized).toBe(true);
    // Alice goes on all the same.
    internalsOf(alice.group).status = "active";
    const revival = alice.group.createCommit().message;
    const told = PublicGroup.restore(crypto, { groupInfo, snapshot, deltas, reinitialized: true });
    expect(() => told.receive(revival)).toThrow("mls/message/group-not-reinitialized");
    const untold = PublicGroup.restore(crypto, { groupInfo, snapshot, deltas });
    expect([untold.reinitialized, untold.receive(revival).kind]).toEqual([false, "commit"]);
  });
});

describe("what a follower says of a commit", () => {
  test("references, removed keys, number of Adds, sender", () => {
    const { alice, bob, carol, follower } = startedGroup();
    const dave = new Client("dave", crypto);
    const proposal = bob.group.propose({ kind: "self_remove" });
    bob.save(proposal.writes);
    for (const client of [alice, carol]) client.receive(proposal.message);
    follower.receive(proposal.message);
    const add = { kind: "add", keyPackage: dave.keyPackage().keyPackage } as const;
    const { message } = carol.commit({ proposals: [add] });
    const key = follower.tree.signatureKey(bob.group.ownLeaf)!;
    const followed = follower.receive(message);
    if (followed.kind !== "commit") throw new Error("not a commit");
    expect(followed.commit).toMatchObject({
      references: [proposal.reference],
      removedKeys: [key],
      addedCount: 1,
      external: false,
      sender: carol.group.ownLeaf,
    });
  });

  test("a member that comes back by external commit is not removed", () => {
    const { alice, bob, follower } = startedGroup();
    const joined = joinGroupExternally(crypto, {
      groupInfo: alice.group.groupInfo({ ratchetTree: true }),
      identity: bob.identity,
      removes: bob.group.ownLeaf,
    });
    const followed = follower.receive(joined.message);
    if (followed.kind !== "commit") throw new Error("not a commit");
    const sender = bob.group.ownLeaf;
    expect(followed.commit).toMatchObject({ external: true, removedKeys: [], addedCount: 0, sender });
  });

  test("a proposal that comes twice is one, also when its sender has no room for another", () => {
    const { alice, follower } = startedGroup();
    const propose = (i: number) => {
      const extensions = [{ type: 5, data: encode([], (w) => w.vector([], () => undefined)) }];
      const { message, writes } = alice.group.propose(
        { kind: "group_context_extensions", extensions },
        Uint8Array.of(i),
      );
      alice.save(writes);
      return message;
    };
    const messages = Array.from({ length: PROPOSALS_PER_SENDER }, (_, i) => propose(i));
    const references = [...messages, ...messages].map((message) => {
      const followed = follower.receive(message);
      return followed.kind === "proposal" ? toHex(followed.proposal.reference) : "";
    });
    expect(follower.proposals).toHaveLength(PROPOSALS_PER_SENDER);
    expect(references.slice(PROPOSALS_PER_SENDER)).toEqual(references.slice(0, PROPOSALS_PER_SENDER));
  });
});

describe("a GroupInfo without its tree", () => {
  test("says which group, epoch and tree it is of, and is refused when cut", () => {
    const { alice } = startedGroup();
    const bytes = alice.group.groupInfo();
    const { groupId, epoch, treeHash, extensions } = alice.group.context;
    const summary = { groupId, epoch, treeHash, extensions, cipherSuite: 1 };
    expect(groupInfoSummary(bytes)).toEqual({ ...summary, hasExternalPub: true, hasRatchetTree: false });
    const full = alice.group.groupInfo({ ratchetTree: true, externalPub: false });
    expect(groupInfoSummary(full)).toMatchObject({ hasExternalPub: false, hasRatchetTree: true });
    for (let length = 0; length < bytes.length; length++) {
      expect(() => groupInfoSummary(bytes.subarray(0, length))).toThrow(RejectionError);
    }
    expect(() => groupInfoSummary(alice.group.ratchetTree())).toThrow(RejectionError);
  });
});

describe("the leaves of a community, as a follower knows them", () => {
  test("are found by index and by key, with device and role", () => {
    const alice = new Device(crypto, { account: "alice", device: 2 });
    alice.found("a community", contextWith({ owners: ["alice"], admins: ["bob"] }));
    const others = ["bob", "carol"].map((account) => new Device(crypto, { account }));
    addAll(alice, others);
    const follower = PublicGroup.follow(crypto, {
      groupInfo: alice.group.groupInfo(),
      ratchetTree: alice.group.ratchetTree(),
    });
    const key = alice.identity.signatureKeys.publicKey;
    const device = { accountId: alice.account, deviceId: 2 };
    expect(follower.leaf(0)).toEqual({ leafIndex: 0, signatureKey: key, device, role: "owner" });
    expect(follower.leafOfKey(key)).toEqual(follower.leaf(0));
    expect([1, 2].map((leaf) => follower.leaf(leaf)?.role)).toEqual(["admin", "member"]);
    for (const leaf of [3, 4, 1_000, 0xffff_ffff]) expect(follower.leaf(leaf)).toBeUndefined();
    expect(follower.leafOfKey(new Uint8Array(32))).toBeUndefined();
    expect(follower.estimatedBytes).toBeGreaterThan(follower.ratchetTree().length);
  });
});

describe("a follower without secrets", () => {
  test("follows proposals and commits to the same tree and GroupContext as the members", () => {
    const { alice, bob, carol, follower } = startedGroup();
    for (const committer of [bob, carol, alice]) {
      const proposal = alice.group.propose({
        kind: "group_context_extensions",
        extensions: [],
      });
      alice.save(proposal.writes);
      for (const client of [bob, carol]) client.receive(proposal.message);
      expect(follower.receive(proposal.message).kind).toBe("proposal");
      const { message, groupInfo } = committer.commit();
      for (const client of [alice, bob, carol]) if (client !== committer) client.receive(message);
      const followed = follower.receive(message);
      if (followed.kind !== "commit") throw new Error("not a commit");
      follower.validateGroupInfo(followed.commit, groupInfo);
      follower.merge(followed.commit);
      expect(follower.epoch).toBe(alice.group.epoch);
      expect(toHex(follower.tree.treeHash())).toBe(toHex(alice.group.tree.treeHash()));
      expect(toHex(follower.ratchetTree())).toBe(toHex(alice.group.ratchetTree()));
      expect(toHex(follower.context.confirmedTranscriptHash)).toBe(
        toHex(alice.group.context.confirmedTranscriptHash),
      );
    }
  });

  test("refuses a commit of another epoch, a broken signature and a private message", () => {
    const { alice, bob, carol, follower } = startedGroup();
    const { message } = bob.commit();
    const damaged = message.slice();
    // Behind the signature stand two tags of 33 bytes, which only members can check.
    damaged[damaged.length - 2 * 33 - 1]! ^= 1;
    expect(() => follower.receive(damaged)).toThrow("mls/framing/signature");
    expect(() => follower.receive(alice.say("hello"))).toThrow("mls/message/wire-format");
    const first = follower.receive(message);
    if (first.kind === "commit") follower.merge(first.commit);
    expect(() => follower.receive(message)).toThrow("mls/message/epoch");
    expect(carol.group.epoch).toBe(1n);
  });

  test("group-info/signed-by-committer (12.4.3): a GroupInfo that another member signed is not the commit's", () => {
    const { alice, bob, follower } = startedGroup();
    const { message } = bob.commit();
    alice.receive(message);
    const followed = follower.receive(message);
    if (followed.kind !== "commit") throw new Error("not a commit");
    const byAlice = alice.group.groupInfo();
    expect(() => follower.validateGroupInfo(followed.commit, byAlice)).toThrow(
      "mls/group-info/signed-by-committer",
    );
    const enable = disableRule("group-info/signed-by-committer");
    expect(() => follower.validateGroupInfo(followed.commit, byAlice)).not.toThrow();
    enable();
  });

  test("group-info/follows-commit (12.4.1): the GroupInfo of the epoch before is refused", () => {
    const { bob, follower } = startedGroup();
    const before = bob.group.groupInfo();
    const { message, groupInfo } = bob.commit();
    const followed = follower.receive(message);
    if (followed.kind !== "commit") throw new Error("not a commit");
    follower.validateGroupInfo(followed.commit, groupInfo);
    // The old GroupInfo's signature is valid under the leaf's signature key, which the path kept.
    expect(() => follower.validateGroupInfo(followed.commit, before)).toThrow(
      "mls/group-info/follows-commit",
    );
    const enable = disableRule("group-info/follows-commit");
    expect(() => follower.validateGroupInfo(followed.commit, before)).not.toThrow();
    enable();
  });
});

import { toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { nativeCrypto } from "../../src/index.ts";
import { PublicGroup } from "../../src/public-group/index.ts";
import { disableRule } from "../../src/rules.ts";
import { addAll, Client } from "../clients.ts";

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

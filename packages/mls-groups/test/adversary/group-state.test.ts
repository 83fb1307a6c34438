import { toHex, utf8 } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { internalsOf } from "../../src/group/group.ts";
import { encodeGroupContext } from "../../src/group/public-epoch.ts";
import {
  branchGroup,
  continueByReInit,
  type GroupConfig,
  nativeCrypto,
  type PreSharedKeyId,
} from "../../src/index.ts";
import { PublicGroup } from "../../src/public-group/index.ts";
import { addAll, Client, lifetime } from "../clients.ts";
import { memoryOf, outcome, without } from "./careless.ts";
import { mustRefuse, mustRefuseMessage, ruleTest } from "./rule-test.ts";
import { frameProposal } from "./wrong-messages.ts";

/*
 * What a group keeps after a message was handled: attacks that do not need an invalid message, but the right ones at
 * the wrong time, in the wrong memory, or far too many of them.
 */

const crypto = nativeCrypto(1);
const at = { nowMs: 0 };

function group(config: Partial<GroupConfig> = {}, names: readonly string[] = ["alice", "bob", "carol"]) {
  const members = names.map((name) => new Client(name, crypto, config));
  const [alice, bob, carol] = members;
  alice!.create("friends");
  addAll(alice!, members.slice(1));
  return { alice: alice!, bob: bob!, carol: carol!, members };
}

function staged(client: Client, message: Uint8Array) {
  const received = client.group.receive(message);
  if (received.kind !== "commit") throw new Error(received.kind);
  return received.commit;
}

describe("a staged commit is merged only into the state it was staged from", () => {
  test("who was removed does not come back with a rival commit of the same epoch", () => {
    const { alice, bob, carol } = group();
    const removal = staged(
      carol,
      alice.group.createCommit({ proposals: [{ kind: "remove", removed: carol.group.ownLeaf }] }).message,
    );
    const rival = staged(carol, bob.group.createCommit().message);
    carol.save(carol.group.merge(removal, at));
    expect(outcome(() => carol.group.merge(rival, at))).toBe("mls/group-removed");
    expect(outcome(() => carol.group.merge(removal, at))).toBe("mls/group-removed");
    expect([...carol.store.keys("")]).toEqual([]);
  });

  test("nor is a commit of another group merged, whatever its epoch", () => {
    const one = group();
    const two = group();
    const commit = staged(one.bob, one.alice.group.createCommit().message);
    const before = memoryOf(two.bob);
    expect(outcome(() => two.bob.group.merge(commit, at))).toBe("mls/stale-staged-commit");
    expect(memoryOf(two.bob)).toBe(before);
  });

  test("a follower holds to the same", () => {
    const [one, two] = [group(), group()].map(({ alice }) => {
      const follower = PublicGroup.follow(crypto, {
        groupInfo: alice.group.groupInfo({ ratchetTree: true }),
      });
      return { alice, follower };
    });
    const followed = one!.follower.receive(one!.alice.group.createCommit().message);
    if (followed.kind !== "commit") throw new Error(followed.kind);
    expect(outcome(() => two!.follower.merge(followed.commit))).toBe("mls/stale-staged-commit");
    one!.follower.merge(followed.commit);
    expect(outcome(() => one!.follower.merge(followed.commit))).toBe("mls/stale-staged-commit");
  });
});

describe("a removed member's group gives nothing out", () => {
  test("neither an authenticator, which would be the same for all who were removed", () => {
    const { alice, carol } = group();
    const { message } = alice.commit({ proposals: [{ kind: "remove", removed: carol.group.ownLeaf }] });
    carol.receive(message);
    expect(outcome(() => carol.group.epochAuthenticator())).toBe("mls/group-removed");
    expect(outcome(() => carol.group.exportSecret("x", utf8("y"), 32))).toBe("mls/group-removed");
    expect(carol.group.resumptionPsk()).toBeUndefined();
  });
});

describe("a caller may use its receive buffer again", () => {
  const extensions = [{ type: 5, data: Uint8Array.of(0) }];

  test("extensions of the GroupContext do not change with it", () => {
    const { alice, bob } = group();
    const { message } = alice.commit({ proposals: [{ kind: "group_context_extensions", extensions }] });
    const buffer = message.slice();
    bob.receive(buffer);
    buffer.fill(0xff);
    alice.receive(bob.commit().message);
    expect(toHex(alice.group.epochAuthenticator())).toBe(toHex(bob.group.epochAuthenticator()));
  });

  test("nor do those of the caller who proposed them, or created the group", () => {
    const created = { type: 5, data: Uint8Array.of(0) };
    const alice = new Client("alice", crypto);
    const bob = new Client("bob", crypto);
    alice.create("friends", [created]);
    created.data.fill(0xff);
    addAll(alice, [bob]);
    const proposed = { type: 5, data: Uint8Array.of(0) };
    const proposal = { kind: "group_context_extensions", extensions: [proposed] } as const;
    bob.receive(alice.group.propose(proposal).message);
    proposed.data.fill(0xff);
    bob.receive(alice.commit().message);
    expect(toHex(alice.group.epochAuthenticator())).toBe(toHex(bob.group.epochAuthenticator()));
  });

  test("a proposal that waits for a commit stays what was verified", () => {
    const { alice, bob, carol } = group();
    const { keyPackage } = new Client("dave", crypto).keyPackage();
    const { message } = alice.group.propose({ kind: "add", keyPackage });
    const buffer = message.slice();
    bob.receive(buffer);
    carol.receive(message);
    buffer.fill(0xff);
    const commit = bob.commit().message;
    expect(carol.receive(commit).kind).toBe("commit");
    expect(bob.group.memberCount).toBe(4);
    expect(toHex(carol.group.epochAuthenticator())).toBe(toHex(bob.group.epochAuthenticator()));
  });

  test("a commit that waits to be merged stays what was verified", () => {
    const { alice, bob } = group();
    const { message } = alice.commit({ proposals: [{ kind: "group_context_extensions", extensions }] });
    const buffer = message.slice();
    const commit = staged(bob, buffer);
    buffer.fill(0xff);
    bob.save(bob.group.merge(commit, at));
    alice.receive(bob.commit().message);
    expect(toHex(alice.group.epochAuthenticator())).toBe(toHex(bob.group.epochAuthenticator()));
  });

  test("a follower's proposals and extensions do not change with it", () => {
    const { alice } = group();
    const follower = PublicGroup.follow(crypto, { groupInfo: alice.group.groupInfo({ ratchetTree: true }) });
    const follow = (message: Uint8Array) => {
      const buffer = message.slice();
      const followed = follower.receive(buffer);
      buffer.fill(0xff);
      if (followed.kind === "commit") follower.merge(followed.commit);
    };
    follow(alice.group.propose({ kind: "group_context_extensions", extensions }).message);
    follow(alice.commit().message);
    follow(alice.commit().message);
    expect(toHex(follower.tree.treeHash())).toBe(toHex(alice.group.tree.treeHash()));
    expect(follower.context.extensions).toEqual(alice.group.context.extensions);
  });
});

describe("a group that was reinitialized stays as it is", () => {
  const reinit = {
    kind: "reinit",
    groupId: utf8("next"),
    version: 1,
    cipherSuite: 1,
    extensions: [],
  } as const;

  function suspended() {
    const { alice, bob, members } = group();
    const follower = PublicGroup.follow(crypto, { groupInfo: alice.group.groupInfo({ ratchetTree: true }) });
    const { message } = alice.commit({ proposals: [reinit] });
    const followed = follower.receive(message);
    if (followed.kind === "commit") follower.merge(followed.commit);
    for (const member of members) if (member !== alice) member.receive(message);
    // Alice, who does not care about the rule.
    internalsOf(alice.group).status = "active";
    return { alice, bob, follower };
  }

  ruleTest(
    "message/group-not-reinitialized",
    "a commit after that of the ReInit, which would revive it",
    (rule) => {
      const { alice, bob, follower } = suspended();
      const { message } = alice.group.createCommit();
      mustRefuseMessage(rule, bob, message);
      mustRefuse(rule, () => follower.receive(message));
      expect(bob.group.status).toBe("suspended");
      expect(bob.group.reinit?.groupId).toEqual(reinit.groupId);
    },
  );

  ruleTest(
    "message/group-not-reinitialized",
    "a proposal after the ReInit, also an encrypted one",
    (rule) => {
      const { alice, bob } = suspended();
      mustRefuseMessage(rule, bob, frameProposal(alice, { kind: "remove", removed: bob.group.ownLeaf }));
      const secret = group({ handshakeFormat: "mls_private_message" });
      secret.bob.receive(secret.alice.commit({ proposals: [reinit] }).message);
      internalsOf(secret.alice.group).status = "active";
      mustRefuseMessage(rule, secret.bob, secret.alice.group.createCommit().message);
    },
  );

  test("nor can a new group of a version be made that nobody here speaks", () => {
    const { alice } = group();
    alice.commit({ proposals: [{ ...reinit, version: 2 }] });
    const request = { identity: alice.identity, lifetime, keyPackages: [] };
    expect(outcome(() => continueByReInit(crypto, alice.group, request))).toBe("mls/version-of-reinit");
  });
});

describe("a resumption PSK enters the one commit it was meant for", () => {
  test("the new group does not answer later questions with the wiped value", () => {
    const { alice, bob } = group();
    const bundle = bob.keyPackage();
    const { group: branch } = branchGroup(crypto, alice.group, {
      groupId: utf8("branch"),
      identity: new Client("alice", crypto).identity,
      lifetime,
      keyPackages: [bundle.keyPackage],
    });
    const id: PreSharedKeyId = {
      kind: "resumption",
      usage: "branch",
      pskGroupId: utf8("another group"),
      pskEpoch: 7n,
      pskNonce: new Uint8Array(32),
    };
    expect(internalsOf(branch).config.psks(id)).toBeUndefined();
  });
});

describe("the last epoch that a GroupContext can hold", () => {
  ruleTest("commit/epoch-left", "a commit behind it, whose epoch would be encoded as 0", (rule) => {
    const { alice, bob } = group();
    for (const { group } of [alice, bob]) {
      const inside = internalsOf(group);
      const context = { ...inside.state.public.context, epoch: 2n ** 64n - 1n };
      const contextBytes = encodeGroupContext(context);
      inside.state = { ...inside.state, public: { ...inside.state.public, context, contextBytes } };
    }
    mustRefuseMessage(
      rule,
      bob,
      without([rule], () => alice.group.createCommit().message),
    );
  });
});

describe("a commit as a PrivateMessage", () => {
  test("can be merged although its key made room for those of many later messages", () => {
    const { alice, bob } = group({
      handshakeFormat: "mls_private_message",
      ratchetLimits: { maxSkipped: 2 },
    });
    const { message } = alice.group.createCommit();
    const commit = staged(bob, message);
    for (let i = 0; i < 5; i++) {
      bob.receive(alice.group.propose({ kind: "remove", removed: 2 }, Uint8Array.of(i)).message);
    }
    alice.save(alice.group.mergePending(at));
    bob.save(bob.group.merge(commit, at));
    expect(toHex(bob.group.epochAuthenticator())).toBe(toHex(alice.group.epochAuthenticator()));
  });
});

describe("a proposal that nobody could decode", () => {
  test("is not sent, and uses up no key", () => {
    const { alice } = group({ handshakeFormat: "mls_private_message" });
    const twice = [0, 1].map((byte) => ({ type: 5, data: Uint8Array.of(byte) }));
    const before = memoryOf(alice);
    const proposal = { kind: "group_context_extensions", extensions: twice } as const;
    expect(outcome(() => alice.group.propose(proposal))).toBe("mls/extensions/distinct");
    expect(memoryOf(alice)).toBe(before);
  });
});

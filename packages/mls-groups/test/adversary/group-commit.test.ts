import { utf8 } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { encryptWithLabel } from "../../src/crypto/labeled.ts";
import {
  createExternalProposal,
  equalCredentials,
  type GroupConfig,
  joinGroupExternally,
  nativeCrypto,
  openPolicy,
  type Proposal,
} from "../../src/index.ts";
import { PublicGroup } from "../../src/public-group/index.ts";
import type { Commit, ProposalOrRef } from "../../src/structs/commit.ts";
import { type HpkeCiphertext, hpkeCiphertextVector } from "../../src/structs/hpke-ciphertext.ts";
import type { PreSharedKeyId } from "../../src/structs/psk-id.ts";
import type { UpdatePath, UpdatePathNode } from "../../src/structs/update-path.ts";
import { addAll, Client } from "../clients.ts";
import { outcome, without } from "./careless.ts";
import { mustRefuse, mustRefuseMessage, ruleTest } from "./rule-test.ts";
import {
  byValue,
  commitOf,
  commitWithout,
  created,
  damaged,
  editedCommit,
  editedExternalCommit,
  frameCommit,
  frameProposal,
  keyPackageOf,
  ownLeaf,
} from "./wrong-messages.ts";

const crypto = nativeCrypto(1);
const value = (proposal: Proposal): ProposalOrRef => ({ kind: "proposal", proposal });

/** Alice, Bob, Carol and Dave, whose tree has no blank parents: each of them committed once. */
function group(config: Partial<GroupConfig> = {}) {
  const names = ["alice", "bob", "carol", "dave"];
  const [alice, bob, carol, dave] = names.map((name) => new Client(name, crypto, config));
  const members = [alice!, bob!, carol!, dave!];
  alice!.create("friends");
  addAll(alice!, members.slice(1));
  for (const committer of members) {
    const { message } = committer.commit();
    for (const other of members) if (other !== committer) other.receive(message);
  }
  return { alice: alice!, bob: bob!, carol: carol!, dave: dave!, members };
}

/** A PSK that every member has; the nonce is as long as a hash. */
function pskId(fields: Partial<Extract<PreSharedKeyId, { kind: "external" }>> = {}): PreSharedKeyId {
  return { kind: "external", pskId: utf8("psk"), pskNonce: new Uint8Array(32).fill(7), ...fields };
}
const withPsk: Partial<GroupConfig> = { psks: () => new Uint8Array(32).fill(9) };

describe("a commit without the path that it needs is refused", () => {
  const pathless = (alice: Client, proposals: readonly Proposal[]) =>
    editedCommit(alice, { proposals: proposals.map((proposal) => byValue(alice, proposal)) }, (commit) => ({
      ...commit,
      path: undefined,
    }));

  ruleTest(
    "commit/path-required",
    "a Remove without a path, by which the removed member would read on",
    (rule) => {
      const { alice, bob, carol } = group();
      mustRefuseMessage(rule, bob, pathless(alice, [{ kind: "remove", removed: carol.group.ownLeaf }]));
    },
  );

  ruleTest("commit/path-required", "GroupContextExtensions without a path", (rule) => {
    const { alice, bob } = group();
    mustRefuseMessage(rule, bob, pathless(alice, [{ kind: "group_context_extensions", extensions: [] }]));
  });

  ruleTest("commit/path-required", "an empty commit without a path", (rule) => {
    const { alice, bob } = group();
    mustRefuseMessage(rule, bob, pathless(alice, []));
  });

  ruleTest("commit/path-required", "an Update without a path", (rule) => {
    const { alice, bob, carol } = group();
    const { message, reference } = carol.group.proposeUpdate();
    for (const client of [alice, bob]) client.receive(message);
    const commit: Commit = { proposals: [{ kind: "reference", reference }], path: undefined };
    mustRefuseMessage(rule, bob, frameCommit(alice, commit));
  });

  test("an Add without a path is accepted", () => {
    const { alice, bob } = group();
    const { keyPackage } = new Client("erin", crypto).keyPackage();
    const message = commitWithout(alice, [], { proposals: [{ kind: "add", keyPackage }], path: "required" });
    expect(outcome(() => bob.group.receive(message))).toBe("accepted");
  });
});

describe("a commit with a wrong path is refused", () => {
  /** Alice sends her commit with another path. */
  function wrongPath(alice: Client, edit: (path: UpdatePath) => Partial<UpdatePath>): Uint8Array {
    return editedCommit(alice, {}, ({ proposals, path }) => ({
      proposals,
      path: { ...path!, ...edit(path!) },
    }));
  }
  function wrongNode(alice: Client, index: number, edit: (node: UpdatePathNode) => Partial<UpdatePathNode>) {
    return wrongPath(alice, ({ nodes }) => ({
      nodes: nodes.map((node, i) => (i === index ? { ...node, ...edit(node) } : node)),
    }));
  }

  ruleTest("update-path/length", "a path that is one node short", (rule) => {
    const { alice, bob } = group();
    mustRefuseMessage(
      rule,
      bob,
      wrongPath(alice, ({ nodes }) => ({ nodes: nodes.slice(0, -1) })),
    );
  });

  ruleTest(
    "update-path/ciphertext-count",
    "a ciphertext for somebody who is not in the resolution",
    (rule) => {
      const { alice, bob } = group();
      const message = wrongNode(alice, 0, ({ encryptedPathSecret }) => {
        const ciphertexts = [...encryptedPathSecret];
        return { encryptedPathSecret: hpkeCiphertextVector([...ciphertexts, ciphertexts[0]!]) };
      });
      mustRefuseMessage(rule, bob, message);
    },
  );

  ruleTest("update-path/encryption-key-valid", "a path key that is one byte short", (rule) => {
    const { alice, bob } = group();
    const message = wrongNode(alice, 1, ({ encryptionKey }) => ({
      encryptionKey: encryptionKey.subarray(1),
    }));
    mustRefuseMessage(rule, bob, message);
  });

  ruleTest("update-path/encryption-keys-new", "a path key that a leaf has (leaf and path)", (rule) => {
    const { alice, bob, carol } = group();
    const encryptionKey = alice.group.tree.encryptionKey(carol.group.ownLeaf * 2)!;
    mustRefuseMessage(
      rule,
      bob,
      wrongNode(alice, 0, () => ({ encryptionKey })),
    );
  });

  ruleTest("update-path/encryption-keys-new", "a path key that a parent has (path and parent)", (rule) => {
    const { alice, bob } = group();
    const encryptionKey = alice.group.tree.encryptionKey(5)!;
    mustRefuseMessage(
      rule,
      bob,
      wrongNode(alice, 1, () => ({ encryptionKey })),
    );
  });

  ruleTest("update-path/encryption-keys-distinct", "one key twice in a path", (rule) => {
    const { alice, bob } = group();
    const message = wrongPath(alice, ({ nodes }) => ({
      nodes: [nodes[0]!, { ...nodes[1]!, encryptionKey: nodes[0]!.encryptionKey }],
    }));
    mustRefuseMessage(rule, bob, message);
  });

  ruleTest(
    "update-path/leaf-encryption-key-changed",
    "a path whose leaf keeps its encryption key",
    (rule) => {
      const { alice, bob } = group();
      const encryptionKey = alice.group.tree.encryptionKey(alice.group.ownLeaf * 2)!;
      const message = wrongPath(alice, ({ leafNode: { source } }) => ({
        leafNode: ownLeaf(alice, { encryptionKey, source }),
      }));
      mustRefuseMessage(rule, bob, message);
    },
  );

  ruleTest("update-path/parent-hash", "a path whose leaf has another parent hash", (rule) => {
    const { alice, bob } = group();
    const message = wrongPath(alice, ({ leafNode }) => ({
      leafNode: ownLeaf(alice, {
        encryptionKey: leafNode.encryptionKey,
        source: { kind: "commit", parentHash: new Uint8Array(32) },
      }),
    }));
    mustRefuseMessage(rule, bob, message);
  });

  ruleTest(
    "update-path/key-matches-path-secret",
    "a path secret that does not lead to the keys of the path",
    (rule) => {
      const { alice, bob } = group();
      const bobKey = alice.group.tree.encryptionKey(bob.group.ownLeaf * 2)!;
      const message = editedCommit(alice, {}, ({ proposals, path }, original) => {
        const context = original.public.provisionalBytes;
        const sealed: HpkeCiphertext = encryptWithLabel(
          crypto,
          bobKey,
          "UpdatePathNode",
          context,
          new Uint8Array(32).fill(1),
        );
        const [first, ...rest] = path!.nodes;
        const nodes = [{ ...first!, encryptedPathSecret: hpkeCiphertextVector([sealed]) }, ...rest];
        return { proposals, path: { ...path!, nodes } };
      });
      mustRefuseMessage(rule, bob, message);
    },
  );

  ruleTest("commit/confirmation-tag", "a commit whose confirmation tag is wrong", (rule) => {
    const { alice, bob } = group();
    expect(outcome(() => bob.group.receive(editedCommit(alice, {}, (commit) => commit)))).toBe("accepted");
    const commit = commitOf(created(alice));
    mustRefuseMessage(rule, bob, frameCommit(alice, commit, { confirmationTag: new Uint8Array(32) }));
  });
});

describe("a wrong list of proposals is refused", () => {
  ruleTest("ratchet-tree/leaf-not-blank", "a Remove of a leaf that is blank", (rule) => {
    const { alice, bob } = group();
    const proposals = [{ kind: "remove", removed: 7 } as const];
    const message = editedCommit(alice, {}, (commit) => ({ ...commit, proposals: proposals.map(value) }));
    mustRefuseMessage(rule, bob, message);
  });

  ruleTest("psk/nonce-length", "a PSK nonce that is one byte short", (rule) => {
    const { alice, bob } = group(withPsk);
    const psk = pskId({ pskNonce: new Uint8Array(31) });
    mustRefuseMessage(rule, bob, commitWithout(alice, [rule], { proposals: [{ kind: "psk", psk }] }));
  });

  ruleTest("psk/count", "more PSKs than a PSKLabel can count, by a member and before a follower", (rule) => {
    const { alice, bob } = group(withPsk);
    const proposals = Array.from({ length: 0x1_0000 }, (_, i) => {
      const pskNonce = new Uint8Array(32);
      new DataView(pskNonce.buffer).setUint32(0, i);
      return value({ kind: "psk", psk: pskId({ pskNonce }) });
    });
    const message = frameCommit(alice, { proposals, path: undefined });
    const groupInfo = alice.group.groupInfo({ ratchetTree: true });
    const follower = PublicGroup.follow(crypto, { groupInfo });
    mustRefuseMessage(rule, bob, message);
    mustRefuse(rule, () => follower.receive(message));
  });

  for (const usage of ["reinit", "branch"] as const) {
    const id = usage === "reinit" ? "psk/no-reinit-usage" : "psk/no-branch-usage";
    ruleTest(id, `a resumption PSK of usage ${usage} in a running group`, (rule) => {
      const { alice, bob } = group(withPsk);
      const psk: PreSharedKeyId = {
        kind: "resumption",
        usage,
        pskGroupId: utf8("another group"),
        pskEpoch: 3n,
        pskNonce: new Uint8Array(32),
      };
      mustRefuseMessage(rule, bob, commitWithout(alice, [rule], { proposals: [{ kind: "psk", psk }] }));
    });
  }

  ruleTest("proposal-list/distinct-psks", "one PSK twice", (rule) => {
    const { alice, bob } = group(withPsk);
    const proposals = [pskId(), pskId()].map((psk) => ({ kind: "psk", psk }) as const);
    mustRefuseMessage(rule, bob, commitWithout(alice, [rule], { proposals }));
  });

  const reinit = (version: number): Proposal => ({
    kind: "reinit",
    groupId: utf8("next"),
    version,
    cipherSuite: 1,
    extensions: [],
  });

  ruleTest("reinit/version", "a ReInit to a version before this one", (rule) => {
    const { alice, bob } = group();
    mustRefuseMessage(rule, bob, commitWithout(alice, [rule], { proposals: [reinit(0)] }));
  });

  ruleTest("proposal-list/reinit-alone", "a ReInit together with a Remove", (rule) => {
    const { alice, bob, carol } = group();
    const proposals = [reinit(1), { kind: "remove", removed: carol.group.ownLeaf } as const];
    mustRefuseMessage(rule, bob, commitWithout(alice, [rule], { proposals }));
  });

  ruleTest("proposal-list/one-group-context-extensions", "GroupContextExtensions twice", (rule) => {
    const { alice, bob } = group();
    const proposals = [1, 2].map(() => ({ kind: "group_context_extensions", extensions: [] }) as const);
    mustRefuseMessage(rule, bob, commitWithout(alice, [rule], { proposals }));
  });

  ruleTest("proposal-list/no-external-init", "an ExternalInit from a member", (rule) => {
    const { alice, bob } = group();
    const proposals = [{ kind: "external_init", kemOutput: new Uint8Array(32).fill(4) } as const];
    mustRefuseMessage(rule, bob, commitWithout(alice, [rule], { proposals }));
  });

  ruleTest("proposal-list/no-own-update", "an Update by the committer itself", (rule) => {
    const { alice, bob } = group();
    const leafNode = ownLeaf(alice, { source: { kind: "update" } });
    mustRefuseMessage(rule, bob, commitWithout(alice, [rule], { proposals: [{ kind: "update", leafNode }] }));
  });

  ruleTest("proposal-list/no-own-update", "an Update by the committer itself, by reference", (rule) => {
    const { alice, bob } = group();
    const { message, reference } = alice.group.proposeUpdate();
    bob.receive(message);
    mustRefuseMessage(rule, bob, commitWithout(alice, [rule], { cached: [reference] }));
  });

  ruleTest("proposal-list/no-own-self-remove", "a SelfRemove by the committer itself", (rule) => {
    const { alice, bob } = group();
    const { message, reference } = alice.group.propose({ kind: "self_remove" });
    bob.receive(message);
    const proposals: ProposalOrRef[] = [{ kind: "reference", reference }];
    mustRefuseMessage(
      rule,
      bob,
      editedCommit(alice, {}, (commit) => ({ ...commit, proposals })),
    );
  });

  ruleTest("proposal-list/self-remove-by-reference", "a SelfRemove by value", (rule) => {
    const { alice, bob } = group();
    const proposals = [value({ kind: "self_remove" })];
    mustRefuseMessage(
      rule,
      bob,
      editedCommit(alice, {}, (commit) => ({ ...commit, proposals })),
    );
  });

  ruleTest("proposal-list/one-change-per-leaf", "one leaf removed twice", (rule) => {
    const { alice, bob, carol } = group();
    const remove = value({ kind: "remove", removed: carol.group.ownLeaf });
    mustRefuseMessage(
      rule,
      bob,
      editedCommit(alice, {}, (commit) => ({ ...commit, proposals: [remove, remove] })),
    );
  });

  ruleTest("proposal-list/one-change-per-leaf", "a leaf updated and removed", (rule) => {
    const { alice, bob, carol } = group();
    const { message, reference } = carol.group.proposeUpdate();
    bob.receive(message);
    const remove = value({ kind: "remove", removed: carol.group.ownLeaf });
    mustRefuseMessage(
      rule,
      bob,
      editedCommit(alice, {}, (commit) => ({
        ...commit,
        proposals: [{ kind: "reference", reference }, remove],
      })),
    );
  });

  ruleTest("proposal-list/committer-not-removed", "a Remove of the committer", (rule) => {
    const { alice, bob } = group();
    const remove = value({ kind: "remove", removed: alice.group.ownLeaf });
    mustRefuseMessage(
      rule,
      bob,
      editedCommit(alice, {}, (commit) => ({ ...commit, proposals: [remove] })),
    );
  });

  ruleTest("proposal-list/types-supported", "a proposal of a type that members do not know", (rule) => {
    const { alice, bob } = group();
    const proposals = [{ kind: "unknown", type: 0xff10, content: utf8("x") } as const];
    mustRefuseMessage(rule, bob, commitWithout(alice, [rule], { proposals }));
  });

  ruleTest("proposal-list/distinct-adds", "two KeyPackages with one init key", (rule) => {
    const { alice, bob } = group();
    const { publicKey: initKey } = crypto.generateHpkeKeyPair();
    const proposals = ["erin", "frank"].map((name) => ({
      kind: "add" as const,
      keyPackage: keyPackageOf(new Client(name, crypto), {}, { initKey }),
    }));
    mustRefuseMessage(rule, bob, commitWithout(alice, [rule], { proposals }));
  });

  ruleTest("proposal-list/distinct-adds", "two Adds of one client by the application's rules", (rule) => {
    const isSameClient: typeof openPolicy.isSameClient = (a, b) =>
      equalCredentials(a.credential, b.credential);
    const policy = { ...openPolicy, isSameClient, clientsAreSignatureKeys: false };
    const { alice, bob } = group({ policy });
    const proposals = ["erin", "erin"].map((name) => ({
      kind: "add" as const,
      keyPackage: new Client(name, crypto).keyPackage().keyPackage,
    }));
    mustRefuseMessage(rule, bob, commitWithout(alice, [rule], { proposals }));
  });

  ruleTest(
    "proposal-list/client-not-a-member",
    "an Add of a client that is a member by the application's rules",
    (rule) => {
      const isSameClient: typeof openPolicy.isSameClient = (a, b) =>
        equalCredentials(a.credential, b.credential);
      const { alice, bob } = group({
        policy: { ...openPolicy, isSameClient, clientsAreSignatureKeys: false },
      });
      const { keyPackage } = new Client("carol", crypto).keyPackage();
      mustRefuseMessage(
        rule,
        bob,
        commitWithout(alice, [rule], { proposals: [{ kind: "add", keyPackage }] }),
      );
    },
  );
});

describe("a wrong external commit is refused", () => {
  /** Erin, who is outside, makes an external commit. */
  function external(alice: Client, removes?: number) {
    const erin = new Client("erin", crypto);
    const { message } = joinGroupExternally(crypto, {
      groupInfo: alice.group.groupInfo({ ratchetTree: true }),
      identity: erin.identity,
      removes,
    });
    return { erin, message };
  }
  function edited(alice: Client, edit: (proposals: readonly ProposalOrRef[]) => readonly ProposalOrRef[]) {
    const { erin, message } = external(alice);
    return editedExternalCommit(erin, alice, message, (commit) => ({
      ...commit,
      proposals: edit(commit.proposals),
    }));
  }

  test("with nothing wrong it is accepted, signed again as well", () => {
    const { alice, bob } = group();
    expect(outcome(() => bob.group.receive(external(alice).message))).toBe("accepted");
  });

  ruleTest("external-commit/one-external-init", "none", (rule) => {
    const { alice, bob } = group();
    mustRefuseMessage(
      rule,
      bob,
      edited(alice, () => []),
    );
  });

  ruleTest("external-commit/one-external-init", "two of them", (rule) => {
    const { alice, bob } = group();
    mustRefuseMessage(
      rule,
      bob,
      edited(alice, ([init]) => [init!, init!]),
    );
  });

  ruleTest("external-commit/at-most-one-remove", "two members removed at once", (rule) => {
    const { alice, bob, carol, dave } = group();
    const removes = [carol, dave].map(({ group: { ownLeaf: removed } }) =>
      value({ kind: "remove", removed }),
    );
    mustRefuseMessage(
      rule,
      bob,
      edited(alice, (proposals) => [...proposals, ...removes]),
    );
  });

  ruleTest("external-commit/only-allowed-types", "an Add of somebody else", (rule) => {
    const { alice, bob } = group();
    const { keyPackage } = new Client("frank", crypto).keyPackage();
    const add = value({ kind: "add", keyPackage });
    mustRefuseMessage(
      rule,
      bob,
      edited(alice, (proposals) => [...proposals, add]),
    );
  });

  ruleTest("external-commit/no-references", "a member's proposal by reference", (rule) => {
    const { alice, bob } = group(withPsk);
    const { message, reference } = alice.group.propose({ kind: "psk", psk: pskId() });
    bob.receive(message);
    const byReference = { kind: "reference", reference } as const;
    mustRefuseMessage(
      rule,
      bob,
      edited(alice, (proposals) => [...proposals, byReference]),
    );
  });

  ruleTest("external-commit/remove-own-leaf", "a Remove of somebody else in the name of a resync", (rule) => {
    const { alice, bob, carol } = group();
    const erin = new Client("erin", crypto);
    const request = {
      groupInfo: alice.group.groupInfo({ ratchetTree: true }),
      identity: erin.identity,
      removes: carol.group.ownLeaf,
    };
    mustRefuse(rule, () => joinGroupExternally(crypto, request));
    const { message } = without([rule], () => joinGroupExternally(crypto, request));
    mustRefuseMessage(rule, bob, message);
  });
});

describe("a message of another place or another time is refused", () => {
  ruleTest("message/epoch", "a commit of the epoch before", (rule) => {
    const { alice, bob, carol } = group();
    const stale = commitWithout(carol, [], {});
    bob.receive(alice.commit().message);
    mustRefuseMessage(rule, bob, stale);
  });

  ruleTest("message/epoch", "a commit of an epoch to come", (rule) => {
    const { alice, bob } = group();
    alice.commit();
    mustRefuseMessage(rule, bob, commitWithout(alice, [], {}));
  });

  ruleTest("message/group", "a commit of another group", (rule) => {
    const { bob } = group();
    const stranger = new Client("stranger", crypto);
    stranger.create("strangers");
    mustRefuseMessage(rule, bob, commitWithout(stranger, [], {}));
  });

  ruleTest(
    "message/sender-not-removed-before",
    "application data that stands behind its sender's removal",
    (rule) => {
      const { alice, bob, carol } = group();
      const late = carol.say("I am still here");
      const { message } = alice.commit({ proposals: [{ kind: "remove", removed: carol.group.ownLeaf }] });
      const received = bob.group.receive(message, { sequence: 10n });
      if (received.kind !== "commit") throw new Error("not a commit");
      bob.save(bob.group.merge(received.commit, { nowMs: 0, sequence: 10n }));
      mustRefuse(rule, () => bob.group.receive(late, { sequence: 11n }), bob);
    },
  );

  test("application data that stands before its sender's removal is accepted", () => {
    const { alice, bob, carol } = group();
    const late = carol.say("goodbye");
    const { message } = alice.commit({ proposals: [{ kind: "remove", removed: carol.group.ownLeaf }] });
    const received = bob.group.receive(message);
    if (received.kind !== "commit") throw new Error("not a commit");
    bob.save(bob.group.merge(received.commit, { nowMs: 0, sequence: 10n }));
    expect(outcome(() => bob.group.receive(late, { sequence: 9n }))).toBe("accepted");
  });

  ruleTest("framing/sender-is-member", "a sender whose leaf is blank", (rule) => {
    const { alice, bob } = group();
    const message = frameCommit(
      alice,
      { proposals: [], path: undefined },
      { header: { sender: { kind: "member", leafIndex: 50 } } },
    );
    const attempt = () => bob.group.receive(message);
    mustRefuse(rule, attempt, bob);
  });

  ruleTest(
    "proposal/external-sender-known",
    "a proposal of an external sender that the group does not list",
    (rule) => {
      const { alice, bob } = group();
      const { privateKey } = crypto.generateSignatureKeyPair();
      const { groupId, epoch } = alice.group;
      const remove = { kind: "remove", removed: 1 } as const;
      const message = createExternalProposal(crypto, { groupId, epoch }, 0, privateKey, remove);
      mustRefuseMessage(rule, bob, message);
    },
  );
});

describe("a message with wrong bytes is refused, and nothing changes", () => {
  test.each([
    ["trailing bytes", "coder/trailing-bytes", (bytes: Uint8Array) => Uint8Array.of(...bytes, 0)],
    ["a cut message", "coder/truncated", (bytes: Uint8Array) => bytes.subarray(0, -1)],
    // version, wire format, then the header of group_id: "friends" has 7 bytes.
    [
      "a length that is not in its shortest form",
      "coder/non-minimal-length",
      (bytes: Uint8Array) => Uint8Array.of(...bytes.subarray(0, 4), 0x40, 7, ...bytes.subarray(5)),
    ],
    [
      "a vector that claims to be larger than the message",
      "coder/truncated",
      (bytes: Uint8Array) =>
        Uint8Array.of(...bytes.subarray(0, 4), 0xbf, 0xff, 0xff, 0xff, ...bytes.subarray(5)),
    ],
    ["a damaged membership tag", "mls/framing/membership-tag", damaged],
  ])("%s", (_, code, change) => {
    const { alice, bob } = group();
    for (const message of [
      commitWithout(alice, [], {}),
      frameProposal(alice, { kind: "remove", removed: 2 }),
    ]) {
      const state = bob.group.epochAuthenticator();
      expect(outcome(() => bob.group.receive(change(message)))).toBe(code);
      expect(bob.group.epochAuthenticator()).toEqual(state);
      expect(outcome(() => bob.group.receive(message))).toBe("accepted");
    }
  });
});

import { utf8 } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { decodeWelcome, encodeWelcome } from "../../src/group/welcome.ts";
import {
  type CryptoProvider,
  Group,
  joinGroup,
  joinGroupExternally,
  type KeyPackageBundle,
  type LeafNode,
  lastResortExtension,
  nativeCrypto,
  openPolicy,
} from "../../src/index.ts";
import {
  type Extension,
  externalPubExtension,
  requiredCapabilitiesExtension,
} from "../../src/structs/extension.ts";
import type { GroupInfo } from "../../src/structs/group-info.ts";
import type { PreSharedKeyId } from "../../src/structs/psk-id.ts";
import type { CreatedUpdatePath } from "../../src/tree/tree-kem.ts";
import { addAll, Client, lifetime } from "../clients.ts";
import { outcome } from "./careless.ts";
import { mustRefuse, ruleTest } from "./rule-test.ts";
import {
  byValue,
  created,
  damaged,
  editedGroupInfo,
  groupInfoMessage,
  groupInfoOf,
  welcomeOf,
} from "./wrong-messages.ts";

const crypto = nativeCrypto(1);

/** Alice and Bob in a group, and a commit of Alice's that adds Carol. */
function adding(path: "always" | "required" = "required") {
  const [alice, bob, carol] = ["alice", "bob", "carol"].map((name) => new Client(name, crypto));
  alice!.create("friends");
  addAll(alice!, [bob!]);
  const bundle = carol!.keyPackage();
  const proposals = [byValue(alice!, { kind: "add", keyPackage: bundle.keyPackage })];
  const commit = created(alice!, { proposals, path, groupInfo: { ratchetTree: true } });
  return { alice: alice!, bob: bob!, carol: carol!, bundle, commit };
}

const joining = (welcome: Uint8Array, keyPackage: KeyPackageBundle) => () =>
  joinGroup(crypto, { welcome, keyPackage });

describe("a wrong Welcome is refused", () => {
  test("with nothing wrong it is accepted", () => {
    const { alice, bundle, commit } = adding();
    expect(outcome(joining(welcomeOf(alice, commit, bundle.keyPackage), bundle))).toBe("accepted");
  });

  ruleTest("welcome/cipher-suite", "a Welcome of another cipher suite", (rule) => {
    const { alice, bundle, commit } = adding();
    const welcome = decodeWelcome(welcomeOf(alice, commit, bundle.keyPackage));
    mustRefuse(rule, joining(encodeWelcome({ ...welcome, cipherSuite: 3 }), bundle));
  });

  ruleTest("welcome/key-package-listed", "a Welcome for somebody else", (rule) => {
    const { alice, bundle, commit } = adding();
    const other = new Client("dave", crypto).keyPackage();
    mustRefuse(rule, joining(welcomeOf(alice, commit, bundle.keyPackage), other));
  });

  ruleTest("welcome/leaf-in-tree", "a tree with another leaf of ours than that of the KeyPackage", (rule) => {
    const { alice, carol, commit } = adding();
    const other = carol.keyPackage();
    mustRefuse(rule, joining(welcomeOf(alice, commit, other.keyPackage), other));
  });

  const secret = new Uint8Array(32).fill(5);
  const pathWith = (node: number) =>
    ({ pathSecrets: [{ node, pathSecret: secret }] }) as unknown as CreatedUpdatePath;

  ruleTest("welcome/path-secret-node-not-blank", "a path secret for a node that is blank", (rule) => {
    const { alice, bundle, commit } = adding("required");
    mustRefuse(rule, joining(welcomeOf(alice, commit, bundle.keyPackage, { path: pathWith(3) }), bundle));
  });

  ruleTest(
    "welcome/path-secret-matches-key",
    "a path secret that does not lead to the key of its node",
    (rule) => {
      const { alice, bundle, commit } = adding("always");
      mustRefuse(rule, joining(welcomeOf(alice, commit, bundle.keyPackage, { path: pathWith(3) }), bundle));
    },
  );

  ruleTest(
    "welcome/direct-path-keys-known",
    "a Welcome that keeps the path secret back: the joiner could open no later commit",
    (rule) => {
      const { alice, bundle, commit } = adding("always");
      mustRefuse(rule, joining(welcomeOf(alice, commit, bundle.keyPackage), bundle));
    },
  );

  ruleTest("psk/count", "more PSKs than a PSKLabel can count", (rule) => {
    const { alice, bundle, commit } = adding();
    const psk: PreSharedKeyId = { kind: "external", pskId: utf8("psk"), pskNonce: secret };
    const psks = Array.from({ length: 0x1_0000 }, () => psk);
    const welcome = welcomeOf(alice, commit, bundle.keyPackage, { psks });
    mustRefuse(rule, () => joinGroup(crypto, { welcome, keyPackage: bundle }, { psks: () => secret }));
  });

  ruleTest("welcome/single-subgroup-psk", "two PSKs of groups that this one is said to continue", (rule) => {
    const { alice, bundle, commit } = adding();
    const psks = ["one", "two"].map(
      (group): PreSharedKeyId => ({
        kind: "resumption",
        usage: "branch",
        pskGroupId: utf8(group),
        pskEpoch: 1n,
        pskNonce: secret,
      }),
    );
    mustRefuse(rule, joining(welcomeOf(alice, commit, bundle.keyPackage, { psks }), bundle));
  });

  ruleTest("group-info/confirmation-tag", "a GroupInfo with another confirmation tag", (rule) => {
    const { alice, bundle, commit } = adding();
    const groupInfo = editedGroupInfo(alice, commit.groupInfo, {
      confirmationTag: damaged(commit.groupInfo.confirmationTag),
    });
    mustRefuse(rule, joining(welcomeOf(alice, commit, bundle.keyPackage, { groupInfo }), bundle));
  });
});

describe("a wrong GroupInfo is refused, in a Welcome and before an external commit", () => {
  type Change = (info: GroupInfo) => Partial<GroupInfo>;

  function attempts(change: Change, sign: boolean) {
    const { alice, bob, bundle, commit } = adding();
    const edit = (info: GroupInfo) =>
      sign ? editedGroupInfo(alice, info, change(info)) : { ...info, ...change(info) };
    const welcome = welcomeOf(alice, commit, bundle.keyPackage, { groupInfo: edit(commit.groupInfo) });
    const groupInfo = groupInfoMessage(edit(groupInfoOf(alice, { ratchetTree: true })));
    const { identity } = new Client("dave", crypto);
    return {
      bob,
      all: [joining(welcome, bundle), () => joinGroupExternally(crypto, { groupInfo, identity })],
    };
  }

  ruleTest("group-info/signature", "a damaged signature", (rule) => {
    const { all } = attempts(({ signature }) => ({ signature: damaged(signature) }), false);
    for (const attempt of all) mustRefuse(rule, attempt);
  });

  ruleTest("group-info/signer-not-blank", "a signer whose leaf is blank", (rule) => {
    for (const attempt of attempts(() => ({ signer: 3 }), true).all) {
      expect(outcome(attempt)).toBe(`mls/${rule}`);
    }
    for (const attempt of attempts(() => ({ signer: 500 }), true).all) mustRefuse(rule, attempt);
  });

  ruleTest("group-info/tree-hash", "a tree that is not the one of the GroupContext", (rule) => {
    const change: Change = ({ groupContext }) => ({
      groupContext: { ...groupContext, treeHash: damaged(groupContext.treeHash) },
    });
    for (const attempt of attempts(change, true).all) mustRefuse(rule, attempt);
  });

  ruleTest("group-info/cipher-suite", "a GroupContext of another cipher suite", (rule) => {
    const change: Change = ({ groupContext }) => ({ groupContext: { ...groupContext, cipherSuite: 3 } });
    for (const attempt of attempts(change, true).all) mustRefuse(rule, attempt);
  });

  ruleTest("group-info/external-pub", "an external_pub that is one byte short", (rule) => {
    const { alice } = adding();
    const info = groupInfoOf(alice, { ratchetTree: true, externalPub: false });
    const { publicKey } = crypto.generateHpkeKeyPair();
    const extensions = [...info.extensions, externalPubExtension(publicKey.subarray(1))];
    const groupInfo = groupInfoMessage(editedGroupInfo(alice, info, { extensions }));
    const { identity } = new Client("dave", crypto);
    mustRefuse(rule, () => joinGroupExternally(crypto, { groupInfo, identity }));
  });

  test("a GroupInfo without external_pub is refused too", () => {
    const { alice } = adding();
    const groupInfo = alice.group.groupInfo({ ratchetTree: true, externalPub: false });
    const { identity } = new Client("dave", crypto);
    const attempt = () => joinGroupExternally(crypto, { groupInfo, identity });
    expect(outcome(attempt)).toBe("mls/group-info/external-pub");
  });
});

describe("a group that does not continue the old one as it says is refused", () => {
  interface Continuation {
    readonly crypto?: CryptoProvider;
    readonly usage: "reinit" | "branch";
    readonly extensions?: readonly Extension[];
    readonly others: readonly KeyPackageBundle[];
    /** Commits before the one that adds the others. */
    readonly earlierCommits?: number;
  }

  /** Alice creates a group that claims to continue the old one, whatever the rules say, and adds others to it. */
  function continued(alice: Client, request: Continuation): Uint8Array {
    const own = request.crypto ?? crypto;
    const { usage, extensions = [], others } = request;
    const psk: PreSharedKeyId = {
      kind: "resumption",
      usage,
      pskGroupId: alice.group.groupId,
      pskEpoch: alice.group.epoch,
      pskNonce: own.random(own.suite.hashLength),
    };
    const psks = () => alice.group.resumptionPsk();
    const { identity } = new Client("alice", own);
    const { group } = Group.create(own, { groupId: utf8("next"), identity, lifetime, extensions }, { psks });
    for (let i = 0; i < (request.earlierCommits ?? 0); i++) {
      group.createCommit();
      group.mergePending({ nowMs: 0 });
    }
    const adds = others.map(({ keyPackage }) => ({ kind: "add", keyPackage }) as const);
    return group.createCommit({
      proposals: [{ kind: "psk", psk }, ...adds],
      allowSubgroupPsk: usage,
      groupInfo: { ratchetTree: true },
    }).welcome!;
  }

  /** Alice, Bob and Carol; the ReInit is to a group named "next". */
  function old(reinit: boolean, version = 1) {
    const [alice, bob, carol] = ["alice", "bob", "carol"].map((name) => new Client(name, crypto));
    alice!.create("friends");
    addAll(alice!, [bob!, carol!]);
    if (reinit) {
      const { message } = alice!.commit({
        proposals: [{ kind: "reinit", groupId: utf8("next"), version, cipherSuite: 1, extensions: [] }],
      });
      for (const client of [bob!, carol!]) client.receive(message);
    }
    return { alice: alice!, bob: bob!, bobs: bob!.keyPackage(), carols: carol!.keyPackage() };
  }

  const joiningBob =
    (bob: Client, bundle: KeyPackageBundle, welcome: Uint8Array, own = crypto) =>
    () =>
      joinGroup(own, { welcome, keyPackage: bundle, continues: bob.group });

  test("with nothing wrong both a ReInit and a branch are accepted", () => {
    for (const usage of ["reinit", "branch"] as const) {
      const { alice, bob, bobs, carols } = old(usage === "reinit");
      const welcome = continued(alice, { usage, others: [bobs, carols] });
      expect(outcome(joiningBob(bob, bobs, welcome))).toBe("accepted");
    }
  });

  ruleTest("welcome/subgroup-epoch", "a branch in another epoch than its first", (rule) => {
    const { alice, bob, bobs } = old(false);
    const welcome = continued(alice, { usage: "branch", others: [bobs], earlierCommits: 1 });
    mustRefuse(rule, joiningBob(bob, bobs, welcome), bob);
  });

  ruleTest("welcome/reinit-matches", "a ReInit to a group with other extensions", (rule) => {
    const { alice, bob, bobs, carols } = old(true);
    const none = { extensionTypes: [], proposalTypes: [], credentialTypes: [] };
    const extensions = [requiredCapabilitiesExtension(none)];
    const welcome = continued(alice, { usage: "reinit", others: [bobs, carols], extensions });
    mustRefuse(rule, joiningBob(bob, bobs, welcome), bob);
  });

  ruleTest("welcome/reinit-matches", "a ReInit to another version of MLS than the new group's", (rule) => {
    const { alice, bob, bobs, carols } = old(true, 2);
    const welcome = continued(alice, { usage: "reinit", others: [bobs, carols] });
    mustRefuse(rule, joiningBob(bob, bobs, welcome), bob);
  });

  ruleTest("welcome/reinit-members", "a ReInit that leaves a member out", (rule) => {
    const { alice, bob, bobs } = old(true);
    const welcome = continued(alice, { usage: "reinit", others: [bobs] });
    mustRefuse(rule, joiningBob(bob, bobs, welcome), bob);
  });

  ruleTest("welcome/branch-matches", "a branch with another cipher suite", (rule) => {
    const { alice, bob } = old(false);
    const other = nativeCrypto(3);
    const bundle = new Client("bob", other).keyPackage();
    const welcome = continued(alice, { crypto: other, usage: "branch", others: [bundle] });
    mustRefuse(rule, joiningBob(bob, bundle, welcome, other), bob);
  });

  ruleTest("welcome/branch-members", "a branch with one member of the old group in it twice", (rule) => {
    const { alice, bob, bobs } = old(false);
    const again = new Client("bob", crypto).keyPackage();
    const welcome = continued(alice, { usage: "branch", others: [bobs, again] });
    mustRefuse(rule, joiningBob(bob, bobs, welcome), bob);
  });

  test("members whose credentials changed are matched by the application's rules, and all with few questions", () => {
    const names = Array.from({ length: 40 }, (_, i) => `member ${i}`);
    let questions = 0;
    const nameOf = ({ credential }: LeafNode) =>
      credential.kind === "basic"
        ? Buffer.from(credential.identity)
            .toString()
            .replace(/, renewed$/, "")
        : "";
    const isSuccessor = (a: LeafNode, b: LeafNode) => ++questions > 0 && nameOf(a) === nameOf(b);
    const config = { policy: { ...openPolicy, isSuccessor } };
    const alice = new Client("alice", crypto, config);
    const members = names.map((name) => new Client(name, crypto, config));
    alice.create("friends");
    addAll(alice, members);
    // In the other order, and two of them renewed.
    const others = names.toReversed().map((name, i) => new Client(i < 2 ? `${name}, renewed` : name, crypto));
    const bundles = others.map((client) => client.keyPackage());
    const welcome = continued(alice, { usage: "branch", others: bundles });
    questions = 0;
    const continues = members.at(-1)!.group;
    joinGroup(crypto, { welcome, keyPackage: bundles[0]!, continues }, config);
    expect(questions).toBeLessThan(3 * names.length);
  });

  ruleTest("welcome/branch-members", "a branch with somebody who was not in the old group", (rule) => {
    const { alice, bob, bobs } = old(false);
    const stranger = new Client("mallory", crypto).keyPackage({
      keyPackageExtensions: [lastResortExtension()],
    });
    const welcome = continued(alice, { usage: "branch", others: [bobs, stranger] });
    mustRefuse(rule, joiningBob(bob, bobs, welcome), bob);
  });
});

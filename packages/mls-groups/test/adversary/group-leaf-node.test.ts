import { utf8 } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { capabilitiesFor, type GroupConfig, nativeCrypto } from "../../src/index.ts";
import type { RuleId } from "../../src/rules.ts";
import { extensionTypes, proposalTypes } from "../../src/structs/code-points.ts";
import { requiredCapabilitiesExtension } from "../../src/structs/extension.ts";
import type { KeyPackage, KeyPackageContent } from "../../src/structs/key-package.ts";
import type { LeafNodeContent } from "../../src/structs/leaf-node.ts";
import { addAll, Client } from "../clients.ts";
import { memoryOf, outcome } from "./careless.ts";
import { mustRefuse, mustRefuseMessage, ruleTest } from "./rule-test.ts";
import {
  commitWithout,
  damaged,
  editedCommit,
  frameProposal,
  keyPackageOf,
  ownLeaf,
  signedKeyPackage,
} from "./wrong-messages.ts";

const crypto = nativeCrypto(1);
const x509 = { kind: "x509", certificates: [utf8("certificate")] } as const;
const basic = capabilitiesFor(1, { kind: "basic", identity: utf8("anybody") });
const PRIVATE_TYPE = 0xff01;

/** Alice, Bob and Carol in one group; Mallory outside of it. */
function group(config: Partial<GroupConfig> = {}) {
  const [alice, carol, mallory] = ["alice", "carol", "mallory"].map((name) => new Client(name, crypto));
  const bob = new Client("bob", crypto, config);
  alice!.create("friends");
  addAll(alice!, [bob, carol!]);
  return { alice: alice!, bob, carol: carol!, mallory: mallory! };
}

/** Alice, who does not know the rule, adds this KeyPackage; Bob must refuse. */
function mustRefuseAdd(
  rule: RuleId,
  people: { alice: Client; bob: Client },
  keyPackage: KeyPackage,
  alsoOff: readonly RuleId[] = [],
): void {
  const proposals = [{ kind: "add", keyPackage } as const];
  mustRefuseMessage(rule, people.bob, commitWithout(people.alice, [rule, ...alsoOff], { proposals }));
}

/** The same for a KeyPackage of Mallory's with a changed leaf. */
function mustRefuseLeaf(rule: RuleId, leaf: Partial<LeafNodeContent>, alsoOff: readonly RuleId[] = []): void {
  const people = group();
  mustRefuseAdd(rule, people, keyPackageOf(people.mallory, leaf), alsoOff);
}

describe("a commit that adds a wrong leaf is refused", () => {
  test("the same Add with nothing wrong is accepted", () => {
    const { alice, bob, mallory } = group();
    const proposals = [{ kind: "add", keyPackage: keyPackageOf(mallory, {}) } as const];
    expect(bob.receive(commitWithout(alice, [], { proposals })).kind).toBe("commit");
  });

  ruleTest("leaf-node/signature", "a leaf whose signature is damaged", (rule) => {
    const people = group();
    const { keyPackage } = people.mallory.keyPackage();
    const leafNode = { ...keyPackage.leafNode, signature: damaged(keyPackage.leafNode.signature) };
    mustRefuseAdd(rule, people, signedKeyPackage(people.mallory, { ...keyPackage, leafNode }));
  });

  ruleTest("leaf-node/protocol-version-supported", "a leaf that supports another version only", (rule) =>
    mustRefuseLeaf(rule, { capabilities: { ...basic, versions: [2] } }),
  );

  ruleTest(
    "leaf-node/own-credential-type-listed",
    "a leaf that does not list its own credential type",
    (rule) =>
      mustRefuseLeaf(rule, { capabilities: { ...basic, credentials: [2] } }, [
        "leaf-node/credentials-in-use-supported",
      ]),
  );

  ruleTest("leaf-node/own-extensions-listed", "a leaf with an extension that it does not list", (rule) =>
    mustRefuseLeaf(rule, { extensions: [{ type: PRIVATE_TYPE, data: utf8("x") }] }),
  );

  ruleTest("leaf-node/extensions-distinct", "a leaf with two extensions of one type", (rule) => {
    const extension = { type: extensionTypes.application_id, data: Uint8Array.of(1, 7) };
    mustRefuseLeaf(rule, { extensions: [extension, extension] });
  });

  ruleTest("leaf-node/encryption-key-valid", "a leaf whose encryption key is one byte short", (rule) =>
    mustRefuseLeaf(rule, { encryptionKey: crypto.generateHpkeKeyPair().publicKey.subarray(1) }),
  );

  ruleTest(
    "leaf-node/credential-supported-by-members",
    "a leaf with a credential type that members lack",
    (rule) =>
      mustRefuseLeaf(rule, { credential: x509, capabilities: { ...basic, credentials: [1, 2] } }, [
        "leaf-node/credentials-in-use-supported",
      ]),
  );

  ruleTest("leaf-node/credentials-in-use-supported", "a leaf that lacks a credential type in use", (rule) => {
    const [alice, bob, mallory] = ["alice", "bob", "mallory"].map((name) => new Client(name, crypto));
    const both = { ...basic, credentials: [1, 2] };
    alice!.create("friends");
    const bundle = bob!.keyPackage({ capabilities: both });
    const { welcome } = alice!.commit({
      proposals: [{ kind: "add", keyPackage: bundle.keyPackage }],
      leafChange: { capabilities: both },
      groupInfo: { ratchetTree: true },
    });
    bob!.join(welcome!, bundle);
    const keyPackage = keyPackageOf(mallory!, {
      credential: x509,
      capabilities: { ...basic, credentials: [2] },
    });
    mustRefuseAdd(rule, { alice: alice!, bob: bob! }, keyPackage);
  });

  ruleTest("leaf-node/required-capabilities", "a leaf that lacks a required proposal type", (rule) => {
    const people = group();
    const required = requiredCapabilitiesExtension({
      extensionTypes: [],
      proposalTypes: [proposalTypes.self_remove],
      credentialTypes: [],
    });
    const { message } = people.alice.commit({
      proposals: [{ kind: "group_context_extensions", extensions: [required] }],
    });
    people.bob.receive(message);
    const capabilities = { ...basic, proposals: [] };
    mustRefuseAdd(rule, people, keyPackageOf(people.mallory, { capabilities }));
  });

  ruleTest("leaf-node/group-extensions-supported", "a GroupContext extension that members lack", (rule) => {
    const { alice, bob } = group();
    const extensions = [{ type: PRIVATE_TYPE, data: utf8("x") }];
    const proposals = [{ kind: "group_context_extensions", extensions } as const];
    mustRefuseMessage(rule, bob, commitWithout(alice, [rule], { proposals }));
  });

  ruleTest("leaf-node/encryption-key-unique", "a new leaf with the encryption key of a member", (rule) => {
    const people = group();
    const encryptionKey = people.alice.group.tree.encryptionKey(people.carol.group.ownLeaf * 2)!;
    mustRefuseAdd(rule, people, keyPackageOf(people.mallory, { encryptionKey }));
  });

  ruleTest("leaf-node/encryption-key-unique", "a new leaf with the encryption key of a parent", (rule) => {
    const people = group();
    people.bob.receive(people.alice.commit().message);
    const [parent] = people.alice.group.tree.filteredDirectPath(people.alice.group.ownLeaf);
    const encryptionKey = people.alice.group.tree.encryptionKey(parent!.node)!;
    mustRefuseAdd(rule, people, keyPackageOf(people.mallory, { encryptionKey }));
  });

  ruleTest("leaf-node/encryption-key-unique", "two new leaves with one encryption key", (rule) => {
    const people = group();
    const encryptionKey = crypto.generateHpkeKeyPair().publicKey;
    const proposals = [people.mallory, new Client("trudy", crypto)].map((client) => ({
      kind: "add" as const,
      keyPackage: keyPackageOf(client, { encryptionKey }),
    }));
    mustRefuseMessage(rule, people.bob, commitWithout(people.alice, [rule], { proposals }));
  });

  ruleTest("leaf-node/signature-key-unique", "a new leaf with the signature key of a member", (rule) => {
    const people = group();
    mustRefuseAdd(rule, people, people.carol.keyPackage().keyPackage);
  });

  ruleTest("leaf-node/credential-valid", "a credential that the application does not accept", (rule) => {
    const people = group({
      policy: {
        credentialIsValid: (credential) =>
          credential.kind === "basic" && Buffer.from(credential.identity).toString() !== "mallory",
        isSuccessor: () => true,
        isSameClient: () => false,
      },
    });
    mustRefuseAdd(rule, people, people.mallory.keyPackage().keyPackage);
  });
});

describe("a commit that covers a wrong Update or has a wrong leaf in its path is refused", () => {
  /** Carol proposes this leaf; Alice, who does not know the rule, commits it; Bob must refuse. */
  function mustRefuseUpdate(rule: RuleId, change: (carol: Client) => Partial<LeafNodeContent>): void {
    const { alice, bob, carol } = group();
    const leafNode = ownLeaf(carol, { source: { kind: "update" }, ...change(carol) });
    const proposal = frameProposal(carol, { kind: "update", leafNode });
    for (const client of [alice, bob]) client.receive(proposal);
    mustRefuseMessage(rule, bob, commitWithout(alice, [rule], {}));
  }

  ruleTest("leaf-node/source", "an Update whose leaf says that it comes from a commit", (rule) =>
    mustRefuseUpdate(rule, () => ({ source: { kind: "commit", parentHash: new Uint8Array(32) } })),
  );

  ruleTest("leaf-node/encryption-key-changed", "an Update that keeps the encryption key", (rule) =>
    mustRefuseUpdate(rule, (carol) => ({
      encryptionKey: carol.group.tree.encryptionKey(carol.group.ownLeaf * 2)!,
    })),
  );

  ruleTest("leaf-node/credential-successor", "an Update to the identity of somebody else", (rule) =>
    mustRefuseUpdate(rule, () => ({ credential: { kind: "basic", identity: utf8("bob") } })),
  );

  ruleTest("leaf-node/source", "a path whose leaf says that it is an Update", (rule) => {
    const { alice, bob } = group();
    const message = editedCommit(alice, {}, ({ proposals, path }) => ({
      proposals,
      path: { ...path!, leafNode: ownLeaf(alice, { source: { kind: "update" } }) },
    }));
    mustRefuseMessage(rule, bob, message);
  });

  ruleTest("leaf-node/signature", "a path whose leaf was signed for another group", (rule) => {
    const { alice, bob } = group();
    const message = editedCommit(alice, {}, ({ proposals, path }) => ({
      proposals,
      path: { ...path!, leafNode: { ...path!.leafNode, signature: damaged(path!.leafNode.signature) } },
    }));
    mustRefuseMessage(rule, bob, message);
  });
});

describe("a commit that adds a wrong KeyPackage is refused", () => {
  /** Alice replaces the KeyPackage of her commit by a wrong one of the same client. */
  function mustRefuseReplaced(
    rule: RuleId,
    wrong: (mallory: Client) => Partial<KeyPackageContent>,
    leaf: Partial<LeafNodeContent> = {},
  ): void {
    const { alice, bob, mallory } = group();
    const sender = { kind: "member", leafIndex: alice.group.ownLeaf } as const;
    const { keyPackage } = mallory.keyPackage();
    const message = editedCommit(
      alice,
      { proposals: [{ proposal: { kind: "add", keyPackage }, sender }] },
      (commit) => ({
        ...commit,
        proposals: [
          {
            kind: "proposal",
            proposal: { kind: "add", keyPackage: keyPackageOf(mallory, leaf, wrong(mallory)) },
          },
        ],
      }),
    );
    mustRefuseMessage(rule, bob, message);
  }

  ruleTest("key-package/cipher-suite", "a KeyPackage of another cipher suite", (rule) =>
    mustRefuseReplaced(rule, () => ({ cipherSuite: 3 })),
  );

  ruleTest("key-package/leaf-source", "a KeyPackage with the leaf of an Update", (rule) =>
    mustRefuseReplaced(rule, () => ({}), { source: { kind: "update" } }),
  );

  ruleTest("key-package/init-key-valid", "an init key that is one byte short", (rule) =>
    mustRefuseReplaced(rule, () => ({ initKey: crypto.generateHpkeKeyPair().publicKey.subarray(1) })),
  );

  ruleTest("key-package/init-key-differs", "an init key that is the encryption key too", (rule) => {
    const encryptionKey = crypto.generateHpkeKeyPair().publicKey;
    mustRefuseReplaced(rule, () => ({ initKey: encryptionKey }), { encryptionKey });
  });

  ruleTest("key-package/signature", "a KeyPackage whose signature is damaged", (rule) => {
    const people = group();
    const { keyPackage } = people.mallory.keyPackage();
    mustRefuseAdd(rule, people, { ...keyPackage, signature: damaged(keyPackage.signature) });
  });
});

describe("lifetimes", () => {
  const expired = {
    source: { kind: "key_package", lifetime: { notBefore: 1_000n, notAfter: 2_000n } },
  } as const;

  ruleTest("leaf-node/lifetime", "an Add that has expired is refused when it is created", (rule) => {
    const { alice, mallory } = group();
    const proposals = [{ kind: "add", keyPackage: keyPackageOf(mallory, expired) } as const];
    mustRefuse(rule, () => alice.group.createCommit({ proposals, nowSeconds: 2_001n }), alice);
  });

  test("both ends of a lifetime belong to it, and a proposal that expired in the cache is left out", () => {
    const { alice, bob, mallory } = group();
    const keyPackage = keyPackageOf(mallory, expired);
    const commit = (nowSeconds: bigint) =>
      outcome(() => {
        alice.group.createCommit({ proposals: [{ kind: "add", keyPackage }], nowSeconds });
        alice.group.discardPending();
      });
    expect([999n, 1_000n, 2_000n, 2_001n].map(commit)).toEqual([
      "mls/leaf-node/lifetime",
      "accepted",
      "accepted",
      "mls/leaf-node/lifetime",
    ]);
    alice.receive(frameProposal(bob, { kind: "add", keyPackage }));
    expect(alice.group.createCommit({ nowSeconds: 3_000n }).welcome).toBeUndefined();
    alice.group.discardPending();
    expect(alice.group.createCommit({ nowSeconds: 1_500n }).welcome).toBeDefined();
  });

  test("a member that receives a commit never looks at a lifetime: clocks do not decide what is valid", () => {
    const { alice, bob, mallory } = group();
    const proposals = [{ kind: "add", keyPackage: keyPackageOf(mallory, expired) } as const];
    const before = memoryOf(bob);
    expect(bob.group.receive(commitWithout(alice, [], { proposals })).kind).toBe("commit");
    expect(memoryOf(bob)).toBe(before);
  });
});

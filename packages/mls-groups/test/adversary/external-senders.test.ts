import { utf8 } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { equalCredentials } from "../../src/group/policy.ts";
import {
  type GroupPolicy,
  joinGroup,
  joinGroupExternally,
  nativeCrypto,
  openPolicy,
} from "../../src/index.ts";
import { PublicGroup } from "../../src/public-group/index.ts";
import { externalSendersExtension } from "../../src/structs/extension.ts";
import { addAll, Client } from "../clients.ts";
import { outcome } from "./careless.ts";
import { mustRefuse, mustRefuseMessage, ruleTest } from "./rule-test.ts";

const crypto = nativeCrypto(1);
const mallory = {
  credential: { kind: "basic", identity: utf8("mallory") },
  signatureKey: crypto.generateSignatureKeyPair().publicKey,
} as const;
const extensions = [externalSendersExtension([mallory])];
/** Trusts every member, and everybody outside but Mallory. */
const careful: GroupPolicy = {
  ...openPolicy,
  externalSenderIsValid: (credential) => !equalCredentials(credential, mallory.credential),
};

describe("who may propose from outside is somebody whom the Authentication Service knows", () => {
  ruleTest("external-senders/credential-valid", "an unknown sender that a commit lets in", (rule) => {
    const alice = new Client("alice", crypto);
    const bob = new Client("bob", crypto, { policy: careful });
    alice.create("friends");
    addAll(alice, [bob]);
    const groupInfo = alice.group.groupInfo({ ratchetTree: true });
    const follower = PublicGroup.follow(crypto, { groupInfo }, careful);
    const proposals = [{ kind: "group_context_extensions", extensions } as const];
    const { message } = alice.group.createCommit({ proposals });
    mustRefuseMessage(rule, bob, message);
    mustRefuse(rule, () => follower.receive(message));
    expect(outcome(() => bob.group.createCommit({ proposals }))).toBe(`mls/${rule}`);
  });

  ruleTest("external-senders/credential-valid", "a group to be joined that has an unknown sender", (rule) => {
    const alice = new Client("alice", crypto);
    alice.create("friends", extensions);
    const bundle = new Client("bob", crypto).keyPackage();
    const groupInfo = alice.group.groupInfo({ ratchetTree: true });
    const { identity } = new Client("carol", crypto);
    const add = { kind: "add", keyPackage: bundle.keyPackage } as const;
    const { welcome } = alice.commit({ proposals: [add], groupInfo: { ratchetTree: true } });
    const policy = careful;
    mustRefuse(rule, () => joinGroup(crypto, { welcome: welcome!, keyPackage: bundle }, { policy }));
    mustRefuse(rule, () => joinGroupExternally(crypto, { groupInfo, identity }, { policy }));
    mustRefuse(rule, () => PublicGroup.follow(crypto, { groupInfo }, policy));
  });

  test("without a word of its own the one on members counts", () => {
    const alice = new Client("alice", crypto);
    alice.create("friends", extensions);
    const groupInfo = alice.group.groupInfo({ ratchetTree: true });
    const credentialIsValid: GroupPolicy["credentialIsValid"] = (credential) =>
      !equalCredentials(credential, mallory.credential);
    const policy = { ...openPolicy, acceptsAnyCredential: false, credentialIsValid };
    expect(outcome(() => PublicGroup.follow(crypto, { groupInfo }, policy))).toBe(
      "mls/external-senders/credential-valid",
    );
  });
});

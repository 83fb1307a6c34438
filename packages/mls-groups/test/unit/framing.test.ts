import { MurmurationError, utf8 } from "@murmuration/base";
import { describe, expect, it } from "vitest";
import {
  confirmCommit,
  signCommit,
  signContent,
  UnverifiedContent,
  type VerifiedContent,
  verifyContent,
} from "../../src/framing/content.ts";
import { noPadding, padme, padToMultipleOf } from "../../src/framing/padding.ts";
import {
  openSenderData,
  protectPrivateMessage,
  unprotectPrivateMessage,
} from "../../src/framing/private-message.ts";
import {
  followPublicMessage,
  protectPublicMessage,
  unprotectPublicMessage,
} from "../../src/framing/public-message.ts";
import { disableRule, type RuleId } from "../../src/rules.ts";
import { guardNonce } from "../../src/schedule/sender-data.ts";
import {
  confirmedTranscriptHashInput,
  makeAuthenticatedContent,
} from "../../src/structs/authenticated-content.ts";
import type { FramedBody, Sender } from "../../src/structs/framed-content.ts";
import { decodeMlsMessage, encodeMlsMessage } from "../../src/structs/mls-message.ts";
import { type PrivateMessage, privateContentAad } from "../../src/structs/private-message.ts";
import type { PublicMessage } from "../../src/structs/public-message.ts";
import {
  alice,
  bob,
  bytes,
  content,
  context,
  crypto,
  emptyCommit,
  groupContext,
  keyPackage,
  member,
  updatePath,
} from "./samples.ts";

const remove: FramedBody = { contentType: "proposal", proposal: { kind: "remove", removed: 3 } };
const application: FramedBody = { contentType: "application", applicationData: utf8("hello") };
const commit: FramedBody = { contentType: "commit", commit: emptyCommit };
const add: FramedBody = {
  contentType: "proposal",
  proposal: { kind: "add", keyPackage: keyPackage(bob.publicKey) },
};

const external: Sender = { kind: "external", senderIndex: 0 };
const protection = { membershipKey: bytes(32, 20), groupContext: context };
const messageKey = { generation: 5, key: bytes(16, 21), nonce: bytes(12, 22) };
const senderDataSecret = bytes(32, 23);

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof MurmurationError) return error.code;
    throw error;
  }
  return "accepted";
}

/** The rule refuses with its code, and nothing else does: without the rule the same input is accepted. */
function expectRule(rule: RuleId, run: () => unknown): void {
  expect(codeOf(run)).toBe(`mls/${rule}`);
  const enable = disableRule(rule);
  try {
    expect(codeOf(run)).toBe("accepted");
  } finally {
    enable();
  }
}

function publicMessage(encoded: Uint8Array): PublicMessage {
  const message = decodeMlsMessage(encoded);
  if (message.wireFormat !== "mls_public_message") throw new Error("not a PublicMessage");
  return message.publicMessage;
}

function privateMessage(encoded: Uint8Array): PrivateMessage {
  const message = decodeMlsMessage(encoded);
  if (message.wireFormat !== "mls_private_message") throw new Error("not a PrivateMessage");
  return message.privateMessage;
}

/** A PublicMessage that no honest sender makes: no rule of sending applies, the tag is a placeholder. */
function forged(sender: Sender, body: FramedBody): PublicMessage {
  const auth = {
    signature: bytes(64, 30),
    confirmationTag: body.contentType === "commit" ? bytes(32, 31) : undefined,
  };
  const authenticated = makeAuthenticatedContent("mls_public_message", content(sender, body), auth);
  const membershipTag = sender.kind === "member" ? bytes(32, 32) : undefined;
  return publicMessage(
    encodeMlsMessage({ wireFormat: "mls_public_message", publicMessage: { authenticated, membershipTag } }),
  );
}

function signed(
  wireFormat: "mls_public_message" | "mls_private_message",
  sender: Sender,
  body: FramedBody,
): VerifiedContent {
  const request = {
    wireFormat,
    content: content(sender, body),
    signaturePrivateKey: alice.privateKey,
    groupContext: context,
  };
  if (body.contentType !== "commit") return signContent(crypto, request);
  return confirmCommit(signCommit(crypto, request), bytes(32, 33));
}

function sealed(body: FramedBody, padding = noPadding): PrivateMessage {
  const own = signed("mls_private_message", member, body);
  return privateMessage(protectPrivateMessage(crypto, own, { senderDataSecret, messageKey, padding }));
}

function opened(message: PrivateMessage): VerifiedContent {
  const senderData = openSenderData(crypto, message, senderDataSecret);
  const unverified = unprotectPrivateMessage(crypto, message, senderData, messageKey);
  return verifyContent(crypto, unverified, alice.publicKey, context);
}

describe("PublicMessage, RFC 9420 sections 6.1 and 6.2", () => {
  it.each([remove, commit])("a member's $contentType arrives as it was sent", (body) => {
    const own = signed("mls_public_message", member, body);
    const message = publicMessage(protectPublicMessage(crypto, own, protection));
    const unverified = unprotectPublicMessage(crypto, message, protection);
    const received = verifyContent(crypto, unverified, alice.publicKey, context);
    expect(received.content).toEqual(own.content);
    expect(received.bytes).toEqual(own.bytes);
    expect(received.contentEnd).toBe(own.contentEnd);
  });

  it("an UnverifiedContent shows its header and nothing of its body", () => {
    const own = signed("mls_public_message", member, remove);
    const message = publicMessage(protectPublicMessage(crypto, own, protection));
    const unverified = unprotectPublicMessage(crypto, message, protection);
    expect(unverified.groupId).toEqual(groupContext.groupId);
    expect(unverified.epoch).toBe(7n);
    expect(unverified.sender).toEqual(member);
    expect(unverified.contentType).toBe("proposal");
    expect(unverified.wireFormat).toBe("mls_public_message");
    expect(Object.keys(unverified)).toEqual(["membership"]);
  });

  it("the compiler keeps unverified and unchecked content out of a member's functions", () => {
    const own = signed("mls_public_message", member, remove);
    const followed = followPublicMessage(publicMessage(protectPublicMessage(crypto, own, protection)));
    const verifiedByFollower = verifyContent(crypto, followed, alice.publicKey, context);
    // @ts-expect-error a follower cannot check membership
    const asMember: VerifiedContent = verifiedByFollower;
    // @ts-expect-error a decoded AuthenticatedContent is not verified
    const unverified: VerifiedContent = makeAuthenticatedContent("mls_public_message", own.content, own.auth);
    expect(asMember.bytes).toEqual(unverified.bytes);
  });

  it("framing/membership-tag: a tag under another key, or over another signature, is refused", () => {
    const own = signed("mls_public_message", member, remove);
    const message = publicMessage(protectPublicMessage(crypto, own, protection));
    const other = { ...protection, membershipKey: bytes(32, 99) };
    expectRule("framing/membership-tag", () => unprotectPublicMessage(crypto, message, other));
    const auth = { ...own.auth, signature: bytes(64, 1) };
    const authenticated = makeAuthenticatedContent("mls_public_message", own.content, auth);
    expectRule("framing/membership-tag", () =>
      unprotectPublicMessage(crypto, { ...message, authenticated }, protection),
    );
  });

  it("framing/signature: another key or another group context is refused", () => {
    const own = signed("mls_public_message", member, remove);
    const unverified = new UnverifiedContent(own, "checked");
    expectRule("framing/signature", () => verifyContent(crypto, unverified, bob.publicKey, context));
    expectRule("framing/signature", () => verifyContent(crypto, unverified, alice.publicKey, bytes(9, 1)));
  });

  it("an external sender's signature does not cover the group context, a new member's commit does", () => {
    const proposal = signed("mls_public_message", external, remove);
    const message = publicMessage(protectPublicMessage(crypto, proposal, undefined));
    expect(message.membershipTag).toBeUndefined();
    const unverified = unprotectPublicMessage(crypto, message, protection);
    expect(verifyContent(crypto, unverified, alice.publicKey, bytes(9, 1)).content).toEqual(proposal.content);

    const withPath: FramedBody = { contentType: "commit", commit: { proposals: [], path: updatePath() } };
    const joining = signed("mls_public_message", { kind: "new_member_commit" }, withPath);
    const joiner = followPublicMessage(publicMessage(protectPublicMessage(crypto, joining, undefined)));
    expect(joiner.claimedSignatureKey()).toEqual(alice.publicKey);
    expect(verifyContent(crypto, joiner, alice.publicKey, context).bytes).toEqual(joining.bytes);
    expectRule("framing/signature", () => verifyContent(crypto, joiner, alice.publicKey, bytes(9, 1)));
  });

  it("a new member's Add proposal is verified with the key of its KeyPackage", () => {
    const unverified = followPublicMessage(forged({ kind: "new_member_proposal" }, add));
    expect(unverified.claimedSignatureKey()).toEqual(bob.publicKey);
    expect(followPublicMessage(forged(member, add)).claimedSignatureKey()).toBeUndefined();
  });

  it("framing/application-data-encrypted: application data as PublicMessage is refused (section 6)", () => {
    expectRule("framing/application-data-encrypted", () => followPublicMessage(forged(member, application)));
    expect(codeOf(() => signed("mls_public_message", member, application))).toBe(
      "mls/framing-sender-and-content",
    );
  });

  it("framing/external-sends-proposal: an external sender's commit is refused", () => {
    expectRule("framing/external-sends-proposal", () => followPublicMessage(forged(external, commit)));
  });

  it.each<FramedBody>([
    { contentType: "proposal", proposal: { kind: "external_init", kemOutput: bytes(32, 1) } },
    { contentType: "proposal", proposal: { kind: "self_remove" } },
    { contentType: "proposal", proposal: { kind: "unknown", type: 0xf001, content: bytes(1, 1) } },
    { contentType: "proposal", proposal: { kind: "update", leafNode: updatePath().leafNode } },
  ])("framing/external-proposal-type: an external sender may not send proposal number %#", (body) => {
    expectRule("framing/external-proposal-type", () => followPublicMessage(forged(external, body)));
    expect(codeOf(() => signed("mls_public_message", external, body))).toBe("mls/framing-sender-and-content");
  });

  it("framing/new-member-proposal-sends-add: a new member proposes nothing but its own Add", () => {
    const sender: Sender = { kind: "new_member_proposal" };
    for (const body of [remove, commit]) {
      expectRule("framing/new-member-proposal-sends-add", () => followPublicMessage(forged(sender, body)));
    }
  });

  it("framing/new-member-commit-sends-commit: new_member_commit carries a Commit", () => {
    const sender: Sender = { kind: "new_member_commit" };
    expectRule("framing/new-member-commit-sends-commit", () => followPublicMessage(forged(sender, remove)));
  });

  it("framing/new-member-commit-has-path: an external commit without a path has no key to verify", () => {
    const sender: Sender = { kind: "new_member_commit" };
    expectRule("framing/new-member-commit-has-path", () => followPublicMessage(forged(sender, commit)));
  });

  it("misuse is a UsageError: wrong wire format, missing membership key, unconfirmed commit", () => {
    const own = signed("mls_private_message", member, remove);
    expect(codeOf(() => protectPublicMessage(crypto, own, protection))).toBe("mls/framing-wire-format");
    const open = signed("mls_public_message", member, remove);
    expect(codeOf(() => protectPublicMessage(crypto, open, undefined))).toBe("mls/framing-membership-key");
    const request = {
      wireFormat: "mls_public_message" as const,
      content: content(member, commit),
      signaturePrivateKey: alice.privateKey,
      groupContext: context,
    };
    expect(codeOf(() => signContent(crypto, request))).toBe("mls/framing-commit-unconfirmed");
  });

  it("a Commit's transcript input is the same before and after its confirmation tag", () => {
    const request = {
      wireFormat: "mls_public_message" as const,
      content: content(member, commit),
      signaturePrivateKey: alice.privateKey,
      groupContext: context,
    };
    const unconfirmed = signCommit(crypto, request);
    const confirmed = confirmCommit(unconfirmed, bytes(32, 40));
    expect(confirmedTranscriptHashInput(confirmed)).toEqual(confirmedTranscriptHashInput(unconfirmed.signed));
  });
});

describe("PrivateMessage, RFC 9420 section 6.3", () => {
  it.each([remove, commit, application])("a member's $contentType arrives as it was sent", (body) => {
    for (const padding of [noPadding, padme, padToMultipleOf(256)]) {
      const received = opened(sealed(body, padding));
      const own = signed("mls_private_message", member, body);
      expect(received.content).toEqual(own.content);
      expect(received.bytes).toEqual(own.bytes);
    }
  });

  it("framing/padding-is-zero: one set bit in the padding is refused (section 6.3.1)", () => {
    const message = sealed(application);
    const senderData = openSenderData(crypto, message, senderDataSecret);
    const nonce = guardNonce(messageKey.nonce, senderData.reuseGuard);
    const aad = privateContentAad(message);
    const plaintext = crypto.open(messageKey.key, nonce, aad, message.ciphertext);
    const padded = new Uint8Array([...plaintext, 0, 0, 1, 0]);
    const ciphertext = crypto.seal(messageKey.key, nonce, aad, padded);
    expectRule("framing/padding-is-zero", () =>
      unprotectPrivateMessage(crypto, { ...message, ciphertext }, senderData, messageKey),
    );
  });

  it("content that was signed as PublicMessage does not verify as PrivateMessage", () => {
    const own = signed("mls_public_message", member, remove);
    const moved = makeAuthenticatedContent("mls_private_message", own.content, own.auth);
    expectRule("framing/signature", () =>
      verifyContent(crypto, new UnverifiedContent(moved, "checked"), alice.publicKey, context),
    );
  });

  it.each<[string, Partial<PrivateMessage>]>([
    ["group_id", { groupId: utf8("other") }],
    ["epoch", { epoch: 8n }],
    ["authenticated_data", { authenticatedData: utf8("other") }],
    ["content_type", { contentType: "commit" }],
  ])("a changed %s is refused: it is authenticated", (_, change) => {
    const message = sealed(application);
    const senderData = openSenderData(crypto, message, senderDataSecret);
    const changed = { ...message, ...change };
    const open = () => unprotectPrivateMessage(crypto, changed, senderData, messageKey);
    expect(codeOf(open)).toBe("mls/decryption-failed");
  });

  it("sender data is bound to group, epoch, content type and a sample of the ciphertext", () => {
    const message = sealed(application);
    const ciphertext = message.ciphertext.slice();
    ciphertext[0]! ^= 1;
    for (const change of [
      { groupId: utf8("x") },
      { epoch: 8n },
      { contentType: "commit" as const },
      { ciphertext },
    ]) {
      const open = () => openSenderData(crypto, { ...message, ...change }, senderDataSecret);
      expect(codeOf(open)).toBe("mls/decryption-failed");
    }
  });

  it("two messages under one generation differ in nonce by their reuse guards", () => {
    const [first, second] = [sealed(application), sealed(application)];
    const guards = [first, second].map(
      (message) => openSenderData(crypto, message!, senderDataSecret).reuseGuard,
    );
    expect(guards[0]).not.toEqual(guards[1]);
    expect(first!.ciphertext).not.toEqual(second!.ciphertext);
  });

  it("only a member sends a PrivateMessage, and with the generation that its sender data names", () => {
    expect(codeOf(() => signed("mls_private_message", external, remove))).toBe(
      "mls/framing-sender-and-content",
    );
    const message = sealed(application);
    const senderData = openSenderData(crypto, message, senderDataSecret);
    const other = { ...messageKey, generation: 6 };
    expect(codeOf(() => unprotectPrivateMessage(crypto, message, senderData, other))).toBe(
      "mls/framing-generation",
    );
  });
});

describe("padding policies", () => {
  it("pad to a multiple", () => {
    expect([0, 1, 255, 256, 257].map((n) => n + padToMultipleOf(256)(n))).toEqual([0, 256, 256, 256, 512]);
    expect(() => padToMultipleOf(0)).toThrow("mls/framing-padding");
  });

  it("padme adds at most 12 percent and leaves few distinct lengths", () => {
    const lengths = new Set<number>();
    for (let length = 1; length <= 20_000; length++) {
      const padded = length + padme(length);
      expect(padded).toBeGreaterThanOrEqual(length);
      expect(padded).toBeLessThanOrEqual(length * 1.12);
      lengths.add(padded);
    }
    expect(lengths.size).toBeLessThan(160);
  });

  it("a policy that returns no length is a UsageError", () => {
    expect(codeOf(() => sealed(application, () => -1))).toBe("mls/framing-padding");
    expect(codeOf(() => sealed(application, () => 0.5))).toBe("mls/framing-padding");
  });
});

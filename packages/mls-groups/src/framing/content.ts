import { type Bytes, InvariantError, UsageError, Writer } from "@murmuration/base";
import { signWithLabel, verifyWithLabel } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import { check } from "../rules.ts";
import {
  type AuthenticatedContent,
  type FramingWireFormat,
  framedContentTbs,
  makeAuthenticatedContent,
} from "../structs/authenticated-content.ts";
import type { ContentType, FramedContent, Sender } from "../structs/framed-content.ts";
import { checkSenderAndContent, senderMaySend } from "./sender-rules.ts";

/*
 * Content Authentication, RFC 9420 section 6.1.
 *
 * What arrives is an UnverifiedContent: only its header can be read. `verifyContent` checks the signature and
 * gives a VerifiedContent, and only that has a body. A member's own content is a VerifiedContent from the
 * start. The confirmation tag of a Commit can be checked only once the next epoch is derived, so the group
 * does that.
 */

/**
 * Whether membership was shown: by the membership tag, by having been encrypted under the group's secrets, or
 * not at all because the sender is outside ("checked"). A follower without secrets cannot tell ("unchecked").
 */
export type Membership = "checked" | "unchecked";

const verified: unique symbol = Symbol("verified");

/** An AuthenticatedContent whose signature is valid under the key that {@link verifyContent} was given. */
export interface VerifiedContent<M extends Membership = "checked"> extends AuthenticatedContent {
  readonly [verified]: M;
}

/** A Commit of our own that has its signature and waits for the confirmation tag (section 12.4.1). */
export interface UnconfirmedCommit {
  /** Without the tag, for `confirmedTranscriptHashInput`. */
  readonly signed: AuthenticatedContent;
}

/** Content that was received and decoded, and whose signature nobody checked yet. The body is out of reach. */
export class UnverifiedContent<M extends Membership = "checked"> {
  readonly #authenticated: AuthenticatedContent;
  readonly membership: M;

  /** Checks who may send what (sections 6, 6.1, 12.1.8). Throws RejectionError `mls/framing/...`. */
  constructor(authenticated: AuthenticatedContent, membership: M) {
    checkSenderAndContent(authenticated);
    this.#authenticated = authenticated;
    this.membership = membership;
  }

  get wireFormat(): FramingWireFormat {
    return this.#authenticated.wireFormat;
  }
  get groupId(): Uint8Array {
    return this.#authenticated.content.groupId;
  }
  get epoch(): bigint {
    return this.#authenticated.content.epoch;
  }
  get sender(): Sender {
    return this.#authenticated.content.sender;
  }
  get contentType(): ContentType {
    return this.#authenticated.content.contentType;
  }

  /**
   * The key that a sender outside the group claims to sign with (section 6.1): of the LeafNode in the Commit's
   * path for new_member_commit, of the KeyPackage in the Add for new_member_proposal. Undefined for the
   * others, whose keys the group knows. Only a key to verify this very content with.
   */
  claimedSignatureKey(): Uint8Array | undefined {
    const { content } = this.#authenticated;
    if (content.sender.kind === "new_member_commit" && content.contentType === "commit") {
      return content.commit.path?.leafNode.signatureKey;
    }
    if (content.sender.kind === "new_member_proposal" && content.contentType === "proposal") {
      const { proposal } = content;
      return proposal.kind === "add" ? proposal.keyPackage.leafNode.signatureKey : undefined;
    }
    return undefined;
  }

  /** See {@link verifyContent}. */
  verify(crypto: CryptoProvider, signatureKey: Uint8Array, groupContext: Uint8Array): VerifiedContent<M> {
    const authenticated = this.#authenticated;
    const head = authenticated.bytes.subarray(0, authenticated.contentEnd);
    const tbs = framedContentTbs(head, authenticated.content.sender, groupContext);
    const { signature } = authenticated.auth;
    check("framing/signature", verifyWithLabel(crypto, signatureKey, LABEL, tbs, signature));
    return { ...authenticated, [verified]: this.membership };
  }
}

const LABEL = "FramedContentTBS";

/**
 * Verifies the signature (section 6.1). The signature key is that of the
 * sender in the epoch of the message: leaf, external sender or {@link UnverifiedContent.claimedSignatureKey}.
 * `groupContext` is the encoded GroupContext of that epoch. Throws RejectionError `mls/framing/signature`.
 * One signature verification, O(length of the content).
 */
export function verifyContent<M extends Membership>(
  crypto: CryptoProvider,
  unverified: UnverifiedContent<M>,
  signatureKey: Uint8Array,
  groupContext: Uint8Array,
): VerifiedContent<M> {
  return unverified.verify(crypto, signatureKey, groupContext);
}

export interface SignContent {
  readonly wireFormat: FramingWireFormat;
  readonly content: FramedContent;
  readonly signaturePrivateKey: Uint8Array;
  /** The encoded GroupContext of the current epoch; not used for senders that do not sign it. */
  readonly groupContext: Uint8Array;
}

function sign(crypto: CryptoProvider, request: SignContent): AuthenticatedContent {
  const { wireFormat, content } = request;
  if (!senderMaySend(wireFormat, content)) throw new UsageError("mls/framing-sender-and-content");
  const unsigned = makeAuthenticatedContent(wireFormat, content, {
    signature: NONE,
    confirmationTag: undefined,
  });
  const { contentEnd } = unsigned;
  const head = unsigned.bytes.subarray(0, contentEnd);
  const tbs = framedContentTbs(head, content.sender, request.groupContext);
  const signature = signWithLabel(crypto, request.signaturePrivateKey, LABEL, tbs);
  const bytes = new Writer(head.length + signature.length + 4).fixed(head).bytes(signature).finish();
  return { wireFormat, content, auth: { signature, confirmationTag: undefined }, bytes, contentEnd };
}

const NONE: Bytes = new Uint8Array(0);

/** Signs application data or a proposal of our own. Throws UsageError when this sender may not send it. */
export function signContent(crypto: CryptoProvider, request: SignContent): VerifiedContent {
  if (request.content.contentType === "commit") throw new UsageError("mls/framing-commit-unconfirmed");
  return { ...sign(crypto, request), [verified]: "checked" };
}

/** Signs a Commit of our own. {@link confirmCommit} completes it once the new epoch is derived. */
export function signCommit(crypto: CryptoProvider, request: SignContent): UnconfirmedCommit {
  if (request.content.contentType !== "commit") throw new UsageError("mls/framing-not-a-commit");
  return { signed: sign(crypto, request) };
}

/** Adds the confirmation tag (section 6.1) to a Commit of our own. */
export function confirmCommit(commit: UnconfirmedCommit, confirmationTag: Uint8Array): VerifiedContent {
  const { signed } = commit;
  if (signed.auth.confirmationTag !== undefined) throw new InvariantError("mls/framing-confirmed-twice");
  const writer = new Writer(signed.bytes.length + confirmationTag.length + 4);
  const bytes = writer.fixed(signed.bytes).bytes(confirmationTag).finish();
  return { ...signed, auth: { ...signed.auth, confirmationTag }, bytes, [verified]: "checked" };
}

import { type Bytes, equalBytes, RejectionError, toHex } from "@murmuration/base";
import { type UnverifiedContent, type VerifiedContent, verifyContent } from "../framing/content.ts";
import { unprotectPublicMessage } from "../framing/public-message.ts";
import { check } from "../rules.ts";
import type { SecretTreeWrites } from "../schedule/secret-tree.ts";
import type { AuthenticatedContent } from "../structs/authenticated-content.ts";
import type { Commit } from "../structs/commit.ts";
import { externalSenders } from "../structs/extension.ts";
import type { Sender } from "../structs/framed-content.ts";
import { decodeMlsMessage } from "../structs/mls-message.ts";
import type { PrivateMessage } from "../structs/private-message.ts";
import type { Proposal } from "../structs/proposal.ts";
import type { PublicMessage } from "../structs/public-message.ts";
import type { LeafIndex } from "../tree/math.ts";
import { encodeProposalRow, rowKeys } from "./group-rows.ts";
import {
  currentReceiveEpoch,
  type Internals,
  pskSourceOf,
  putSecretTreeWrites,
  retainedReceiveEpoch,
} from "./internals.ts";
import type { MemberState } from "./member-state.ts";
import { type OpenedPrivateMessage, openPrivateMessage } from "./messages.ts";
import type { PublicEpoch } from "./public-epoch.ts";
import { receiveCommit, type StagedCommit } from "./receive-commit.ts";
import { WriteSet } from "./store.ts";

/** What a received message turned out to be. Whatever has `writes` is stored before anything else happens. */
export type Received =
  | {
      readonly kind: "application";
      readonly sender: LeafIndex;
      readonly epoch: bigint;
      readonly applicationData: Uint8Array;
      readonly authenticatedData: Uint8Array;
      readonly writes: WriteSet;
    }
  | {
      readonly kind: "proposal";
      readonly proposal: Proposal;
      readonly sender: Sender;
      readonly reference: Bytes;
      readonly writes: WriteSet;
    }
  /** Passed every check and changed nothing yet: inspect it, then merge or discard it. */
  | { readonly kind: "commit"; readonly commit: ReceivedCommit }
  /** Our own pending commit came back: the DS accepted it. Merge it with `mergePending`. */
  | { readonly kind: "own-commit" };

export interface ReceivedCommit {
  readonly staged: StagedCommit;
  /** The state that it was validated against: it leads on from that one and from no other. */
  readonly from: MemberState;
  /** Deletes the key of a commit that came as a PrivateMessage; called when it is merged. */
  readonly consume: () => SecretTreeWrites | undefined;
}

export interface ReceiveOptions {
  /**
   * Place of the message in the group log. A message of a past epoch that stands behind the commit which removed
   * its sender is refused: it was sent by somebody who had left.
   */
  readonly sequence?: bigint | undefined;
  /**
   * When the delivery service says that it took a commit, milliseconds since 1970, for a policy that asks for it. Left
   * out, nothing is refused for having come too late.
   */
  readonly acceptedAtMs?: number | undefined;
}

/**
 * Receives an MLSMessage of this group: application data of the current or a retained epoch, a proposal or a
 * commit of the current one. A refusal leaves the group as it was, to the byte. Nothing that is kept or returned is
 * a view of `message`. Application data: O(1), O(log N) for a leaf's first message in an epoch; commits:
 * O(log N + proposals). Throws RejectionError.
 */
export function receive(group: Internals, message: Uint8Array, options: ReceiveOptions): Received {
  if (group.pending !== undefined && equalBytes(message, group.pending.message))
    return { kind: "own-commit" };
  // A copy: what is staged or cached outlives the caller's receive buffer.
  const decoded = decodeMlsMessage(message.slice());
  if (decoded.wireFormat === "mls_public_message")
    return receivePublic(group, decoded.publicMessage, options);
  if (decoded.wireFormat === "mls_private_message")
    return receivePrivate(group, decoded.privateMessage, options);
  throw new RejectionError("mls/message/wire-format");
}

function receivePublic(group: Internals, message: PublicMessage, options: ReceiveOptions): Received {
  const { context, contextBytes } = group.state.public;
  const { groupId, epoch } = message.authenticated.content;
  check("message/group", equalBytes(groupId, context.groupId));
  check("message/epoch", epoch === context.epoch);
  requireNotReinitialized(group);
  const { membershipKey } = group.state.secrets;
  const unverified = unprotectPublicMessage(group.crypto, message, {
    membershipKey,
    groupContext: contextBytes,
  });
  const content = verifySender(group.state.public, unverified);
  return handshake(group, content, undefined, options);
}

/** The signature key of each kind of sender (6.1), and the signature. One verification. */
export function verifySender<M extends "checked" | "unchecked">(
  epoch: PublicEpoch,
  unverified: UnverifiedContent<M>,
): VerifiedContent<M> {
  const { sender } = unverified;
  let key: Uint8Array | undefined;
  if (sender.kind === "member") {
    key = sender.leafIndex < epoch.tree.leafSlots ? epoch.tree.signatureKey(sender.leafIndex) : undefined;
    check("framing/sender-is-member", key !== undefined);
  } else if (sender.kind === "external") {
    key = externalSenders(epoch.context.extensions)[sender.senderIndex]?.signatureKey;
    check("proposal/external-sender-known", key !== undefined);
  } else key = unverified.claimedSignatureKey();
  if (key === undefined) throw new RejectionError("mls/framing/sender-without-key");
  return verifyContent(epoch.crypto, unverified, key, epoch.contextBytes);
}

function receivePrivate(group: Internals, message: PrivateMessage, options: ReceiveOptions): Received {
  const { context } = group.state.public;
  check("message/group", equalBytes(message.groupId, context.groupId));
  if (message.epoch === context.epoch) return receiveCurrent(group, message, options);
  const retained = group.retained.get(message.epoch);
  check("message/epoch", retained !== undefined && message.contentType === "application");
  if (retained === undefined) throw new RejectionError("mls/message/epoch");
  const opened = openPrivateMessage(retainedReceiveEpoch(group, retained), message);
  releaseIfRefused(opened, () => requireNotRemovedBefore(group, retained.epoch, opened.sender, options));
  return application(opened.content, opened.sender, message.epoch, opened.consume());
}

function receiveCurrent(group: Internals, message: PrivateMessage, options: ReceiveOptions): Received {
  if (message.contentType !== "application") requireNotReinitialized(group);
  const opened = openPrivateMessage(currentReceiveEpoch(group), message);
  if (message.contentType === "application") {
    return application(opened.content, opened.sender, message.epoch, opened.consume());
  }
  return releaseIfRefused(opened, () => handshake(group, opened.content, opened, options));
}

/** A message that was decrypted and is refused after all leaves no key behind. */
function releaseIfRefused<T>(opened: OpenedPrivateMessage, action: () => T): T {
  try {
    return action();
  } catch (error) {
    opened.release();
    throw error;
  }
}

/** Section 12.4.2: behind a ReInit nothing changes the group any more, or it would go on for some of its members. */
function requireNotReinitialized(group: Internals): void {
  check("message/group-not-reinitialized", group.status !== "suspended");
}

function requireNotRemovedBefore(
  group: Internals,
  epoch: bigint,
  sender: LeafIndex,
  { sequence }: ReceiveOptions,
): void {
  if (sequence === undefined) return;
  for (const later of group.retained.values()) {
    if (later.epoch < epoch || !later.removed.includes(sender)) continue;
    const after = later.endedAtSequence !== undefined && sequence > later.endedAtSequence;
    check("message/sender-not-removed-before", !after);
    return;
  }
}

function application(
  content: VerifiedContent,
  sender: LeafIndex,
  epoch: bigint,
  changed: SecretTreeWrites,
): Received {
  const body = content.content;
  if (body.contentType !== "application") throw new RejectionError("mls/message/content-type");
  return {
    kind: "application",
    sender,
    epoch,
    applicationData: body.applicationData,
    authenticatedData: body.authenticatedData,
    writes: putSecretTreeWrites(new WriteSet(), epoch, changed),
  };
}

type CommitContent = AuthenticatedContent & {
  readonly content: { readonly contentType: "commit"; readonly commit: Commit };
};

function isCommit(content: AuthenticatedContent): content is CommitContent {
  return content.content.contentType === "commit";
}

/** `opened` is undefined for a PublicMessage, which used no key. */
function handshake(
  group: Internals,
  content: VerifiedContent,
  opened: OpenedPrivateMessage | undefined,
  { acceptedAtMs }: ReceiveOptions,
): Received {
  const { epoch } = group.state.public.context;
  if (isCommit(content)) {
    const { sender } = content.content;
    if (sender.kind === "member" && sender.leafIndex === group.state.ownLeaf) {
      throw new RejectionError("mls/message/own");
    }
    const staged = receiveCommit(group.state, content, {
      resolve: (reference) => group.proposals.get(reference),
      policy: group.config.policy,
      psks: pskSourceOf(group),
      ratchetLimits: group.config.ratchetLimits,
      ownUpdate: (reference) => group.ownUpdates.get(toHex(reference)),
      acceptedAtMs,
    });
    const consume = opened?.release() ?? (() => undefined);
    return { kind: "commit", commit: { staged, from: group.state, consume } };
  }
  const cached = group.proposals.receive(group.crypto, content);
  const writes = putSecretTreeWrites(new WriteSet(), epoch, opened?.consume());
  writes.put(rowKeys.proposal(toHex(cached.reference)), encodeProposalRow(cached));
  const { proposal, sender, reference } = cached;
  return { kind: "proposal", proposal, sender, reference, writes };
}

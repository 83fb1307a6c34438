import { type Bytes, RejectionError } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { signContent, type VerifiedContent, verifyContent } from "../framing/content.ts";
import type { PaddingPolicy } from "../framing/padding.ts";
import {
  openSenderData,
  protectPrivateMessage,
  unprotectPrivateMessage,
} from "../framing/private-message.ts";
import { protectPublicMessage } from "../framing/public-message.ts";
import { check } from "../rules.ts";
import type { RatchetType, SecretTree, SecretTreeWrites } from "../schedule/secret-tree.ts";
import type { FramingWireFormat } from "../structs/authenticated-content.ts";
import type { ContentType, FramedBody } from "../structs/framed-content.ts";
import type { PrivateMessage } from "../structs/private-message.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { MemberState } from "./member-state.ts";

/** What it takes to open a PrivateMessage of some epoch, current or past. */
export interface ReceiveEpoch {
  readonly crypto: CryptoProvider;
  readonly contextBytes: Uint8Array;
  readonly senderDataSecret: Uint8Array;
  readonly secretTree: SecretTree;
  readonly ownLeaf: LeafIndex;
  /** Signature key of the member at this leaf in that epoch; undefined when the leaf was blank. */
  signatureKey(leaf: LeafIndex): Uint8Array | undefined;
}

export interface OpenedPrivateMessage {
  readonly content: VerifiedContent;
  readonly sender: LeafIndex;
  /**
   * Consumes the message key, which until now could open the same message again, and returns the rows to write.
   * Call it when the message is accepted, once.
   */
  readonly consume: () => SecretTreeWrites;
  /** Lets go of the key for now, for a commit that is merged or discarded later; returns what consumes it then. */
  readonly release: () => () => SecretTreeWrites;
}

function ratchetFor(contentType: ContentType): RatchetType {
  return contentType === "application" ? "application" : "handshake";
}

/**
 * Decrypts a PrivateMessage and verifies its signature (6.3, 6.1). A failure changes nothing. O(1), or O(log N)
 * for a leaf's first message in the epoch. Throws RejectionError.
 *
 * Also for our own leaf, which any member can name as the sender: `mls/message/own` says that we signed this with a key
 * that our ratchet has not come to yet, so that the group is an old copy of itself. An echo is `mls/generation-spent`.
 */
export function openPrivateMessage(epoch: ReceiveEpoch, message: PrivateMessage): OpenedPrivateMessage {
  const { crypto } = epoch;
  const senderData = openSenderData(crypto, message, epoch.senderDataSecret);
  const sender = senderData.leafIndex;
  const signatureKey = epoch.signatureKey(sender);
  check("framing/sender-is-member", signatureKey !== undefined);
  if (signatureKey === undefined) throw new RejectionError("mls/framing/sender-is-member");
  const type = ratchetFor(message.contentType);
  const staged = epoch.secretTree.stageReceive(sender, type, senderData.generation);
  try {
    const unverified = unprotectPrivateMessage(crypto, message, senderData, staged);
    const content = verifyContent(crypto, unverified, signatureKey, epoch.contextBytes);
    if (sender === epoch.ownLeaf) throw new RejectionError("mls/message/own");
    return {
      content,
      sender,
      consume: () => staged.merge(),
      release: () => {
        staged.discard();
        return () => consumeLater(epoch.secretTree, sender, type, senderData.generation);
      },
    };
  } catch (error) {
    staged.discard();
    throw error;
  }
}

/** Deletes the key of a message that was opened before. It may be gone: skipped keys make room for later ones. */
function consumeLater(
  secretTree: SecretTree,
  sender: LeafIndex,
  type: RatchetType,
  generation: number,
): SecretTreeWrites {
  try {
    return secretTree.stageReceive(sender, type, generation).merge();
  } catch (error) {
    if (error instanceof RejectionError) return { puts: new Map(), deletes: [] };
    throw error;
  }
}

export interface ProtectedMessage {
  readonly message: Bytes;
  /** Undefined for a PublicMessage: no key was used. */
  readonly writes: SecretTreeWrites | undefined;
}

/** Signs application data or a proposal of our own (6.1). One signature. */
export function signOwn(
  state: MemberState,
  wireFormat: FramingWireFormat,
  authenticatedData: Uint8Array,
  body: Exclude<FramedBody, { readonly contentType: "commit" }>,
): VerifiedContent {
  const { crypto, context, contextBytes } = state.public;
  return signContent(crypto, {
    wireFormat,
    content: {
      groupId: context.groupId,
      epoch: context.epoch,
      sender: { kind: "member", leafIndex: state.ownLeaf },
      authenticatedData,
      ...body,
    },
    signaturePrivateKey: state.signaturePrivateKey,
    groupContext: contextBytes,
  });
}

/** Frames signed content of our own (6.2, 6.3). For a PrivateMessage this uses a key up: write before sending. O(1). */
export function protectOwn(
  state: MemberState,
  content: VerifiedContent,
  padding: PaddingPolicy,
): ProtectedMessage {
  const { crypto, contextBytes } = state.public;
  const { membershipKey, senderDataSecret } = state.secrets;
  if (content.wireFormat === "mls_public_message") {
    const message = protectPublicMessage(crypto, content, { membershipKey, groupContext: contextBytes });
    return { message, writes: undefined };
  }
  const messageKey = state.secretTree.stageSend(state.ownLeaf, ratchetFor(content.content.contentType));
  const message = protectPrivateMessage(crypto, content, { senderDataSecret, messageKey, padding });
  return { message, writes: messageKey.merge() };
}

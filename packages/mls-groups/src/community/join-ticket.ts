import {
  type Bytes,
  encode,
  ID_BYTES,
  type Reader,
  refuseUnless,
  UsageError,
  type Writer,
} from "@murmuration/base";
import { signWithLabel, verifyWithLabel } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import { type Extension, findExtension } from "../structs/extension.ts";
import type { LeafIndex } from "../tree/math.ts";
import { type InviteLink, JOIN_TICKET_EXTENSION, LINK_ID_BYTES } from "./community-context.ts";
import { decodeForm, readFixed, requireLength } from "./form.ts";

/** What a link key signs LinkTBS under. */
export const LINK_LABEL = "Murmuration Link";
/** What an admin's leaf signs LinkTBS under. */
export const APPROVAL_LABEL = "Murmuration Approval";

const LINK_SIGNATURE_BYTES = 64;
const LINK_SEED_BYTES = 32;
/** More than a signature of any cipher suite. */
const MAX_APPROVAL_BYTES = 256;
const MALFORMED = "community/join-ticket-malformed";

/** An admin's word for one joiner. */
export interface JoinApproval {
  /** Leaf index of that admin. */
  readonly approver: LeafIndex;
  readonly signature: Bytes;
}

/**
 * What a leaf that joins by a link carries (docs/communities.md, Joining by link).
 *
 *   struct {
 *     opaque link_id[16];
 *     opaque link_signature[64];
 *     opaque approval<V>;
 *     uint32 approver;
 *   } JoinTicket;
 */
export interface JoinTicket {
  readonly linkId: Bytes;
  readonly linkSignature: Bytes;
  readonly approval: JoinApproval | undefined;
}

/** What the link key and the approving admin sign: this link is used by this key in this group. */
export interface LinkUse {
  readonly groupId: Uint8Array;
  readonly linkId: Uint8Array;
  /** Of the joining leaf. */
  readonly signatureKey: Uint8Array;
}

/**
 *   struct {
 *     opaque group_id<V>;
 *     opaque link_id[16];
 *     opaque signature_key<V>;
 *   } LinkTBS;
 */
export function encodeLinkTbs(use: LinkUse): Bytes {
  requireLength(use.linkId, LINK_ID_BYTES, "community/link-id");
  return encode(use, (writer) => writer.bytes(use.groupId).fixed(use.linkId).bytes(use.signatureKey));
}

function readJoinTicket(reader: Reader): JoinTicket {
  const linkId = readFixed(reader, ID_BYTES);
  const linkSignature = readFixed(reader, LINK_SIGNATURE_BYTES);
  const signature = new Uint8Array(reader.bytes());
  const approver = reader.uint32();
  refuseUnless(signature.length <= MAX_APPROVAL_BYTES, MALFORMED);
  refuseUnless(signature.length > 0 || approver === 0, MALFORMED);
  return { linkId, linkSignature, approval: signature.length === 0 ? undefined : { approver, signature } };
}

function writeJoinTicket(writer: Writer, { linkId, linkSignature, approval }: JoinTicket): void {
  requireLength(linkId, LINK_ID_BYTES, "community/link-id");
  requireLength(linkSignature, LINK_SIGNATURE_BYTES, "community/link-signature-length");
  writer.fixed(linkId).fixed(linkSignature);
  writer.bytes(approval?.signature ?? new Uint8Array(0)).uint32(approval?.approver ?? 0);
}

/** The extension that the joining leaf carries. O(1). */
export function encodeJoinTicket(ticket: JoinTicket): Extension {
  return { type: JOIN_TICKET_EXTENSION, data: encode(ticket, writeJoinTicket) };
}

/** The content of the extension. O(1). Throws RejectionError `community/join-ticket-malformed`. */
export function decodeJoinTicket(data: Uint8Array): JoinTicket {
  return decodeForm(data, MALFORMED, readJoinTicket);
}

/** The ticket among the extensions of a leaf, undefined without one. Throws RejectionError `community/join-ticket-malformed`. */
export function joinTicketOf(extensions: readonly Extension[]): JoinTicket | undefined {
  const data = findExtension(extensions, JOIN_TICKET_EXTENSION);
  return data === undefined ? undefined : decodeJoinTicket(data);
}

export interface CreateJoinTicket extends LinkUse {
  /** Ed25519 seed of the link, 32 bytes: out of the URL. */
  readonly linkSeed: Uint8Array;
  /** Where the link asks for it. */
  readonly approval?: JoinApproval | undefined;
}

/**
 * Signs a ticket with the key of a link. `crypto` is of a suite with Ed25519, as communities have. One signature.
 * Throws UsageError.
 */
export function createJoinTicket(crypto: CryptoProvider, request: CreateJoinTicket): JoinTicket {
  if (!signsWithEd25519(crypto)) throw new UsageError("community/link-needs-ed25519");
  requireLength(request.linkSeed, LINK_SEED_BYTES, "community/link-seed");
  return {
    linkId: new Uint8Array(request.linkId),
    linkSignature: signWithLabel(crypto, request.linkSeed, LINK_LABEL, encodeLinkTbs(request)),
    approval: request.approval,
  };
}

/** Who can approve: a group of which this client is a member. */
export interface Approver {
  readonly groupId: Uint8Array;
  readonly ownLeaf: LeafIndex;
  signForService(label: string, content: Uint8Array): Bytes;
}

/** An admin's word for a joiner who asked for it, by the leaf of `group`. One signature. */
export function approveJoin(
  group: Approver,
  joiner: { readonly linkId: Uint8Array; readonly signatureKey: Uint8Array },
): JoinApproval {
  const tbs = encodeLinkTbs({ groupId: group.groupId, ...joiner });
  return { approver: group.ownLeaf, signature: group.signForService(APPROVAL_LABEL, tbs) };
}

/** Whether the key of this link signed the ticket for this use. One signature verification. */
export function verifyLinkSignature(
  crypto: CryptoProvider,
  link: InviteLink,
  use: LinkUse,
  signature: Uint8Array,
): boolean {
  return (
    signsWithEd25519(crypto) &&
    verifyWithLabel(crypto, link.publicKey, LINK_LABEL, encodeLinkTbs(use), signature)
  );
}

/** Whether the leaf with this signature key approved this use. One signature verification. */
export function verifyApproval(
  crypto: CryptoProvider,
  approverKey: Uint8Array,
  use: LinkUse,
  signature: Uint8Array,
): boolean {
  return verifyWithLabel(crypto, approverKey, APPROVAL_LABEL, encodeLinkTbs(use), signature);
}

function signsWithEd25519(crypto: CryptoProvider): boolean {
  return crypto.suite.signature === "ed25519";
}

import { type Reader, RejectionError, type Writer } from "@murmuration/base";
import { type Commit, readCommit, writeCommit } from "./commit.ts";
import { type DecodeLimits, defaultLimits } from "./limits.ts";
import { type Proposal, readProposal, writeProposal } from "./proposal.ts";

/** RFC 9420 section 6: `enum { reserved(0), application(1), proposal(2), commit(3), (255) } ContentType`. */
export type ContentType = "application" | "proposal" | "commit";

const contentTypes = ["application", "proposal", "commit"] as const;

/** Throws RejectionError `mls/decode-unknown-content-type`. */
export function readContentType(reader: Reader): ContentType {
  const type = contentTypes[reader.uint8() - 1];
  if (type === undefined) throw new RejectionError("mls/decode-unknown-content-type");
  return type;
}

export function writeContentType(writer: Writer, type: ContentType): void {
  writer.uint8(contentTypes.indexOf(type) + 1);
}

/**
 * RFC 9420 section 6.
 *
 *   enum {
 *     reserved(0), member(1), external(2), new_member_proposal(3), new_member_commit(4), (255)
 *   } SenderType;
 *   struct {
 *     SenderType sender_type;
 *     select (sender_type) {
 *       case member:   uint32 leaf_index;
 *       case external: uint32 sender_index;
 *       case new_member_commit, new_member_proposal: struct{};
 *     };
 *   } Sender;
 */
export type Sender =
  | { readonly kind: "member"; readonly leafIndex: number }
  | { readonly kind: "external"; readonly senderIndex: number }
  | { readonly kind: "new_member_proposal" }
  | { readonly kind: "new_member_commit" };

const senderCodes = { member: 1, external: 2, new_member_proposal: 3, new_member_commit: 4 } as const;

function readSender(reader: Reader): Sender {
  switch (reader.uint8()) {
    case senderCodes.member:
      return { kind: "member", leafIndex: reader.uint32() };
    case senderCodes.external:
      return { kind: "external", senderIndex: reader.uint32() };
    case senderCodes.new_member_proposal:
      return { kind: "new_member_proposal" };
    case senderCodes.new_member_commit:
      return { kind: "new_member_commit" };
    default:
      throw new RejectionError("mls/decode-unknown-sender-type");
  }
}

function writeSender(writer: Writer, sender: Sender): void {
  writer.uint8(senderCodes[sender.kind]);
  if (sender.kind === "member") writer.uint32(sender.leafIndex);
  else if (sender.kind === "external") writer.uint32(sender.senderIndex);
}

/** The part of a FramedContent that depends on its content_type. */
export type FramedBody =
  | { readonly contentType: "application"; readonly applicationData: Uint8Array }
  | { readonly contentType: "proposal"; readonly proposal: Proposal }
  | { readonly contentType: "commit"; readonly commit: Commit };

/** The fields of a FramedContent above its content_type. */
export interface FramedHeader {
  readonly groupId: Uint8Array;
  readonly epoch: bigint;
  readonly sender: Sender;
  readonly authenticatedData: Uint8Array;
}

/**
 * RFC 9420 section 6.
 *
 *   struct {
 *     opaque group_id<V>;
 *     uint64 epoch;
 *     Sender sender;
 *     opaque authenticated_data<V>;
 *     ContentType content_type;
 *     select (content_type) {
 *       case application: opaque application_data<V>;
 *       case proposal:    Proposal proposal;
 *       case commit:      Commit commit;
 *     };
 *   } FramedContent;
 */
export type FramedContent = FramedHeader & FramedBody;

/** Reads what follows a content_type: in a FramedContent and in a PrivateMessageContent (6.3.1). */
export function readFramedBody(
  reader: Reader,
  contentType: ContentType,
  limits: DecodeLimits = defaultLimits,
): FramedBody {
  if (contentType === "application") return { contentType, applicationData: reader.bytes() };
  if (contentType === "proposal") return { contentType, proposal: readProposal(reader) };
  return { contentType, commit: readCommit(reader, limits) };
}

export function writeFramedBody(writer: Writer, body: FramedBody): void {
  if (body.contentType === "application") writer.bytes(body.applicationData);
  else if (body.contentType === "proposal") writeProposal(writer, body.proposal);
  else writeCommit(writer, body.commit);
}

export function readFramedContent(reader: Reader, limits: DecodeLimits = defaultLimits): FramedContent {
  const header: FramedHeader = {
    groupId: reader.bytes(),
    epoch: reader.uint64(),
    sender: readSender(reader),
    authenticatedData: reader.bytes(),
  };
  return { ...header, ...readFramedBody(reader, readContentType(reader), limits) };
}

/** Everything of a FramedContent up to and with its content_type. */
export function writeFramedHeader(writer: Writer, header: FramedHeader, contentType: ContentType): void {
  writer.bytes(header.groupId).uint64(header.epoch);
  writeSender(writer, header.sender);
  writer.bytes(header.authenticatedData);
  writeContentType(writer, contentType);
}

export function writeFramedContent(writer: Writer, content: FramedContent): void {
  writeFramedHeader(writer, content, content.contentType);
  writeFramedBody(writer, content);
}

/**
 * RFC 9420 section 6.1. A Commit, and nothing else, has a confirmation_tag.
 *
 *   struct {
 *     opaque signature<V>;      // SignWithLabel(., "FramedContentTBS", FramedContentTBS)
 *     select (content_type) {
 *       case commit: MAC confirmation_tag;
 *       case application, proposal: struct{};
 *     };
 *   } FramedContentAuthData;
 */
export interface FramedContentAuthData {
  readonly signature: Uint8Array;
  readonly confirmationTag: Uint8Array | undefined;
}

export function readAuthData(reader: Reader, contentType: ContentType): FramedContentAuthData {
  const signature = reader.bytes();
  return { signature, confirmationTag: contentType === "commit" ? reader.bytes() : undefined };
}

export function writeAuthData(writer: Writer, auth: FramedContentAuthData): void {
  writer.bytes(auth.signature);
  if (auth.confirmationTag !== undefined) writer.bytes(auth.confirmationTag);
}

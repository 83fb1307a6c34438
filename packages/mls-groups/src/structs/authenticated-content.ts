import { type Bytes, Reader, RejectionError, varintSize, type Writer } from "@murmuration/base";
import { MLS10, wireFormats } from "./code-points.ts";
import { encodeParts } from "./encoded.ts";
import {
  type FramedContent,
  type FramedContentAuthData,
  readAuthData,
  readFramedContent,
  type Sender,
  writeAuthData,
  writeFramedContent,
} from "./framed-content.ts";
import { type DecodeLimits, defaultLimits } from "./limits.ts";

/** The two wire formats that carry a FramedContent (RFC 9420 section 6). */
export type FramingWireFormat = "mls_public_message" | "mls_private_message";

/**
 * RFC 9420 section 6, with the bytes that are signed and hashed.
 *
 *   struct {
 *     WireFormat wire_format;
 *     FramedContent content;
 *     FramedContentAuthData auth;
 *   } AuthenticatedContent;
 *
 * Four views of one encoding `version || wire_format || content || signature || confirmation_tag` serve
 * signatures, MACs, references and transcript, so nothing is encoded a second time.
 */
export interface AuthenticatedContent {
  readonly wireFormat: FramingWireFormat;
  readonly content: FramedContent;
  readonly auth: FramedContentAuthData;
  /** version || wire_format || content || auth. Not to be written to. */
  readonly bytes: Uint8Array;
  /** Where the content ends in `bytes` and the signature begins. */
  readonly contentEnd: number;
}

/** The encoded AuthenticatedContent: input of MakeProposalRef (section 5.2). A view. */
export function authenticatedContentBytes(authenticated: AuthenticatedContent): Uint8Array {
  return authenticated.bytes.subarray(2);
}

/**
 * ConfirmedTranscriptHashInput (section 8.2): wire_format, content with its commit, signature. A view.
 */
export function confirmedTranscriptHashInput(authenticated: AuthenticatedContent): Uint8Array {
  const { length } = authenticated.auth.signature;
  return authenticated.bytes.subarray(2, authenticated.contentEnd + varintSize(length) + length);
}

/** InterimTranscriptHashInput (section 8.2): `struct { MAC confirmation_tag; }`. */
export function interimTranscriptHashInput(confirmationTag: Uint8Array): Bytes {
  return encodeParts(confirmationTag.length + 4, (writer) => writer.bytes(confirmationTag));
}

/** Whether a sender of this type signs the GroupContext as well (section 6.1). */
function signsGroupContext(sender: Sender): boolean {
  return sender.kind === "member" || sender.kind === "new_member_commit";
}

/**
 * FramedContentTBS (section 6.1). `head` is version || wire_format || content.
 *
 *   struct {
 *     ProtocolVersion version = mls10;
 *     WireFormat wire_format;
 *     FramedContent content;
 *     select (content.sender.sender_type) {
 *       case member, new_member_commit: GroupContext context;
 *       case external, new_member_proposal: struct{};
 *     };
 *   } FramedContentTBS;
 */
export function framedContentTbs(head: Uint8Array, sender: Sender, groupContext: Uint8Array): Bytes {
  const context = signsGroupContext(sender) ? groupContext : undefined;
  return encodeParts(head.length + (context?.length ?? 0), (writer) => {
    writer.fixed(head);
    if (context !== undefined) writer.fixed(context);
  });
}

/**
 * AuthenticatedContentTBM (section 6.2): `struct { FramedContentTBS content_tbs; FramedContentAuthData auth; }`,
 * only for members.
 */
export function authenticatedContentTbm(
  authenticated: AuthenticatedContent,
  groupContext: Uint8Array,
): Bytes {
  const { bytes, contentEnd } = authenticated;
  return encodeParts(bytes.length + groupContext.length, (writer) => {
    writer.fixed(bytes.subarray(0, contentEnd)).fixed(groupContext).fixed(bytes.subarray(contentEnd));
  });
}

/** The version and wire format that stand before every FramedContent. */
export function writeFramingHead(writer: Writer, wireFormat: FramingWireFormat): void {
  writer.uint16(MLS10).uint16(wireFormats[wireFormat]);
}

/** Encodes content and auth into an AuthenticatedContent. */
export function makeAuthenticatedContent(
  wireFormat: FramingWireFormat,
  content: FramedContent,
  auth: FramedContentAuthData,
): AuthenticatedContent {
  let contentEnd = 0;
  const bytes = encodeParts(1024, (writer) => {
    writeFramingHead(writer, wireFormat);
    writeFramedContent(writer, content);
    contentEnd = writer.length;
    writeAuthData(writer, auth);
  });
  return { wireFormat, content, auth, bytes, contentEnd };
}

/** Decodes a whole AuthenticatedContent, which begins with its wire format. Nothing is verified. */
export function decodeAuthenticatedContent(
  encoded: Uint8Array,
  limits: DecodeLimits = defaultLimits,
): AuthenticatedContent {
  const bytes = encodeParts(encoded.length + 2, (writer) => writer.uint16(MLS10).fixed(encoded));
  const reader = new Reader(bytes, 2);
  const wireFormat = framingWireFormat(reader.uint16());
  const content = readFramedContent(reader, limits);
  const contentEnd = reader.offset;
  const auth = readAuthData(reader, content.contentType);
  reader.finish();
  return { wireFormat, content, auth, bytes, contentEnd };
}

function framingWireFormat(code: number): FramingWireFormat {
  if (code === wireFormats.mls_public_message) return "mls_public_message";
  if (code === wireFormats.mls_private_message) return "mls_private_message";
  throw new RejectionError("mls/decode-unknown-wire-format");
}

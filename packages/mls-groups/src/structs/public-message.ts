import type { Reader, Writer } from "@murmuration/base";
import type { AuthenticatedContent } from "./authenticated-content.ts";
import { readAuthData, readFramedContent } from "./framed-content.ts";
import { type DecodeLimits, defaultLimits } from "./limits.ts";

/** Bytes of an MLSMessage before its body: version and wire_format. */
const HEAD = 4;

/**
 * RFC 9420 section 6.2. A member's message, and no other, has a membership_tag. Nothing in a decoded
 * PublicMessage is verified: `unprotectPublicMessage` and `UnverifiedContent.verify` of ../framing do that.
 *
 *   struct {
 *     FramedContent content;
 *     FramedContentAuthData auth;
 *     select (content.sender.sender_type) {
 *       case member: MAC membership_tag;
 *       case external, new_member_commit, new_member_proposal: struct{};
 *     };
 *   } PublicMessage;
 */
export interface PublicMessage {
  /** Content and auth, over the bytes of the enclosing MLSMessage. */
  readonly authenticated: AuthenticatedContent;
  readonly membershipTag: Uint8Array | undefined;
}

/** Reads the PublicMessage of an MLSMessage whose version and wire_format were read just before. */
export function readPublicMessage(reader: Reader, limits: DecodeLimits = defaultLimits): PublicMessage {
  const head = reader.offset - HEAD;
  const content = readFramedContent(reader, limits);
  const contentEnd = reader.offset - head;
  const auth = readAuthData(reader, content.contentType);
  const bytes = reader.input.subarray(head, reader.offset);
  return {
    authenticated: { wireFormat: "mls_public_message", content, auth, bytes, contentEnd },
    membershipTag: content.sender.kind === "member" ? reader.bytes() : undefined,
  };
}

export function writePublicMessage(writer: Writer, message: PublicMessage): void {
  writer.fixed(message.authenticated.bytes.subarray(HEAD));
  if (message.membershipTag !== undefined) writer.bytes(message.membershipTag);
}

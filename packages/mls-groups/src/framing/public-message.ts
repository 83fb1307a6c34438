import { type Bytes, equalSecret, UsageError } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { check } from "../rules.ts";
import { type AuthenticatedContent, authenticatedContentTbm } from "../structs/authenticated-content.ts";
import { encodeMlsMessage } from "../structs/mls-message.ts";
import type { PublicMessage } from "../structs/public-message.ts";
import { UnverifiedContent, type VerifiedContent } from "./content.ts";

/*
 * PublicMessage, RFC 9420 section 6.2: content that is signed and not encrypted.
 */

/** What a member knows about the epoch of a PublicMessage. */
export interface PublicProtection {
  readonly membershipKey: Uint8Array;
  /** The encoded GroupContext of the message's epoch. */
  readonly groupContext: Uint8Array;
}

/** membership_tag = MAC(membership_key, AuthenticatedContentTBM). */
function membershipTag(
  crypto: CryptoProvider,
  authenticated: AuthenticatedContent,
  protection: PublicProtection,
): Bytes {
  return crypto.mac(
    protection.membershipKey,
    authenticatedContentTbm(authenticated, protection.groupContext),
  );
}

/**
 * Encodes content of our own as an MLSMessage with a PublicMessage. `protection` is needed for the sender type
 * member, and only there. Throws UsageError when the content was signed for another wire format.
 */
export function protectPublicMessage(
  crypto: CryptoProvider,
  content: VerifiedContent,
  protection: PublicProtection | undefined,
): Bytes {
  if (content.wireFormat !== "mls_public_message") throw new UsageError("mls/framing-wire-format");
  const fromMember = content.content.sender.kind === "member";
  if (fromMember !== (protection !== undefined)) throw new UsageError("mls/framing-membership-key");
  const tag = protection === undefined ? undefined : membershipTag(crypto, content, protection);
  return encodeMlsMessage({
    wireFormat: "mls_public_message",
    publicMessage: { authenticated: content, membershipTag: tag },
  });
}

/**
 * Checks who may send what and, for a member, the membership tag. Group and epoch must be known to be those of
 * `protection`. Throws RejectionError `mls/framing/...`. One MAC over the message.
 */
export function unprotectPublicMessage(
  crypto: CryptoProvider,
  message: PublicMessage,
  protection: PublicProtection,
): UnverifiedContent {
  const { authenticated } = message;
  const unverified = new UnverifiedContent(authenticated, "checked");
  if (authenticated.content.sender.kind === "member") {
    const expected = membershipTag(crypto, authenticated, protection);
    check("framing/membership-tag", equalSecret(expected, message.membershipTag ?? NO_TAG));
  }
  return unverified;
}

const NO_TAG: Bytes = new Uint8Array(0);

/**
 * For a follower without secrets: the same without the membership tag, which only members can check. Its type
 * keeps such content out of every function of a member.
 */
export function followPublicMessage(message: PublicMessage): UnverifiedContent<"unchecked"> {
  return new UnverifiedContent(message.authenticated, "unchecked");
}

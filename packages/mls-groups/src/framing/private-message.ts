import {
  type Bytes,
  decodeWhole,
  encode,
  Reader,
  UsageError,
  varintSize,
  Writer,
  zeroize,
} from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { check } from "../rules.ts";
import type { MessageKey } from "../schedule/hash-ratchet.ts";
import { deriveSenderDataKey, guardNonce, REUSE_GUARD_LENGTH } from "../schedule/sender-data.ts";
import { writeFramingHead } from "../structs/authenticated-content.ts";
import {
  type FramedHeader,
  readAuthData,
  readFramedBody,
  writeFramedHeader,
} from "../structs/framed-content.ts";
import { type DecodeLimits, defaultLimits } from "../structs/limits.ts";
import { encodeMlsMessage } from "../structs/mls-message.ts";
import {
  type PrivateMessage,
  type PrivateMessageHeader,
  privateContentAad,
  readSenderData,
  type SenderData,
  senderDataAad,
  writeSenderData,
} from "../structs/private-message.ts";
import { UnverifiedContent, type VerifiedContent } from "./content.ts";
import type { PaddingPolicy } from "./padding.ts";

/*
 * PrivateMessage, RFC 9420 section 6.3: signed content, encrypted under a key of the secret tree, with the
 * sender's leaf and generation encrypted under sender_data_secret.
 */

export interface PrivateProtection {
  readonly senderDataSecret: Uint8Array;
  /** From our own ratchet (section 9), of the kind that the content type asks for; never used before. */
  readonly messageKey: MessageKey;
  readonly padding: PaddingPolicy;
}

/**
 * Encrypts content of our own into an MLSMessage with a PrivateMessage. The reuse guard comes from the
 * provider's randomness. The caller merges the staged key and stores that its generation is spent before the
 * message leaves. Throws UsageError when the content was signed for another wire format.
 */
export function protectPrivateMessage(
  crypto: CryptoProvider,
  content: VerifiedContent,
  protection: PrivateProtection,
): Bytes {
  const { sender } = content.content;
  if (content.wireFormat !== "mls_private_message") throw new UsageError("mls/framing-wire-format");
  if (sender.kind !== "member") throw new UsageError("mls/framing-sender-and-content");
  const { groupId, epoch, contentType, authenticatedData } = content.content;
  const header: PrivateMessageHeader = { groupId, epoch, contentType, authenticatedData };
  const aad = privateContentAad(header);

  const { messageKey } = protection;
  const reuseGuard = crypto.random(REUSE_GUARD_LENGTH);
  const plaintext = privateMessageContent(content, protection.padding);
  const nonce = guardNonce(messageKey.nonce, reuseGuard);
  const ciphertext = crypto.seal(messageKey.key, nonce, aad, plaintext);
  zeroize(plaintext, nonce);

  const senderData = { leafIndex: sender.leafIndex, generation: messageKey.generation, reuseGuard };
  const encryptedSenderData = sealSenderData(
    crypto,
    senderDataAad(aad, header),
    senderData,
    ciphertext,
    protection.senderDataSecret,
  );
  return encodeMlsMessage({
    wireFormat: "mls_private_message",
    privateMessage: { ...header, encryptedSenderData, ciphertext },
  });
}

/**
 * PrivateMessageContent (section 6.3.1): the content after its content_type, the auth, zero padding. The first
 * two are the end of the AuthenticatedContent's bytes.
 */
function privateMessageContent(content: VerifiedContent, padding: PaddingPolicy): Bytes {
  const unpadded = content.bytes.subarray(framingHeadLength(content.content));
  const zeros = padding(unpadded.length);
  if (!Number.isSafeInteger(zeros) || zeros < 0) throw new UsageError("mls/framing-padding");
  const plaintext = new Uint8Array(unpadded.length + zeros);
  plaintext.set(unpadded);
  return plaintext;
}

/** version || wire_format || FramedContent up to and with its content_type. */
function framingHead(header: FramedHeader & { readonly contentType: PrivateMessage["contentType"] }): Bytes {
  const writer = new Writer(128);
  writeFramingHead(writer, "mls_private_message");
  writeFramedHeader(writer, header, header.contentType);
  return writer.finish();
}

/** Length of {@link framingHead} for a member's content: 5 bytes of Sender among 18 of fixed size. */
function framingHeadLength({ groupId, authenticatedData }: FramedHeader): number {
  return 18 + opaqueSize(groupId.length) + opaqueSize(authenticatedData.length);
}

const opaqueSize = (length: number): number => varintSize(length) + length;

function sealSenderData(
  crypto: CryptoProvider,
  aad: Uint8Array,
  senderData: SenderData,
  ciphertext: Uint8Array,
  senderDataSecret: Uint8Array,
): Bytes {
  const { key, nonce } = deriveSenderDataKey(crypto, senderDataSecret, ciphertext);
  const sealed = crypto.seal(key, nonce, aad, encode(senderData, writeSenderData, 12));
  zeroize(key, nonce);
  return sealed;
}

/**
 * Decrypts who sent a PrivateMessage and with which generation (section 6.3.2). The caller then verifies that
 * the leaf is not blank and asks the secret tree for the key. Throws RejectionError `mls/decryption-failed`.
 */
export function openSenderData(
  crypto: CryptoProvider,
  message: PrivateMessage,
  senderDataSecret: Uint8Array,
): SenderData {
  const { key, nonce } = deriveSenderDataKey(crypto, senderDataSecret, message.ciphertext);
  try {
    const aad = senderDataAad(privateContentAad(message), message);
    const plaintext = crypto.open(key, nonce, aad, message.encryptedSenderData);
    return decodeWhole(plaintext, readSenderData);
  } finally {
    zeroize(key, nonce);
  }
}

/**
 * Decrypts a PrivateMessage with the key of its sender's ratchet, of the kind that its content type asks for
 * (section 9), and verifies the padding. The result holds the plaintext. Throws RejectionError
 * `mls/decryption-failed`, `mls/framing/padding-is-zero`, or a decoding code. O(length).
 */
export function unprotectPrivateMessage(
  crypto: CryptoProvider,
  message: PrivateMessage,
  senderData: SenderData,
  messageKey: MessageKey,
  limits: DecodeLimits = defaultLimits,
): UnverifiedContent {
  if (messageKey.generation !== senderData.generation) throw new UsageError("mls/framing-generation");
  const nonce = guardNonce(messageKey.nonce, senderData.reuseGuard);
  const plaintext = crypto.open(messageKey.key, nonce, privateContentAad(message), message.ciphertext);
  const { groupId, epoch, authenticatedData, contentType } = message;
  const header: FramedHeader = {
    groupId,
    epoch,
    sender: { kind: "member", leafIndex: senderData.leafIndex },
    authenticatedData,
  };
  const head = framingHead({ ...header, contentType });
  const whole = new Writer(head.length + plaintext.length).fixed(head).fixed(plaintext).finish();
  zeroize(plaintext, nonce);

  const reader = new Reader(whole, head.length);
  const content = { ...header, ...readFramedBody(reader, contentType, limits) };
  const contentEnd = reader.offset;
  const auth = readAuthData(reader, contentType);
  const bytes = whole.subarray(0, reader.offset);
  check("framing/padding-is-zero", isZero(whole.subarray(reader.offset)));
  return new UnverifiedContent(
    { wireFormat: "mls_private_message", content, auth, bytes, contentEnd },
    "checked",
  );
}

function isZero(padding: Uint8Array): boolean {
  let bits = 0;
  for (const byte of padding) bits |= byte;
  return bits === 0;
}

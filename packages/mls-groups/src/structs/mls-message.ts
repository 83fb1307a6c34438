import { type Bytes, decodeWhole, encode, type Reader, RejectionError, type Writer } from "@murmuration/base";
import { type WireFormat, wireFormats } from "./code-points.ts";
import { type GroupInfo, readGroupInfo, writeGroupInfo } from "./group-info.ts";
import { type KeyPackage, readKeyPackage, writeKeyPackage } from "./key-package.ts";
import { type DecodeLimits, defaultLimits, withinLimit } from "./limits.ts";
import { type PrivateMessage, readPrivateMessage, writePrivateMessage } from "./private-message.ts";
import { readProtocolVersion, writeProtocolVersion } from "./protocol-version.ts";
import { type PublicMessage, readPublicMessage, writePublicMessage } from "./public-message.ts";
import { readWelcome, type Welcome, writeWelcome } from "./welcome.ts";

/**
 * RFC 9420 section 6.
 *
 *   struct {
 *     ProtocolVersion version = mls10;
 *     WireFormat wire_format;
 *     select (wire_format) {
 *       case mls_public_message:  PublicMessage public_message;
 *       case mls_private_message: PrivateMessage private_message;
 *       case mls_welcome:         Welcome welcome;
 *       case mls_group_info:      GroupInfo group_info;
 *       case mls_key_package:     KeyPackage key_package;
 *     };
 *   } MLSMessage;
 */
export type MlsMessage =
  | { readonly wireFormat: "mls_public_message"; readonly publicMessage: PublicMessage }
  | { readonly wireFormat: "mls_private_message"; readonly privateMessage: PrivateMessage }
  | { readonly wireFormat: "mls_welcome"; readonly welcome: Welcome }
  | { readonly wireFormat: "mls_group_info"; readonly groupInfo: GroupInfo }
  | { readonly wireFormat: "mls_key_package"; readonly keyPackage: KeyPackage };

function readMlsMessage(reader: Reader, limits: DecodeLimits = defaultLimits): MlsMessage {
  readProtocolVersion(reader);
  switch (reader.uint16()) {
    case wireFormats.mls_public_message:
      return { wireFormat: "mls_public_message", publicMessage: readPublicMessage(reader, limits) };
    case wireFormats.mls_private_message:
      return { wireFormat: "mls_private_message", privateMessage: readPrivateMessage(reader) };
    case wireFormats.mls_welcome:
      return { wireFormat: "mls_welcome", welcome: readWelcome(reader, limits) };
    case wireFormats.mls_group_info:
      return { wireFormat: "mls_group_info", groupInfo: readGroupInfo(reader) };
    case wireFormats.mls_key_package:
      return { wireFormat: "mls_key_package", keyPackage: readKeyPackage(reader) };
    default:
      throw new RejectionError("mls/decode-unknown-wire-format");
  }
}

function writeMlsMessage(writer: Writer, message: MlsMessage): void {
  writeMlsMessageHead(writer, message.wireFormat);
  switch (message.wireFormat) {
    case "mls_public_message":
      writePublicMessage(writer, message.publicMessage);
      break;
    case "mls_private_message":
      writePrivateMessage(writer, message.privateMessage);
      break;
    case "mls_welcome":
      writeWelcome(writer, message.welcome);
      break;
    case "mls_group_info":
      writeGroupInfo(writer, message.groupInfo);
      break;
    case "mls_key_package":
      writeKeyPackage(writer, message.keyPackage);
      break;
  }
}

function writeMlsMessageHead(writer: Writer, wireFormat: WireFormat): void {
  writeProtocolVersion(writer);
  writer.uint16(wireFormats[wireFormat]);
}

/**
 * Decodes one MLSMessage; trailing bytes are refused. The result holds views of `bytes`, which must not be
 * changed while it is in use. Throws RejectionError `coder/...` or `mls/...`. O(length).
 */
export function decodeMlsMessage(bytes: Uint8Array, limits: DecodeLimits = defaultLimits): MlsMessage {
  withinLimit(bytes.length, limits.messageBytes);
  return decodeWhole(bytes, (reader) => readMlsMessage(reader, limits));
}

/** Encodes one MLSMessage into bytes of its own. */
export function encodeMlsMessage(message: MlsMessage): Bytes {
  return encode(message, writeMlsMessage, 1024);
}

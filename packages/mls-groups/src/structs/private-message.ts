import { type Bytes, type Reader, varintSize, type Writer } from "@murmuration/base";
import { encodeParts } from "./encoded.ts";
import { type ContentType, readContentType, writeContentType } from "./framed-content.ts";

/** The fields of a PrivateMessage that are not encrypted. */
export interface PrivateMessageHeader {
  readonly groupId: Uint8Array;
  readonly epoch: bigint;
  readonly contentType: ContentType;
  readonly authenticatedData: Uint8Array;
}

/**
 * RFC 9420 section 6.3.
 *
 *   struct {
 *     opaque group_id<V>;
 *     uint64 epoch;
 *     ContentType content_type;
 *     opaque authenticated_data<V>;
 *     opaque encrypted_sender_data<V>;
 *     opaque ciphertext<V>;
 *   } PrivateMessage;
 */
export interface PrivateMessage extends PrivateMessageHeader {
  readonly encryptedSenderData: Uint8Array;
  readonly ciphertext: Uint8Array;
}

export function readPrivateMessage(reader: Reader): PrivateMessage {
  return {
    groupId: reader.bytes(),
    epoch: reader.uint64(),
    contentType: readContentType(reader),
    authenticatedData: reader.bytes(),
    encryptedSenderData: reader.bytes(),
    ciphertext: reader.bytes(),
  };
}

export function writePrivateMessage(writer: Writer, message: PrivateMessage): void {
  writeSenderDataAad(writer, message);
  writer.bytes(message.authenticatedData);
  writer.bytes(message.encryptedSenderData).bytes(message.ciphertext);
}

function writeSenderDataAad(writer: Writer, header: PrivateMessageHeader): void {
  writer.bytes(header.groupId).uint64(header.epoch);
  writeContentType(writer, header.contentType);
}

/**
 * PrivateContentAAD (section 6.3.1): `struct { opaque group_id<V>; uint64 epoch; ContentType content_type;
 * opaque authenticated_data<V>; }`.
 */
export function privateContentAad(header: PrivateMessageHeader): Bytes {
  return encodeParts(128, (writer) => {
    writeSenderDataAad(writer, header);
    writer.bytes(header.authenticatedData);
  });
}

/**
 * SenderDataAAD (section 6.3.2): `struct { opaque group_id<V>; uint64 epoch; ContentType content_type; }`, which is how
 * the PrivateContentAAD begins. A view of it.
 */
export function senderDataAad(contentAad: Uint8Array, header: PrivateMessageHeader): Uint8Array {
  const { length } = header.authenticatedData;
  return contentAad.subarray(0, contentAad.length - varintSize(length) - length);
}

/**
 * RFC 9420 section 6.3.2. 12 bytes.
 *
 *   struct {
 *     uint32 leaf_index;
 *     uint32 generation;
 *     opaque reuse_guard[4];
 *   } SenderData;
 */
export interface SenderData {
  readonly leafIndex: number;
  readonly generation: number;
  readonly reuseGuard: Uint8Array;
}

const REUSE_GUARD_LENGTH = 4;

export function readSenderData(reader: Reader): SenderData {
  return {
    leafIndex: reader.uint32(),
    generation: reader.uint32(),
    reuseGuard: reader.fixed(REUSE_GUARD_LENGTH),
  };
}

export function writeSenderData(writer: Writer, data: SenderData): void {
  writer.uint32(data.leafIndex).uint32(data.generation).fixed(data.reuseGuard);
}

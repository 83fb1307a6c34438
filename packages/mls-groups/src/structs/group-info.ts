import type { Bytes, Reader, Writer } from "@murmuration/base";
import {
  bytesOf,
  encodeParts,
  readKeepingBytes,
  receivedBytes,
  withoutLastField,
  writeBytesOr,
} from "./encoded.ts";
import { type Extension, readDistinctExtensions, writeExtensions } from "./extension.ts";
import { type GroupContext, readGroupContext, writeGroupContext } from "./group-context.ts";

/** A GroupInfo before it is signed. */
export interface GroupInfoContent {
  readonly groupContext: GroupContext;
  readonly extensions: readonly Extension[];
  readonly confirmationTag: Uint8Array;
  /** Leaf index of the signer. */
  readonly signer: number;
}

/**
 * RFC 9420 section 12.4.3.
 *
 *   struct {
 *     GroupContext group_context;
 *     Extension extensions<V>;
 *     MAC confirmation_tag;
 *     uint32 signer;
 *     opaque signature<V>;      // SignWithLabel(., "GroupInfoTBS", GroupInfoTBS)
 *   } GroupInfo;
 */
export interface GroupInfo extends GroupInfoContent {
  readonly signature: Uint8Array;
}

/** Reads a GroupInfo and keeps its bytes, for {@link groupInfoTbs}. */
export function readGroupInfo(reader: Reader): GroupInfo {
  return readKeepingBytes(reader, (r) => ({
    groupContext: readGroupContext(r),
    extensions: readDistinctExtensions(r),
    confirmationTag: r.bytes(),
    signer: r.uint32(),
    signature: r.bytes(),
  }));
}

function writeContent(writer: Writer, info: GroupInfoContent): void {
  writeGroupContext(writer, info.groupContext);
  writeExtensions(writer, info.extensions);
  writer.bytes(info.confirmationTag).uint32(info.signer);
}

export function writeGroupInfo(writer: Writer, info: GroupInfo): void {
  writeBytesOr(writer, info, (w, value) => {
    writeContent(w, value);
    w.bytes(value.signature);
  });
}

/** The encoded GroupInfo: the received bytes where there are any. */
export function groupInfoBytes(info: GroupInfo): Uint8Array {
  return bytesOf(info, writeGroupInfo);
}

/** GroupInfoTBS (section 12.4.3): the fields of a GroupInfo above the signature. */
export function groupInfoTbs(info: GroupInfoContent | GroupInfo): Bytes {
  return encodeParts(1024, (writer) => {
    const received = receivedBytes(info);
    if (received !== undefined && "signature" in info) {
      writer.fixed(withoutLastField(received, info.signature.length));
    } else writeContent(writer, info);
  });
}

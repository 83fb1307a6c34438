import type { Reader, Writer } from "@murmuration/base";
import { bytesOf, readKeepingBytes, writeBytesOr } from "./encoded.ts";
import { type Extension, readDistinctExtensions, writeExtensions } from "./extension.ts";
import { readProtocolVersion, writeProtocolVersion } from "./protocol-version.ts";

/**
 * RFC 9420 section 8.1.
 *
 *   struct {
 *     ProtocolVersion version = mls10;
 *     CipherSuite cipher_suite;
 *     opaque group_id<V>;
 *     uint64 epoch;
 *     opaque tree_hash<V>;
 *     opaque confirmed_transcript_hash<V>;
 *     Extension extensions<V>;
 *   } GroupContext;
 */
export interface GroupContext {
  readonly cipherSuite: number;
  readonly groupId: Uint8Array;
  readonly epoch: bigint;
  readonly treeHash: Uint8Array;
  readonly confirmedTranscriptHash: Uint8Array;
  readonly extensions: readonly Extension[];
}

/** Reads a GroupContext and keeps its bytes, for {@link groupContextBytes}. */
export function readGroupContext(reader: Reader): GroupContext {
  return readKeepingBytes(reader, (r) => {
    readProtocolVersion(r);
    return {
      cipherSuite: r.uint16(),
      groupId: r.bytes(),
      epoch: r.uint64(),
      treeHash: r.bytes(),
      confirmedTranscriptHash: r.bytes(),
      extensions: readDistinctExtensions(r),
    };
  });
}

export function writeGroupContext(writer: Writer, context: GroupContext): void {
  writeBytesOr(writer, context, (w, value) => {
    writeProtocolVersion(w);
    w.uint16(value.cipherSuite).bytes(value.groupId).uint64(value.epoch);
    w.bytes(value.treeHash).bytes(value.confirmedTranscriptHash);
    writeExtensions(w, value.extensions);
  });
}

/** The encoded GroupContext, as the key schedule, signatures and UpdatePath encryption use it. */
export function groupContextBytes(context: GroupContext): Uint8Array {
  return bytesOf(context, writeGroupContext);
}

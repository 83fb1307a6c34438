import { type Bytes, decodeWhole, equalBytes, InvariantError, Writer } from "@murmuration/base";
import {
  encodeGroupMarkInput,
  GROUP_MARK_BYTES,
  type GroupEntry,
  type GroupMark,
  type GroupRefusal,
} from "@murmuration/wire";
import type { LogEntry } from "../ports/mls-groups.ts";
import { sha256 } from "./submit.ts";

/** An entry of the log as a member gets it. */
export function toWireEntry(entry: LogEntry): GroupEntry {
  const head = { sequence: entry.sequence, serverTimeMs: entry.acceptedAtMs };
  switch (entry.kind) {
    case "application":
      return { ...head, application: { message: entry.message } };
    case "proposal":
      return { ...head, proposal: { proposal: entry.message } };
    case "commit":
      return {
        ...head,
        commit: {
          commit: entry.message,
          ...(entry.banList !== undefined && entry.banList.length > 0 ? { banList: entry.banList } : {}),
          ...(entry.partedSequence === undefined ? {} : { partedSequence: entry.partedSequence }),
        },
      };
    case "void":
      if (entry.voids === undefined) throw new InvariantError("group/void-without-sequence");
      return { ...head, void: { sequence: entry.voids, refusals: decodeRefusals(entry.message) } };
  }
}

/**
 * What proves a void entry, as the log keeps it in the place of a message:
 *
 *   struct {
 *     uint32 leaf_index;
 *     opaque signature<V>;
 *   } Refusal;
 *   Refusal refusals<V>;
 */
export function encodeRefusals(refusals: readonly GroupRefusal[]): Bytes {
  return new Writer()
    .vector(refusals, (writer, { leafIndex, signature }) => writer.uint32(leafIndex).bytes(signature))
    .finish();
}

/** Void entries of before refusals were kept have none. Throws RejectionError for what was not encoded so. */
function decodeRefusals(bytes: Uint8Array): readonly GroupRefusal[] {
  if (bytes.length === 0) return [];
  return decodeWhole(bytes, (reader) =>
    reader.vector((inner) => ({ leafIndex: inner.uint32(), signature: inner.bytes().slice() })),
  );
}

/** Whether this is the entry that the mark names. */
export function isMarked(entry: LogEntry, mark: GroupMark): boolean {
  if (entry.sequence !== mark.sequence) return false;
  const hash = sha256(encodeGroupMarkInput(toWireEntry(entry)));
  return equalBytes(hash.subarray(0, GROUP_MARK_BYTES), mark.hash);
}

/** The first of these entries that fit both limits, in order. O(entries). */
export function entriesThatFit(
  entries: readonly LogEntry[],
  limits: { readonly maxEntries: number; readonly maxBytes: number },
): readonly LogEntry[] {
  let bytes = 0;
  const end = entries.findIndex((entry, index) => {
    bytes += entry.message.length + (entry.banList?.length ?? 0) + 64;
    return index >= limits.maxEntries || bytes > limits.maxBytes;
  });
  return end < 0 ? entries : entries.slice(0, end);
}

/** The first of these byte strings that fit, in order. O(items). */
export function bytesThatFit<T extends Uint8Array>(items: readonly T[], maxBytes: number): readonly T[] {
  let bytes = 0;
  const end = items.findIndex((item) => {
    bytes += item.length + 8;
    return bytes > maxBytes;
  });
  return end < 0 ? items : items.slice(0, end);
}

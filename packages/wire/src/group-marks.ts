/**
 * How a client says which entries of a group's log it has seen. The time is in it, so that a commit which was fed again
 * to a service that had lost it is another entry than the one before:
 *
 *   struct {
 *     uint64 sequence;
 *     uint64 server_time_ms;
 *     enum { application(1), proposal(2), commit(3), void(4) } kind;   // uint8
 *     opaque message<V>;          // of a void entry: the number of the commit that does not count, as uint64
 *   } GroupMarkInput;
 *
 * A mark's hash is the first GROUP_MARK_BYTES bytes of SHA-256 over it.
 */
import { type Bytes, Writer } from "@murmuration/base";
import type { GroupEntry } from "./messages.ts";

export const GROUP_MARK_BYTES = 16;

/** GroupMarkInput. */
export function encodeGroupMarkInput(entry: GroupEntry): Bytes {
  const [kind, message] = contentOf(entry);
  return new Writer()
    .uint64(BigInt(entry.sequence))
    .uint64(BigInt(entry.serverTimeMs))
    .uint8(kind)
    .bytes(message)
    .finish();
}

function contentOf({
  application,
  proposal,
  commit,
  void: voided,
}: GroupEntry): readonly [number, Uint8Array] {
  if (application !== undefined) return [1, application.message];
  if (proposal !== undefined) return [2, proposal.proposal];
  if (commit !== undefined) return [3, commit.commit];
  return [4, new Writer().uint64(BigInt(voided?.sequence ?? 0)).finish()];
}

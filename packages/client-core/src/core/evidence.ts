/** What an event of the kind `decision-needed` rests on, as it lies beside the event in the database. */
import type { Bytes } from "@murmuration/base";
import { HASH_BYTES } from "./content.ts";
import { bytes, type MessageOf, message, optional, required, text, uint } from "./protobuf.ts";

const hash = bytes(HASH_BYTES);

const evidence = message("Evidence", {
  /** Two hashes for one epoch of one group: ours, and what the account of the event says. */
  fork: optional(
    1,
    message("Fork", { epoch: required(1, uint()), ours: required(2, hash), theirs: required(3, hash) }),
  ),
  /** The code of the error that made a group unusable. */
  cause: optional(2, text(128)),
});

export type Evidence = MessageOf<typeof evidence>;

export const encodeEvidence = (value: Evidence): Bytes => evidence.encode(value);

/** RejectionError `content/…` for bytes that are none. */
export const decodeEvidence = (value: Bytes): Evidence => evidence.decode(value);

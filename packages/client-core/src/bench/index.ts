/** The record of a pairwise group as the client makes and reads it, for benchmarks only. */
export { createChange, verifyChange } from "../core/group-change.ts";
export { deriveAccessPublicKey, openRecord, sealRecord } from "../core/group-keys.ts";
export { encodeRecord, splitRecord } from "../core/group-record.ts";

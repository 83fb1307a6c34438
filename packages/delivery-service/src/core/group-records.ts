import { createPublicKey, verify } from "node:crypto";
import { type Bytes, concatBytes, fromHex, type GroupId, RejectionError } from "@murmuration/base";
import {
  encodeGroupAccessTbs,
  type GroupAccess,
  type GroupOperation,
  type GroupWriteRequest,
} from "@murmuration/wire";
import type { GroupRecord } from "../ports/group-records.ts";
import { dayOf } from "./days.ts";
import { decideMigration, type LeaseTime, type MigrationStep } from "./migration.ts";
import { sha256 } from "./submit.ts";

/** SubjectPublicKeyInfo header of an Ed25519 key (RFC 8410 section 4). */
const ED25519_SPKI = fromHex("302a300506032b6570032100");

/** One request to a group record, as far as the access check needs it. */
export interface GroupRequest {
  readonly groupId: GroupId;
  readonly operation: GroupOperation;
  readonly access: GroupAccess;
  /** The body as received; empty for a read. */
  readonly body: Uint8Array;
}

/**
 * Verifies that the request is signed by the group's access key, over a challenge, the operation and the body's
 * hash. The challenge has been spent by the caller. Throws RejectionError `group/access-denied`.
 */
export function verifyGroupAccess(accessPublicKey: Uint8Array, request: GroupRequest): void {
  const signed = encodeGroupAccessTbs({
    challenge: request.access.challenge,
    groupId: request.groupId,
    operation: request.operation,
    bodyHash: sha256(request.body),
  });
  if (!verifyEd25519(accessPublicKey, signed, request.access.signature)) {
    throw new RejectionError("group/access-denied");
  }
}

export interface GroupWriteDecision {
  readonly kind: "create" | "replace";
  readonly record: GroupRecord;
  /** The step of the group's migration that the write is; undefined if it is none. */
  readonly step: MigrationStep | undefined;
}

/**
 * Decides on a write. An existing record is written with the key that the service holds, whatever the request
 * brings; a new one with the key that it brings. Throws RejectionError `group/access-denied`,
 * `group/revision-conflict`, `group/generation-missing`, `group/unknown`, and those of decideMigration.
 */
export function decideGroupWrite(
  record: GroupRecord | undefined,
  request: GroupRequest,
  write: GroupWriteRequest,
  time: LeaseTime,
): GroupWriteDecision {
  const lastUsedDay = dayOf(time.nowMs);
  if (record === undefined) {
    if (write.expectedRevision !== 0) throw new RejectionError("group/unknown");
    if (write.generation === undefined) throw new RejectionError("group/generation-missing");
    verifyGroupAccess(write.generation.accessPublicKey, request);
    const step = decideMigration(undefined, write, time);
    const first = { groupId: request.groupId, revision: 1, blob: write.blob, lastUsedDay };
    return { kind: "create", record: { ...first, ...write.generation, migration: step?.next }, step };
  }
  verifyGroupAccess(record.accessPublicKey, request);
  if (write.expectedRevision !== record.revision) throw new RejectionError("group/revision-conflict");
  const step = decideMigration(record, write, time);
  return {
    kind: "replace",
    record: {
      ...record,
      ...write.generation,
      revision: record.revision + 1,
      blob: write.blob,
      lastUsedDay,
      migration: step?.next ?? record.migration,
    },
    step,
  };
}

/** False for a malformed key or signature. About 0.1 ms. */
function verifyEd25519(publicKey: Uint8Array, content: Bytes, signature: Uint8Array): boolean {
  try {
    const spki = Buffer.from(concatBytes(ED25519_SPKI, publicKey));
    return verify(null, content, createPublicKey({ key: spki, format: "der", type: "spki" }), signature);
  } catch {
    return false;
  }
}

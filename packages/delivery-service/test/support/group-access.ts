import { createHash, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { type Bytes, formatId, type GroupId } from "@murmuration/base";
import {
  encodeGroupAccessTbs,
  encodeMessage,
  formatGroupAccess,
  type GroupLeaseRenewal,
  type GroupMigrationStep,
  type GroupOperation,
  groupLeaseRenewal,
  groupWriteRequest,
} from "@murmuration/wire";
import { random } from "./random.ts";
import { call, type HttpAnswer } from "./test-device.ts";

/** What the members of one generation of a pairwise group know. */
export interface Generation {
  readonly privateKey: KeyObject;
  readonly accessPublicKey: Bytes;
  readonly fence: Bytes;
}

export function generateGeneration(fence = random(16)): Generation {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const spki = publicKey.export({ format: "der", type: "spki" });
  return { privateKey, accessPublicKey: new Uint8Array(spki.subarray(-32)), fence };
}

export async function fetchChallenge(base: string): Promise<Bytes> {
  return (await call(base, "challenge")).body["challenge"] as Bytes;
}

/** The header of a request that a member signs. */
export function groupAccessHeader(
  groupId: GroupId,
  key: Generation,
  operation: GroupOperation,
  challenge: Bytes,
  body: Uint8Array,
): Record<string, string> {
  const bodyHash = createHash("sha256").update(body).digest();
  const tbs = encodeGroupAccessTbs({ challenge, groupId, operation, bodyHash });
  const signature = new Uint8Array(sign(null, tbs, key.privateKey));
  return { "murmuration-group-access": formatGroupAccess({ challenge, signature }) };
}

export async function readGroup(base: string, groupId: GroupId, key: Generation): Promise<HttpAnswer> {
  const headers = groupAccessHeader(groupId, key, "read", await fetchChallenge(base), new Uint8Array(0));
  return call(base, "readGroup", { parameters: { groupId: formatId(groupId) }, headers });
}

/** Renews the lease of a group's migration. */
export async function renewLease(
  base: string,
  groupId: GroupId,
  key: Generation,
  body: GroupLeaseRenewal,
): Promise<HttpAnswer> {
  const encoded = encodeMessage(groupLeaseRenewal, body);
  const headers = groupAccessHeader(groupId, key, "renew-lease", await fetchChallenge(base), encoded);
  return call(base, "renewLease", { parameters: { groupId: formatId(groupId) }, headers, body });
}

/** Writes the record; `next` is the generation that it brings, `migration` the step that it is. */
export async function writeGroup(
  base: string,
  groupId: GroupId,
  key: Generation,
  expectedRevision: number,
  blob: Bytes,
  next?: Generation,
  migration?: GroupMigrationStep,
): Promise<HttpAnswer> {
  const body = {
    expectedRevision,
    blob,
    ...(next && { generation: { accessPublicKey: next.accessPublicKey, fence: next.fence } }),
    ...(migration && { migration }),
  };
  const encoded = encodeMessage(groupWriteRequest, body);
  const headers = groupAccessHeader(groupId, key, "write", await fetchChallenge(base), encoded);
  return call(base, "writeGroup", { parameters: { groupId: formatId(groupId) }, headers, body });
}

/** Creates a record with this fence. */
export async function createGroup(base: string, groupId: GroupId, fence: Bytes, blob: Bytes): Promise<void> {
  const key = generateGeneration(fence);
  const answer = await writeGroup(base, groupId, key, 0, blob, key);
  if (answer.status !== 200) throw new Error(`group refused: ${answer.rejection?.code}`);
}

/**
 * What follows from a group key. A removal draws a new one, so everything here belongs to one generation:
 *
 *   record key     AES-256-GCM, encrypts the record that lies at the delivery service
 *   access key     Ed25519, signs each read and write of the record; the service holds the public half
 *
 * Both are HKDF-SHA-256 outputs of the group key with the group id as salt, under labels of their own.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  hkdfSync,
  type KeyObject,
  sign,
} from "node:crypto";
import {
  type Bytes,
  concatBytes,
  fromHex,
  type GroupId,
  RejectionError,
  UsageError,
  Writer,
} from "@murmuration/base";
import { encodeGroupAccessTbs, type GroupOperation } from "@murmuration/wire";
import { GROUP_KEY_BYTES } from "./content.ts";

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** PKCS #8 and SPKI framing of a raw Ed25519 key (RFC 8410). */
const PKCS8_PREFIX = fromHex("302e020100300506032b657004220420");
const SPKI_PREFIX_BYTES = 12;

function derive(groupId: GroupId, groupKey: Bytes, label: string): Bytes {
  if (groupKey.length !== GROUP_KEY_BYTES) throw new UsageError("group/bad-key-length");
  return new Uint8Array(hkdfSync("sha256", groupKey, groupId, `Murmuration ${label}`, 32));
}

function accessKeyPair(groupId: GroupId, groupKey: Bytes): KeyObject {
  const seed = derive(groupId, groupKey, "group access");
  return createPrivateKey({
    key: Buffer.from(concatBytes(PKCS8_PREFIX, seed)),
    format: "der",
    type: "pkcs8",
  });
}

/** The public half of the access key, 32 bytes: what the delivery service stores. */
export function deriveAccessPublicKey(groupId: GroupId, groupKey: Bytes): Bytes {
  const spki = createPublicKey(accessKeyPair(groupId, groupKey)).export({ format: "der", type: "spki" });
  return new Uint8Array(spki.subarray(SPKI_PREFIX_BYTES));
}

/** Signs one read or write of the record. */
export function signGroupAccess(
  groupKey: Bytes,
  request: {
    readonly groupId: GroupId;
    readonly challenge: Bytes;
    readonly operation: GroupOperation;
    readonly body: Uint8Array;
  },
): Bytes {
  const tbs = encodeGroupAccessTbs({
    challenge: request.challenge,
    groupId: request.groupId,
    operation: request.operation,
    bodyHash: new Uint8Array(createHash("sha256").update(request.body).digest()),
  });
  return new Uint8Array(sign(null, tbs, accessKeyPair(request.groupId, groupKey)));
}

/** Group id and revision are bound, so that an old record cannot be passed off as a newer one. */
const additionalData = (groupId: GroupId, revision: number): Bytes =>
  new Writer().fixed(groupId).uint64(BigInt(revision)).finish();

/** Encrypts a record: nonce, ciphertext, tag. The nonce is 12 random bytes. */
export function sealRecord(
  groupId: GroupId,
  groupKey: Bytes,
  revision: number,
  plaintext: Uint8Array,
  nonce: Bytes,
): Bytes {
  const cipher = createCipheriv("aes-256-gcm", derive(groupId, groupKey, "group record"), nonce);
  cipher.setAAD(additionalData(groupId, revision));
  return concatBytes(nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag());
}

/** Opens a record. Throws RejectionError `group/record-not-readable`. */
export function openRecord(groupId: GroupId, groupKey: Bytes, revision: number, blob: Uint8Array): Bytes {
  if (blob.length < NONCE_BYTES + TAG_BYTES) throw new RejectionError("group/record-not-readable");
  const key = derive(groupId, groupKey, "group record");
  const decipher = createDecipheriv("aes-256-gcm", key, blob.subarray(0, NONCE_BYTES));
  decipher.setAAD(additionalData(groupId, revision));
  decipher.setAuthTag(blob.subarray(blob.length - TAG_BYTES));
  try {
    const body = decipher.update(blob.subarray(NONCE_BYTES, blob.length - TAG_BYTES));
    return concatBytes(body, decipher.final());
  } catch {
    throw new RejectionError("group/record-not-readable");
  }
}

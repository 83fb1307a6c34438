/**
 * How an HTTP request says who it is, in headers. Three ways, never two in one request:
 *
 *   device        Authorization: Bearer <account id>.<device id>.<token>      all base64url, device id decimal
 *   access key    Murmuration-Access: <access key>
 *   group access  Murmuration-Group-Access: <challenge>.<signature>
 *
 * The last two carry no account: such requests are anonymous.
 */
import {
  type Bytes,
  deviceId,
  fromBase64Url,
  type GroupId,
  parseAccountId,
  RejectionError,
  toBase64Url,
  utf8,
  Writer,
} from "@murmuration/base";
import { limits } from "./limits.ts";
import type { DeviceAuth } from "./messages.ts";

export const ACCESS_HEADER = "murmuration-access";
export const GROUP_ACCESS_HEADER = "murmuration-group-access";
/** Length of an Ed25519 signature, bytes. */
const SIGNATURE_BYTES = 64;

function malformed(): never {
  throw new RejectionError("auth/malformed");
}

function exactBytes(text: string | undefined, length: number): Bytes {
  // The text's length is checked before anything is decoded.
  if (text === undefined || text.length !== Math.ceil((length * 4) / 3)) malformed();
  try {
    const bytes = fromBase64Url(text);
    return bytes.length === length ? bytes : malformed();
  } catch {
    return malformed();
  }
}

/** The value of the Authorization header. */
export function formatDeviceAuth(auth: DeviceAuth): string {
  return `Bearer ${toBase64Url(auth.accountId)}.${auth.deviceId}.${toBase64Url(auth.token)}`;
}

/** Parses {@link formatDeviceAuth}. Throws RejectionError `auth/malformed`. The token is not checked here. */
export function parseDeviceAuth(header: string): DeviceAuth {
  const match = /^Bearer ([\w-]{22})\.([1-9][0-9]{0,2})\.([\w-]{43})$/.exec(header);
  if (match === null) malformed();
  try {
    return {
      accountId: parseAccountId(match[1]!),
      deviceId: deviceId(Number(match[2])),
      token: exactBytes(match[3], limits.tokenBytes),
    };
  } catch {
    return malformed();
  }
}

/** The value of the Murmuration-Access header. */
export function formatAccessKey(accessKey: Uint8Array): string {
  return toBase64Url(accessKey);
}

/** Parses {@link formatAccessKey}. Throws RejectionError `auth/malformed`. */
export function parseAccessKey(header: string): Bytes {
  return exactBytes(header, limits.accessKeyBytes);
}

/** A group access signature with the challenge that it answers. */
export interface GroupAccess {
  readonly challenge: Bytes;
  readonly signature: Bytes;
}

/** The value of the Murmuration-Group-Access header. */
export function formatGroupAccess(access: GroupAccess): string {
  return `${toBase64Url(access.challenge)}.${toBase64Url(access.signature)}`;
}

/** Parses {@link formatGroupAccess}. Throws RejectionError `auth/malformed`. */
export function parseGroupAccess(header: string): GroupAccess {
  const [challenge, signature, ...rest] = header.split(".");
  if (rest.length > 0) malformed();
  return {
    challenge: exactBytes(challenge, limits.challengeBytes),
    signature: exactBytes(signature, SIGNATURE_BYTES),
  };
}

const operations = { read: 1, write: 2, "renew-lease": 3 } as const;
export type GroupOperation = keyof typeof operations;

const LABEL = utf8("Murmuration PairwiseGroupAccess 1");

/**
 * The bytes that a member signs (Ed25519) with the group's access key, in TLS presentation:
 *
 *   struct {
 *     opaque label<V> = "Murmuration PairwiseGroupAccess 1";
 *     opaque challenge[32];
 *     opaque group_id[16];
 *     uint8  operation;            // 1 read, 2 write, 3 renew a lease
 *     opaque body_hash[32];        // SHA-256 of the request body, of nothing for a read
 *   } GroupAccessTBS;
 */
export function encodeGroupAccessTbs(parts: {
  readonly challenge: Uint8Array;
  readonly groupId: GroupId;
  readonly operation: GroupOperation;
  readonly bodyHash: Uint8Array;
}): Bytes {
  return new Writer()
    .bytes(LABEL)
    .fixed(parts.challenge)
    .fixed(parts.groupId)
    .uint8(operations[parts.operation])
    .fixed(parts.bodyHash)
    .finish();
}

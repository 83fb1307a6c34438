import {
  type AccountId,
  accountId,
  type Bytes,
  type DeviceAddress,
  type DeviceId,
  deviceId,
  encode,
  equalBytes,
  ID_BYTES,
  type Reader,
  RejectionError,
  refuseUnless,
  type Writer,
} from "@murmuration/base";
import { sha256 } from "@noble/hashes/sha2.js";
import type { Credential } from "../structs/credential.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { RatchetTree } from "../tree/ratchet-tree.ts";
import { decodeForm, readFixed, requireLength } from "./form.ts";

/**
 * Who stands at a leaf of a community: the identity of a `basic` credential (docs/communities.md, Credential).
 *
 *   struct {
 *     uint8  version = 1;
 *     opaque account_id[16];
 *     uint8  device_id;
 *     opaque account_identity_key[33];
 *     opaque device_identity_key[33];
 *     opaque account_signature[64];
 *     opaque key_signature[64];
 *   } MemberCredential;
 */
export interface MemberCredential {
  readonly accountId: AccountId;
  readonly deviceId: DeviceId;
  readonly accountIdentityKey: Bytes;
  readonly deviceIdentityKey: Bytes;
  /** The account key's over the device key, as in the signed device list. */
  readonly accountSignature: Bytes;
  /** The device key's over {@link encodeKeyBinding}, under {@link KEY_BINDING_LABEL}. */
  readonly keySignature: Bytes;
}

/** The label under which a device key signs its KeyBinding. */
export const KEY_BINDING_LABEL = "MlsSignatureKey";

const VERSION = 1;
const KEY_BYTES = 33;
const SIGNATURE_BYTES = 64;
const CREDENTIAL_BYTES = 1 + ID_BYTES + 1 + 2 * KEY_BYTES + 2 * SIGNATURE_BYTES;
/** Where the account id stands in the identity of a credential. */
const ACCOUNT_ID_AT = 1;
const DEVICE_ID_AT = ACCOUNT_ID_AT + ID_BYTES;
const ACCOUNT_KEY_AT = DEVICE_ID_AT + 1;

const MALFORMED = "community/credential-malformed";
const BAD_FIELD = "community/credential-field";

/**
 * Verifies what identity keys signed. Brought by the caller, since only packages/pairwise may import libsignal: its
 * functions of these names fit. False for malformed keys and signatures, never an error.
 */
export interface IdentityVerifier {
  /** The account key vouches for the device key. */
  verifyAlternateIdentity(accountKey: Uint8Array, deviceKey: Uint8Array, signature: Uint8Array): boolean;
  /** A signature of the device key over content under a label. */
  verifyDeviceSignature(
    deviceKey: Uint8Array,
    label: string,
    content: Uint8Array,
    signature: Uint8Array,
  ): boolean;
}

function writeMemberCredential(writer: Writer, credential: MemberCredential): void {
  requireLength(credential.accountId, ID_BYTES, BAD_FIELD);
  for (const key of [credential.accountIdentityKey, credential.deviceIdentityKey]) {
    requireLength(key, KEY_BYTES, BAD_FIELD);
  }
  for (const signature of [credential.accountSignature, credential.keySignature]) {
    requireLength(signature, SIGNATURE_BYTES, BAD_FIELD);
  }
  writer.uint8(VERSION).fixed(credential.accountId).uint8(credential.deviceId);
  writer.fixed(credential.accountIdentityKey).fixed(credential.deviceIdentityKey);
  writer.fixed(credential.accountSignature).fixed(credential.keySignature);
}

function readMemberCredential(reader: Reader): MemberCredential {
  refuseUnless(reader.uint8() === VERSION, MALFORMED);
  return {
    accountId: accountId(reader.fixed(ID_BYTES)),
    deviceId: deviceId(reader.uint8()),
    accountIdentityKey: readFixed(reader, KEY_BYTES),
    deviceIdentityKey: readFixed(reader, KEY_BYTES),
    accountSignature: readFixed(reader, SIGNATURE_BYTES),
    keySignature: readFixed(reader, SIGNATURE_BYTES),
  };
}

/** The credential of a leaf. The same in every group. O(1). Throws UsageError for a field of another length. */
export function encodeMemberCredential(credential: MemberCredential): Credential {
  return { kind: "basic", identity: encode(credential, writeMemberCredential) };
}

/** O(1). Nothing is verified. Throws RejectionError `community/credential-malformed`. */
export function decodeMemberCredential(credential: Credential): MemberCredential {
  return decodeForm(identityOf(credential), MALFORMED, readMemberCredential);
}

/** Which device stands at a leaf: the two fields that say so. Throws RejectionError `community/credential-malformed`. */
export function deviceOf(credential: Credential): DeviceAddress {
  const identity = identityOf(credential);
  const device = identity[DEVICE_ID_AT]!;
  refuseUnless(identity[0] === VERSION && device >= 1 && device <= 127, MALFORMED);
  return {
    accountId: accountId(identity.subarray(ACCOUNT_ID_AT, DEVICE_ID_AT)),
    deviceId: deviceId(device),
  };
}

/** The account identity key without the rest, as a view. For credentials that {@link deviceOf} accepts. */
export function accountKeyOf(credential: Credential): Uint8Array {
  return identityOf(credential).subarray(ACCOUNT_KEY_AT, ACCOUNT_KEY_AT + KEY_BYTES);
}

/** SHA-256 of the account identity key: what an expected account comes in under. For credentials that {@link deviceOf} accepts. */
export function accountFingerprint(credential: Credential): Bytes {
  return new Uint8Array(sha256(accountKeyOf(credential)));
}

function identityOf(credential: Credential): Uint8Array {
  if (credential.kind !== "basic" || credential.identity.length !== CREDENTIAL_BYTES) {
    throw new RejectionError(MALFORMED);
  }
  return credential.identity;
}

/** What a device key signs about the MLS signature key of its leaves. */
export interface KeyBinding {
  readonly accountId: AccountId;
  readonly deviceId: DeviceId;
  readonly accountIdentityKey: Uint8Array;
  readonly signatureKey: Uint8Array;
}

/**
 *   struct {
 *     opaque account_id[16];
 *     uint8  device_id;
 *     opaque account_identity_key[33];
 *     opaque signature_key<V>;
 *   } KeyBinding;
 */
export function encodeKeyBinding(binding: KeyBinding): Bytes {
  return encode(binding, (writer) => {
    requireLength(binding.accountId, ID_BYTES, BAD_FIELD);
    requireLength(binding.accountIdentityKey, KEY_BYTES, BAD_FIELD);
    writer.fixed(binding.accountId).uint8(binding.deviceId);
    writer.fixed(binding.accountIdentityKey).bytes(binding.signatureKey);
  });
}

/**
 * Whether a credential may stand with this signature key (RFC 9420 section 5.3.1): the account vouches for the device,
 * and the device for the key. Two signature verifications. False for a malformed credential.
 */
export function verifyMemberCredential(
  identity: IdentityVerifier,
  credential: Credential,
  signatureKey: Uint8Array,
): boolean {
  let member: MemberCredential;
  try {
    member = decodeMemberCredential(credential);
  } catch (error) {
    if (error instanceof RejectionError) return false;
    throw error;
  }
  const { accountIdentityKey, deviceIdentityKey, accountSignature, keySignature } = member;
  const binding = encodeKeyBinding({ ...member, signatureKey });
  return (
    identity.verifyAlternateIdentity(accountIdentityKey, deviceIdentityKey, accountSignature) &&
    identity.verifyDeviceSignature(deviceIdentityKey, KEY_BINDING_LABEL, binding, keySignature)
  );
}

/** Whether two credentials are of one device with the same identity keys; its signatures may have been made anew. */
export function isSameDevice(a: Credential, b: Credential): boolean {
  if (a.kind !== "basic" || b.kind !== "basic") return false;
  const end = ACCOUNT_KEY_AT + 2 * KEY_BYTES;
  return (
    a.identity.length === CREDENTIAL_BYTES &&
    b.identity.length === CREDENTIAL_BYTES &&
    equalBytes(a.identity.subarray(0, end), b.identity.subarray(0, end))
  );
}

/** Leaves of an account, by rising index. O(their number); the first call in a line of trees makes an index, O(N). */
export function leavesOfAccount(tree: RatchetTree, account: AccountId): LeafIndex[] {
  return tree.leavesByIdentityPart(ACCOUNT_ID_AT, account);
}

/**
 * One change of a group record, signed by the device that made it. In TLS presentation:
 *
 *   struct {
 *     uint8  version = 1;
 *     opaque group_id[16];
 *     uint64 revision;                 // 1 creates the group
 *     opaque previous_hash[32];        // of the change before; zeros for revision 1
 *     opaque author_account[16];
 *     uint8  author_device;
 *     opaque author_device_list<V>;    // signed by the author's account identity key
 *     uint64 at_ms;                    // by the author's clock, for display only
 *     Action action;                   // one byte of kind, then its fields
 *   } ChangeTBS;
 *   struct { opaque tbs<V>; opaque signature<V>; } Change;
 *
 * The hash of a change is SHA-256 over its encoding, signature included. The device list is carried along, so
 * that a change can be verified long after its author has left or replaced devices.
 */
import { createHash } from "node:crypto";
import {
  type AccountId,
  accountId,
  type Bytes,
  type DeviceAddress,
  decodeWhole,
  deviceId,
  encode,
  formatId,
  fromUtf8,
  type GroupId,
  groupId,
  type Reader,
  RejectionError,
  refuseUnless,
  utf8,
  type Writer,
} from "@murmuration/base";
import { verifyDeviceList, verifyDeviceSignature } from "@murmuration/pairwise";
import type { MigrationChange } from "@murmuration/wire";
import type { Role } from "../api.ts";
import {
  HASH_BYTES,
  MAX_EXPIRY_SECONDS,
  MAX_NAME_BYTES,
  MAX_TITLE_BYTES,
  PROFILE_KEY_BYTES,
} from "./content.ts";

const CHANGE_LABEL = "GroupChange 1";
const VERSION = 1;
const STEP = "migrate-";
const ROLES: readonly Role[] = ["member", "admin", "owner"];

/** What the record says of a member when it is added. */
export interface NewMember {
  readonly account: AccountId;
  /** 33 bytes: binds the account id to its key for everybody who reads the record. */
  readonly identityKey: Bytes;
  /** Absent: invited, and becomes a member by joining. */
  readonly profileKey: Bytes | undefined;
  readonly name: string;
}

export type GroupAction =
  | {
      readonly kind: "create";
      readonly title: string;
      readonly expireAfterSeconds: number;
      /** The author first, who becomes the owner. */
      readonly members: readonly NewMember[];
    }
  | { readonly kind: "add"; readonly members: readonly NewMember[] }
  /** An invited account becomes a member. */
  | { readonly kind: "join"; readonly profileKey: Bytes; readonly name: string }
  /** Comes with a new group key and fence. */
  | { readonly kind: "remove"; readonly account: AccountId }
  | { readonly kind: "leave" }
  /** A new group key and fence, after somebody left. */
  | { readonly kind: "rotate" }
  | { readonly kind: "role"; readonly account: AccountId; readonly role: Role }
  | { readonly kind: "title"; readonly title: string }
  | { readonly kind: "expiry"; readonly seconds: number }
  /** A member has a new profile key or name. */
  | { readonly kind: "profile"; readonly profileKey: Bytes; readonly name: string }
  | MigrationAction;

/** The steps by which a group moves to MLS (docs/adr/0009). The author of `migrate-prepare` is the creator. */
export type MigrationAction =
  | { readonly kind: "migrate-prepare"; readonly generation: number }
  | { readonly kind: "migrate-ready"; readonly generation: number }
  | { readonly kind: "migrate-abort"; readonly generation: number }
  /** Comes with a new fence that nobody knows: from here on nothing is said pairwise. */
  | ({ readonly kind: "migrate-switch"; readonly generation: number } & SwitchPoint)
  | { readonly kind: "migrate-done"; readonly generation: number }
  | { readonly kind: "migrate-recover"; readonly generation: number };

/** Where in the MLS group the conversation goes on. */
export interface SwitchPoint {
  /** Begun by the switching commit. */
  readonly epoch: number;
  /** Epoch authenticator (RFC 9420 8.7) of that epoch, 32 bytes. */
  readonly authenticator: Bytes;
  /** What the PSK of the switching commit is bound to, 32 bytes. */
  readonly rosterHash: Bytes;
}

export interface ChangeFields {
  readonly groupId: GroupId;
  readonly revision: number;
  readonly previousHash: Bytes;
  readonly author: DeviceAddress;
  readonly authorDeviceList: Bytes;
  readonly atMs: number;
  readonly action: GroupAction;
}

/** A change whose signature was verified, and whose author's account key is known from its device list. */
export interface VerifiedChange extends ChangeFields {
  readonly encoded: Bytes;
  readonly hash: Bytes;
  readonly authorAccountKey: Bytes;
}

const KINDS = [
  "create",
  "add",
  "join",
  "remove",
  "leave",
  "rotate",
  "role",
  "title",
  "expiry",
  "profile",
  "migrate-prepare",
  "migrate-ready",
  "migrate-abort",
  "migrate-switch",
  "migrate-done",
  "migrate-recover",
] as const satisfies readonly GroupAction["kind"][];

/** True for actions that replace group key, access key and fence. */
export function startsGeneration(action: GroupAction): boolean {
  return action.kind === "create" || action.kind === "remove" || action.kind === "rotate";
}

/** The step of a migration that a change is; undefined for any other change. */
export function migrationStepOf(action: GroupAction): MigrationAction | undefined {
  return action.kind.startsWith(STEP) ? (action as MigrationAction) : undefined;
}

/** The same by its name in the table of transitions. */
export function migrationChangeOf(action: GroupAction): MigrationChange | undefined {
  return migrationStepOf(action)?.kind.slice(STEP.length) as MigrationChange | undefined;
}

function readText(reader: Reader, max: number): string {
  const bytes = reader.bytes();
  if (bytes.length > max) throw new RejectionError("group/field-too-large");
  try {
    return fromUtf8(bytes);
  } catch {
    throw new RejectionError("group/malformed");
  }
}

function writeMember(writer: Writer, member: NewMember): void {
  writer.fixed(member.account).fixed(member.identityKey);
  writer.optional(member.profileKey, (inner, key) => void inner.fixed(key)).bytes(utf8(member.name));
}

const IDENTITY_KEY_BYTES = 33;

function readMember(reader: Reader): NewMember {
  return {
    account: accountId(reader.fixed(16)),
    identityKey: new Uint8Array(reader.fixed(IDENTITY_KEY_BYTES)),
    profileKey: reader.optional((inner) => new Uint8Array(inner.fixed(PROFILE_KEY_BYTES))),
    name: readText(reader, MAX_NAME_BYTES),
  };
}

function writeAction(writer: Writer, action: GroupAction): void {
  writer.uint8(KINDS.indexOf(action.kind) + 1);
  switch (action.kind) {
    case "create":
      writer.bytes(utf8(action.title)).uint32(action.expireAfterSeconds).vector(action.members, writeMember);
      break;
    case "add":
      writer.vector(action.members, writeMember);
      break;
    case "join":
    case "profile":
      writer.fixed(action.profileKey).bytes(utf8(action.name));
      break;
    case "remove":
      writer.fixed(action.account);
      break;
    case "role":
      writer.fixed(action.account).uint8(ROLES.indexOf(action.role));
      break;
    case "title":
      writer.bytes(utf8(action.title));
      break;
    case "expiry":
      writer.uint32(action.seconds);
      break;
    case "migrate-switch":
      writer.uint32(action.generation).uint64(BigInt(action.epoch));
      writer.fixed(action.authenticator).fixed(action.rosterHash);
      break;
    case "migrate-prepare":
    case "migrate-ready":
    case "migrate-abort":
    case "migrate-done":
    case "migrate-recover":
      writer.uint32(action.generation);
      break;
    default:
  }
}

function readSeconds(reader: Reader): number {
  const seconds = reader.uint32();
  refuseUnless(seconds <= MAX_EXPIRY_SECONDS, "group/malformed");
  return seconds;
}

function readAction(reader: Reader): GroupAction {
  const kind = KINDS[reader.uint8() - 1];
  switch (kind) {
    case "create":
      return {
        kind,
        title: readText(reader, MAX_TITLE_BYTES),
        expireAfterSeconds: readSeconds(reader),
        members: reader.vector(readMember),
      };
    case "add":
      return { kind, members: reader.vector(readMember) };
    case "join":
    case "profile": {
      const profileKey = new Uint8Array(reader.fixed(PROFILE_KEY_BYTES));
      return { kind, profileKey, name: readText(reader, MAX_NAME_BYTES) };
    }
    case "remove":
      return { kind, account: accountId(reader.fixed(16)) };
    case "role": {
      const account = accountId(reader.fixed(16));
      const role = ROLES[reader.uint8()];
      if (role === undefined) throw new RejectionError("group/malformed");
      return { kind, account, role };
    }
    case "title":
      return { kind, title: readText(reader, MAX_TITLE_BYTES) };
    case "expiry":
      return { kind, seconds: readSeconds(reader) };
    case "leave":
    case "rotate":
      return { kind };
    case "migrate-switch":
      return {
        kind,
        generation: reader.uint32(),
        epoch: readSafe(reader),
        authenticator: new Uint8Array(reader.fixed(HASH_BYTES)),
        rosterHash: new Uint8Array(reader.fixed(HASH_BYTES)),
      };
    case "migrate-prepare":
    case "migrate-ready":
    case "migrate-abort":
    case "migrate-done":
    case "migrate-recover":
      return { kind, generation: reader.uint32() };
    default:
      throw new RejectionError("group/unknown-action");
  }
}

function encodeTbs(fields: ChangeFields): Bytes {
  return encode(fields, (writer) => {
    writer.uint8(VERSION).fixed(fields.groupId).uint64(BigInt(fields.revision)).fixed(fields.previousHash);
    writer.fixed(fields.author.accountId).uint8(fields.author.deviceId).bytes(fields.authorDeviceList);
    writer.uint64(BigInt(fields.atMs));
    writeAction(writer, fields.action);
  });
}

function readSafe(reader: Reader): number {
  const value = reader.uint64();
  refuseUnless(value <= BigInt(Number.MAX_SAFE_INTEGER), "group/malformed");
  return Number(value);
}

function decodeTbs(input: Uint8Array): ChangeFields {
  return decodeWhole(input, (reader) => {
    refuseUnless(reader.uint8() === VERSION, "group/unknown-version");
    return {
      groupId: groupId(reader.fixed(16)),
      revision: readSafe(reader),
      previousHash: new Uint8Array(reader.fixed(HASH_BYTES)),
      author: { accountId: accountId(reader.fixed(16)), deviceId: deviceId(reader.uint8()) },
      authorDeviceList: new Uint8Array(reader.bytes()),
      atMs: readSafe(reader),
      action: readAction(reader),
    };
  });
}

/** Encodes and signs a change. `signer` signs with the device's identity key under a label. */
export function createChange(
  fields: ChangeFields,
  signer: (label: string, content: Uint8Array) => Bytes,
): { readonly encoded: Bytes; readonly hash: Bytes } {
  const tbs = encodeTbs(fields);
  const signature = signer(CHANGE_LABEL, tbs);
  const encoded = encode(tbs, (writer) => void writer.bytes(tbs).bytes(signature));
  return { encoded, hash: hashChange(encoded) };
}

export function hashChange(encoded: Uint8Array): Bytes {
  return new Uint8Array(createHash("sha256").update(encoded).digest());
}

/**
 * Decodes a change and verifies that the device it names signed it and that the named account vouches for that
 * device. Whether the account may make the change is for the record to say. About four signature checks.
 * Throws RejectionError with a `group/`, `coder/`, `id/` or `device-list/` code.
 */
export function verifyChange(encoded: Uint8Array): VerifiedChange {
  const { tbs, signature } = decodeWhole(encoded, (reader) => ({
    tbs: reader.bytes(),
    signature: reader.bytes(),
  }));
  const fields = decodeTbs(tbs);
  const list = verifyDeviceList(fields.authorDeviceList);
  refuseUnless(formatId(list.accountId) === formatId(fields.author.accountId), "group/foreign-device-list");
  const device = list.devices.find((listed) => listed.deviceId === fields.author.deviceId);
  refuseUnless(device !== undefined, "group/unlisted-device");
  refuseUnless(
    verifyDeviceSignature(device.identityKey, CHANGE_LABEL, tbs, signature),
    "group/bad-signature",
  );
  const copy = new Uint8Array(encoded);
  return { ...fields, encoded: copy, hash: hashChange(copy), authorAccountKey: list.accountIdentityKey };
}

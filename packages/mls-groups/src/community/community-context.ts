import {
  type AccountId,
  accountId,
  type Bytes,
  compareBytes,
  encode,
  equalBytes,
  ID_BYTES,
  type Reader,
  RejectionError,
  refuseUnless,
  UsageError,
  type Writer,
} from "@murmuration/base";
import type { LeafOptions } from "../group/key-package.ts";
import { credentialTypes, MLS10, proposalTypes } from "../structs/code-points.ts";
import { type Extension, findExtension, requiredCapabilitiesExtension } from "../structs/extension.ts";
import { decodeForm, readFixed, requireLength } from "./form.ts";

/** Extension of the GroupContext, of the private range. */
export const COMMUNITY_CONTEXT_EXTENSION = 0xf0a1;
/** Extension of a leaf that joined by a link. */
export const JOIN_TICKET_EXTENSION = 0xf0a2;
/** Extension of the GroupInfo in a Welcome, which only those who are added can read. */
export const GROUP_PROFILE_EXTENSION = 0xf0a3;

/** Accounts that hold a role, at the most. */
export const MAX_ROLE_HOLDERS = 50;
/** Invite links that are open at a time, at the most. */
export const MAX_LINKS = 16;
export const LINK_ID_BYTES = 16;
const LINK_KEY_BYTES = 32;
/** Accounts that may be expected at a time, at the most. */
export const MAX_EXPECTED = 256;
/** SHA-256. */
const HASH_BYTES = 32;

/** What an account may do. Several devices of an account act alike. */
export type Role = "member" | "admin" | "owner";
const roles: readonly Role[] = ["member", "admin", "owner"];

/** Whether `role` may do what `least` may. */
export function reaches(role: Role, least: Role): boolean {
  return roles.indexOf(role) >= roles.indexOf(least);
}

export interface RoleHolder {
  readonly accountId: AccountId;
  readonly role: "admin" | "owner";
}

/** A door of the group: who has the link's private key may join by external commit. */
export interface InviteLink {
  readonly linkId: Bytes;
  /** Ed25519, whatever the group's cipher suite. */
  readonly publicKey: Bytes;
  /** Leaves that may carry the link's id; 0 for any number. */
  readonly maxUses: number;
  /** Whether an admin's leaf has to approve each joiner. */
  readonly approval: boolean;
  /** From when on it lets nobody in, milliseconds since 1970; 0: it never expires. */
  readonly expiresAtMs: number;
}

/**
 * An account that was left behind when its conversation moved to MLS: its devices come in by external commit without a
 * link. A name alone would let a service that forges a registration of that name in.
 */
export interface ExpectedAccount {
  readonly accountId: AccountId;
  /** SHA-256 of the account identity key, as the conversation's record had it. */
  readonly fingerprint: Bytes;
}

/** What all members of a community agree on beside RFC 9420 (docs/communities.md, Group context). */
export interface CommunityContext {
  /** Of the protocol that carries the conversation: never goes back. */
  readonly generation: number;
  /** By rising account id, at least one owner. */
  readonly roleHolders: readonly RoleHolder[];
  /** By rising link id. */
  readonly links: readonly InviteLink[];
  /** The least role that may add other accounts. */
  readonly addBy: Role;
  /** The least role that may change the group profile. */
  readonly profileBy: Role;
  /** Only admins and owners send. */
  readonly announcementOnly: boolean;
  readonly slowModeSeconds: number;
  /** By link; 0 for any number. */
  readonly joinsPerMinute: number;
  readonly expireAfterSeconds: number;
  /** SHA-256 of the ban list ({@link BanList.hash}); empty without one. */
  readonly banListHash: Bytes;
  /** SHA-256 of the group profile; empty without one. */
  readonly profileHash: Bytes;
  /** By rising account id. Who is banned is not expected, whatever stands here. */
  readonly expected: readonly ExpectedAccount[];
  /** The conversation does not go by this group yet: nothing that is said in it counts. Never comes back. */
  readonly preparing: boolean;
}

/** Of a context in which no link expires, nobody is expected and nothing is prepared. */
const VERSION = 1;
/** Of another one in which no link expires. */
const VERSION_OF_MIGRATION = 2;
/** Of one in which some link does. */
const VERSION_OF_EXPIRY = 3;
const MALFORMED = "community/context-malformed";
const INVALID = "community/context-invalid";

function readRole(reader: Reader): Role {
  const role = roles[reader.uint8()];
  if (role === undefined) throw new RejectionError(MALFORMED);
  return role;
}

function readRoleHolder(reader: Reader): RoleHolder {
  const account = accountId(reader.fixed(ID_BYTES));
  const role = readRole(reader);
  if (role === "member") throw new RejectionError(MALFORMED);
  return { accountId: account, role };
}

function readFlag(reader: Reader): boolean {
  const value = reader.uint8();
  refuseUnless(value <= 1, MALFORMED);
  return value === 1;
}

function readLink(reader: Reader, version: number): InviteLink {
  return {
    linkId: readFixed(reader, LINK_ID_BYTES),
    publicKey: readFixed(reader, LINK_KEY_BYTES),
    maxUses: reader.uint32(),
    approval: readFlag(reader),
    expiresAtMs: version === VERSION_OF_EXPIRY ? readTime(reader) : 0,
  };
}

/** Milliseconds since 1970. A time that no number holds exactly would be encoded as another one. */
function readTime(reader: Reader): number {
  const time = Number(reader.uint64());
  refuseUnless(Number.isSafeInteger(time), MALFORMED);
  return time;
}

function readHash(reader: Reader): Bytes {
  const hash = reader.bytes();
  refuseUnless(hash.length === 0 || hash.length === HASH_BYTES, MALFORMED);
  return new Uint8Array(hash);
}

/** A vector that is refused before its limit is passed, not after it was read. */
function readAtMost<T>(reader: Reader, most: number, element: (reader: Reader) => T): T[] {
  let count = 0;
  return reader.vector((inner) => {
    refuseUnless(++count <= most, MALFORMED);
    return element(inner);
  });
}

function readExpected(reader: Reader): ExpectedAccount {
  return { accountId: accountId(reader.fixed(ID_BYTES)), fingerprint: readFixed(reader, HASH_BYTES) };
}

function readContext(reader: Reader): CommunityContext {
  const version = reader.uint8();
  refuseUnless(version >= VERSION && version <= VERSION_OF_EXPIRY, MALFORMED);
  const migrates = version !== VERSION;
  const context = {
    generation: reader.uint32(),
    roleHolders: readAtMost(reader, MAX_ROLE_HOLDERS, readRoleHolder),
    links: readAtMost(reader, MAX_LINKS, (inner) => readLink(inner, version)),
    addBy: readRole(reader),
    profileBy: readRole(reader),
    announcementOnly: readFlag(reader),
    slowModeSeconds: reader.uint32(),
    joinsPerMinute: reader.uint32(),
    expireAfterSeconds: reader.uint32(),
    banListHash: readHash(reader),
    profileHash: readHash(reader),
    expected: migrates ? readAtMost(reader, MAX_EXPECTED, readExpected) : [],
    preparing: migrates && readFlag(reader),
  };
  // One encoding for each context.
  refuseUnless(isCanonical(context) && versionOf(context) === version, MALFORMED);
  return context;
}

function versionOf({ expected, links, preparing }: CommunityContext): number {
  if (links.some(({ expiresAtMs }) => expiresAtMs !== 0)) return VERSION_OF_EXPIRY;
  return expected.length > 0 || preparing ? VERSION_OF_MIGRATION : VERSION;
}

/** Rising ids, an owner, and no more than fits. */
function isCanonical({ expected, roleHolders, links }: CommunityContext): boolean {
  const rises = (ids: readonly Uint8Array[]) =>
    ids.every((id, i) => i === 0 || compareBytes(ids[i - 1]!, id) < 0);
  return (
    roleHolders.length <= MAX_ROLE_HOLDERS &&
    links.length <= MAX_LINKS &&
    expected.length <= MAX_EXPECTED &&
    rises(expected.map((one) => one.accountId)) &&
    rises(roleHolders.map((holder) => holder.accountId)) &&
    rises(links.map(({ linkId }) => linkId)) &&
    roleHolders.some(({ role }) => role === "owner")
  );
}

function writeRole(writer: Writer, role: Role): void {
  writer.uint8(roles.indexOf(role));
}

function writeContext(writer: Writer, context: CommunityContext): void {
  const version = versionOf(context);
  writer.uint8(version).uint32(context.generation);
  writer.vector(context.roleHolders, (w, holder) => writeRole(w.fixed(holder.accountId), holder.role));
  writer.vector(context.links, (w, link) => {
    w.fixed(link.linkId).fixed(link.publicKey).uint32(link.maxUses).uint8(Number(link.approval));
    if (version === VERSION_OF_EXPIRY) w.uint64(BigInt(link.expiresAtMs));
  });
  writeRole(writer, context.addBy);
  writeRole(writer, context.profileBy);
  writer.uint8(Number(context.announcementOnly)).uint32(context.slowModeSeconds);
  writer.uint32(context.joinsPerMinute).uint32(context.expireAfterSeconds);
  writer.bytes(context.banListHash).bytes(context.profileHash);
  if (version === VERSION) return;
  writer.vector(context.expected, (w, one) => w.fixed(one.accountId).fixed(one.fingerprint));
  writer.uint8(Number(context.preparing));
}

function isUint32(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff;
}

function requireFields(context: CommunityContext): void {
  for (const holder of context.roleHolders) requireLength(holder.accountId, ID_BYTES, INVALID);
  for (const { linkId, publicKey } of context.links) {
    requireLength(linkId, LINK_ID_BYTES, INVALID);
    requireLength(publicKey, LINK_KEY_BYTES, INVALID);
  }
  for (const { accountId: account, fingerprint } of context.expected) {
    requireLength(account, ID_BYTES, INVALID);
    requireLength(fingerprint, HASH_BYTES, INVALID);
  }
  for (const hash of [context.banListHash, context.profileHash]) {
    if (hash.length > 0) requireLength(hash, HASH_BYTES, INVALID);
  }
  const numbers = [
    context.generation,
    context.slowModeSeconds,
    context.joinsPerMinute,
    context.expireAfterSeconds,
    ...context.links.map(({ maxUses }) => maxUses),
  ];
  const isTime = (value: number) => Number.isSafeInteger(value) && value >= 0;
  const times = context.links.map(({ expiresAtMs }) => expiresAtMs);
  if (!numbers.every(isUint32) || !times.every(isTime) || !isCanonical(context))
    throw new UsageError(INVALID);
}

/**
 * The one encoding of a context: role holders, links and expected accounts are put in order. O(their number), which is bounded. Throws
 * UsageError `community/context-invalid` for what {@link decodeCommunityContext} would refuse.
 */
export function encodeCommunityContext(context: CommunityContext): Bytes {
  const ordered = {
    ...context,
    roleHolders: [...context.roleHolders].sort((a, b) => compareBytes(a.accountId, b.accountId)),
    links: [...context.links].sort((a, b) => compareBytes(a.linkId, b.linkId)),
    expected: [...context.expected].sort((a, b) => compareBytes(a.accountId, b.accountId)),
  };
  requireFields(ordered);
  return encode(ordered, writeContext, 1024);
}

/** O(role holders and links), which are bounded. Throws RejectionError `community/context-malformed`. */
export function decodeCommunityContext(data: Uint8Array): CommunityContext {
  return decodeForm(data, MALFORMED, readContext);
}

const known = new WeakMap<readonly Extension[], CommunityContext>();

/**
 * The context of a community among the extensions of its GroupContext; decoded once for each list, which is not
 * changed. Throws RejectionError `community/context-malformed` when there is none.
 */
export function communityContextOf(extensions: readonly Extension[]): CommunityContext {
  const before = known.get(extensions);
  if (before !== undefined) return before;
  const data = findExtension(extensions, COMMUNITY_CONTEXT_EXTENSION);
  if (data === undefined) throw new RejectionError(MALFORMED, "no such extension");
  const context = decodeCommunityContext(data);
  known.set(extensions, context);
  return context;
}

/** What every leaf of a community supports beyond the default types. */
const requiredOfAll = requiredCapabilitiesExtension({
  extensionTypes: [COMMUNITY_CONTEXT_EXTENSION, JOIN_TICKET_EXTENSION],
  proposalTypes: [proposalTypes.self_remove],
  credentialTypes: [credentialTypes.basic],
});

/** The extensions of a community's GroupContext: these two and no others. */
export function communityExtensions(context: CommunityContext): Extension[] {
  return [
    { type: requiredOfAll.type, data: requiredOfAll.data.slice() },
    { type: COMMUNITY_CONTEXT_EXTENSION, data: encodeCommunityContext(context) },
  ];
}

/** Whether these are the extensions of a community, its context aside: required_capabilities as above, nothing else. */
export function areCommunityExtensions(extensions: readonly Extension[]): boolean {
  const required = findExtension(extensions, requiredOfAll.type);
  return (
    extensions.length === 2 &&
    required !== undefined &&
    equalBytes(required, requiredOfAll.data) &&
    findExtension(extensions, COMMUNITY_CONTEXT_EXTENSION) !== undefined
  );
}

/**
 * What a leaf of a community says about itself: cipher suite 1 and what {@link communityExtensions} requires. Each byte
 * of it is paid for in every leaf of every tree.
 */
export const communityLeaf: LeafOptions = {
  capabilities: {
    versions: [MLS10],
    cipherSuites: [1],
    extensions: [COMMUNITY_CONTEXT_EXTENSION, JOIN_TICKET_EXTENSION],
    proposals: [proposalTypes.self_remove],
    credentials: [credentialTypes.basic],
  },
};

/** The role of an account, member or not. O(role holders), at most 50. */
export function roleOf(context: CommunityContext, account: AccountId): Role {
  return context.roleHolders.find((holder) => equalBytes(holder.accountId, account))?.role ?? "member";
}

/** The link with this id. O(links), at most 16. */
export function linkOf(
  { links }: Pick<CommunityContext, "links">,
  linkId: Uint8Array,
): InviteLink | undefined {
  return links.find((link) => equalBytes(link.linkId, linkId));
}

/** Whether a link lets nobody in any more at this time, milliseconds since 1970. */
export function linkHasExpired({ expiresAtMs }: Pick<InviteLink, "expiresAtMs">, atMs: number): boolean {
  return expiresAtMs !== 0 && atMs >= expiresAtMs;
}

/** The entry of an account that may come in by external commit without a link. O(expected), at most 256. */
export function expectedAccount(
  { expected }: Pick<CommunityContext, "expected">,
  account: AccountId,
): ExpectedAccount | undefined {
  return expected.find((one) => equalBytes(one.accountId, account));
}

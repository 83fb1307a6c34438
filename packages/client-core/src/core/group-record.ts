/**
 * The record of a pairwise group: a hash chain of signed changes. Applying them in order gives the state; every
 * member applies the same rules, so the delivery service can neither invent nor drop a change, nor go back
 * behind what a member has seen.
 *
 *   who may        owner: everything.  admin: add, remove members, title, expiry, rotate, migrate.
 *                  member: leave, profile.  invited: join, leave.
 *
 * A group with members has an owner: when the last one leaves, the first admin by account id becomes owner, else the
 * first member; where only invited ones are left, the first of them who joins. A rule that refuses throws
 * RejectionError; the state before stays.
 */
import {
  type AccountId,
  type Bytes,
  compareBytes,
  type DeviceAddress,
  decodeWhole,
  encode,
  equalBytes,
  formatId,
  type GroupId,
  RejectionError,
  refuseUnless,
} from "@murmuration/base";
import {
  beginsLease,
  hasSwitched,
  type MigrationState,
  migrationTransition,
  nextMigration,
  takesOtherChanges,
} from "@murmuration/wire";
import type { Notice, Role } from "../api.ts";
import { HASH_BYTES } from "./content.ts";
import {
  type GroupAction,
  type MigrationAction,
  migrationChangeOf,
  migrationStepOf,
  type NewMember,
  type SwitchPoint,
  type VerifiedChange,
  verifyChange,
} from "./group-change.ts";

/** Accounts that a pairwise group can have; from here on it has to be an MLS group. */
export const MAX_PAIRWISE_MEMBERS = 256;

export interface RecordMember {
  readonly account: AccountId;
  readonly role: Role;
  readonly invited: boolean;
  readonly identityKey: Bytes;
}

export interface GroupState {
  readonly groupId: GroupId;
  readonly revision: number;
  readonly hash: Bytes;
  readonly title: string;
  readonly expireAfterSeconds: number;
  /** By account id as text. */
  readonly members: ReadonlyMap<string, RecordMember>;
  /**
   * Revision of the newest change after which no new key was drawn, though somebody may have the present one who should not: a
   * member left, or a device of this account is gone. 0 for none.
   */
  readonly rotateAfter: number;
  readonly migration: RecordMigration;
}

/** How far the group's move to MLS is, as its record says (docs/migration.md). */
export interface RecordMigration {
  readonly state: MigrationState;
  /** Rises with each attempt and is never used again; 0 before the first. */
  readonly generation: number;
  /** The device that makes, or made, the MLS group of this generation; undefined before the first. */
  readonly creator: DeviceAddress | undefined;
  /** From the switch on. */
  readonly switchPoint: SwitchPoint | undefined;
}

export const noMigration: RecordMigration = {
  state: "pairwise",
  generation: 0,
  creator: undefined,
  switchPoint: undefined,
};

/** Before the first change. */
export function emptyGroup(groupId: GroupId): GroupState {
  return {
    groupId,
    revision: 0,
    hash: new Uint8Array(HASH_BYTES),
    title: "",
    expireAfterSeconds: 0,
    members: new Map(),
    rotateAfter: 0,
    migration: noMigration,
  };
}

const rank = (role: Role): number => ["member", "admin", "owner"].indexOf(role);

/** Applies one verified change. Throws RejectionError `group/…` where chain or roles do not allow it. */
export function applyChange(state: GroupState, change: VerifiedChange): GroupState {
  refuseUnless(formatId(change.groupId) === formatId(state.groupId), "group/foreign-change");
  refuseUnless(change.revision === state.revision + 1, "group/revision-gap");
  refuseUnless(equalBytes(change.previousHash, state.hash), "group/chain-broken");
  refuseUnless((change.action.kind === "create") === (state.revision === 0), "group/not-the-beginning");
  const author = state.members.get(formatId(change.author.accountId));
  if (change.action.kind !== "create") {
    refuseUnless(author !== undefined || saysOnlyThatAllIsDone(change), "group/author-not-a-member");
    const isKnown = author === undefined || equalBytes(author.identityKey, change.authorAccountKey);
    refuseUnless(isKnown, "group/author-key-mismatch");
  }
  const base = { ...state, revision: change.revision, hash: change.hash };
  return applyAction(base, change.action, change, author);
}

/**
 * Behind the switch members go by the MLS group, and those who have still to follow by the record: who is in, and with which
 * role, is not the same for both. That all is done opens nothing to anybody, and whoever says it, it must not part them.
 */
const saysOnlyThatAllIsDone = ({ action }: VerifiedChange): boolean => action.kind === "migrate-done";

function applyAction(
  state: GroupState,
  action: GroupAction,
  change: VerifiedChange,
  author: RecordMember | undefined,
): GroupState {
  if (action.kind === "create") return create(state, action, change);
  if (action.kind === "migrate-done")
    return { ...state, migration: migrate(state.migration, action, change.author) };
  if (author === undefined) throw new RejectionError("group/author-not-a-member");
  const self = formatId(author.account);
  const step = migrationStepOf(action);
  const isRemoval = action.kind === "remove" && takesOtherChanges(state.migration.state);
  refuseUnless(step !== undefined || isRemoval || !hasSwitched(state.migration.state), "group/migrated");
  switch (action.kind) {
    case "join":
      refuseUnless(author.invited, "group/already-a-member");
      return withOwner(withMember(state, { ...author, invited: false }));
    case "leave":
      return leave(state, self, change.revision);
    default:
  }
  refuseUnless(!author.invited, "group/not-joined");
  if (step !== undefined) {
    requireRole(author, "admin");
    return { ...state, migration: migrate(state.migration, step, change.author) };
  }
  switch (action.kind) {
    case "profile":
      return state;
    case "add":
      requireRole(author, "admin");
      return add(state, action.members);
    case "remove": {
      const removed = state.members.get(formatId(action.account));
      // Whoever had gone over knows who has left since. For those who had not, they are here, and can be removed.
      if (removed === undefined && state.migration.state === "recovering") {
        requireRole(author, "admin");
        return { ...state, rotateAfter: 0 };
      }
      refuseUnless(removed !== undefined, "group/no-such-member");
      refuseUnless(formatId(action.account) !== self, "group/leave-instead");
      requireRole(author, removed.role === "member" ? "admin" : "owner");
      return { ...without(state, formatId(action.account)), rotateAfter: 0 };
    }
    case "rotate":
      requireRole(author, "admin");
      return { ...state, rotateAfter: 0 };
    case "role": {
      requireRole(author, "owner");
      const member = state.members.get(formatId(action.account));
      refuseUnless(member !== undefined && !member.invited, "group/no-such-member");
      const next = withMember(state, { ...member, role: action.role });
      refuseUnless([...next.members.values()].some(isOwner), "group/last-owner");
      return next;
    }
    case "title":
      requireRole(author, "admin");
      return { ...state, title: action.title };
    case "expiry":
      requireRole(author, "admin");
      return { ...state, expireAfterSeconds: action.seconds };
    default:
      throw new RejectionError("group/unknown-action");
  }
}

/**
 * One step of the table of docs/migration.md, as far as members judge it: leases and fences are the service's, roles the
 * caller's. RejectionError `migration/not-possible`, `migration/wrong-generation`, `migration/not-the-creator`.
 */
function migrate(before: RecordMigration, step: MigrationAction, author: DeviceAddress): RecordMigration {
  const change = migrationChangeOf(step);
  const next = change === undefined ? undefined : nextMigration(before, change);
  refuseUnless(change !== undefined && next !== undefined, "migration/not-possible");
  refuseUnless(step.generation === next.generation, "migration/wrong-generation");
  if (beginsLease(change)) return { ...next, creator: author, switchPoint: undefined };
  const byCreator = migrationTransition(before.state, change)?.who === "lease-holder";
  refuseUnless(!byCreator || isSameDevice(before.creator, author), "migration/not-the-creator");
  const switchPoint = step.kind === "migrate-switch" ? pointOf(step) : before.switchPoint;
  return { ...before, ...next, switchPoint };
}

const pointOf = ({ epoch, authenticator, rosterHash }: SwitchPoint): SwitchPoint => ({
  epoch,
  authenticator,
  rosterHash,
});

const isSameDevice = (a: DeviceAddress | undefined, b: DeviceAddress): boolean =>
  a !== undefined && equalBytes(a.accountId, b.accountId) && a.deviceId === b.deviceId;

const isOwner = (member: RecordMember): boolean => member.role === "owner" && !member.invited;

function requireRole(author: RecordMember, role: Role): void {
  refuseUnless(rank(author.role) >= rank(role), "group/role-too-low");
}

function withMember(state: GroupState, member: RecordMember): GroupState {
  return { ...state, members: new Map(state.members).set(formatId(member.account), member) };
}

function without(state: GroupState, account: string): GroupState {
  const members = new Map(state.members);
  members.delete(account);
  return { ...state, members };
}

function create(
  state: GroupState,
  action: Extract<GroupAction, { kind: "create" }>,
  change: VerifiedChange,
): GroupState {
  const [first] = action.members;
  refuseUnless(first !== undefined, "group/without-members");
  refuseUnless(formatId(first.account) === formatId(change.author.accountId), "group/creator-not-first");
  refuseUnless(equalBytes(first.identityKey, change.authorAccountKey), "group/author-key-mismatch");
  refuseUnless(first.profileKey !== undefined, "group/creator-not-joined");
  const filled = add(
    { ...state, title: action.title, expireAfterSeconds: action.expireAfterSeconds },
    action.members,
  );
  const owner = filled.members.get(formatId(first.account));
  refuseUnless(owner !== undefined, "group/creator-not-first");
  return withMember(filled, { ...owner, role: "owner" });
}

function add(state: GroupState, added: readonly NewMember[]): GroupState {
  const members = new Map(state.members);
  for (const { account, identityKey, profileKey } of added) {
    const key = formatId(account);
    refuseUnless(!members.has(key), "group/member-twice");
    const invited = profileKey === undefined;
    members.set(key, { account, role: "member", invited, identityKey });
  }
  refuseUnless(added.length > 0, "group/without-members");
  refuseUnless(members.size <= MAX_PAIRWISE_MEMBERS, "group/too-many-members");
  return { ...state, members };
}

function leave(state: GroupState, self: string, revision: number): GroupState {
  const invited = state.members.get(self)?.invited === true;
  const rest = without(state, self);
  return withOwner(invited ? rest : { ...rest, rotateAfter: revision });
}

/** Somebody becomes owner where members are there and none of them is. O(members). */
export function withOwner(state: GroupState): GroupState {
  const present = [...state.members.values()].filter((member) => !member.invited);
  if (present.length === 0 || present.some(isOwner)) return state;
  const sorted = present.sort((a, b) => compareBytes(a.account, b.account));
  const heir = sorted.find((member) => member.role === "admin") ?? sorted[0]!;
  return withMember(state, { ...heir, role: "owner" });
}

// ------------------------------------------------------------------------------------------------- the blob

/** The plaintext of a record: every change since the group was created. */
export function encodeRecord(changes: readonly Uint8Array[]): Bytes {
  return encode(
    changes,
    (writer, all) => void writer.vector(all, (inner, change) => void inner.bytes(change)),
  );
}

/** The encoded changes of a record. Nothing is verified yet. */
export function splitRecord(plaintext: Uint8Array): readonly Bytes[] {
  return decodeWhole(plaintext, (reader) => reader.vector((inner) => new Uint8Array(inner.bytes())));
}

/**
 * Verifies and applies a whole chain. O(changes), four signature checks each. Throws RejectionError; also
 * `group/revision-mismatch` when the chain's length is not the revision that the service names.
 */
export function replayRecord(groupId: GroupId, revision: number, changes: readonly Bytes[]): GroupState {
  refuseUnless(changes.length === revision, "group/revision-mismatch");
  return changes.reduce<GroupState>(
    (state, encoded) => applyChange(state, verifyChange(encoded)),
    emptyGroup(groupId),
  );
}

/** What is remembered of a record: no older one, and no other past, is accepted from then on. */
export interface Remembered {
  readonly revision: number;
  readonly hash: Bytes;
}

/**
 * Checks that a chain continues what is remembered. Throws RejectionError `group/rolled-back` for a shorter one
 * and `group/forked` for another past.
 */
export function checkContinues(
  changes: readonly Uint8Array[],
  hashes: readonly Bytes[],
  known: Remembered,
): void {
  if (known.revision === 0) return;
  refuseUnless(changes.length >= known.revision, "group/rolled-back");
  const then = hashes[known.revision - 1];
  refuseUnless(then !== undefined && equalBytes(then, known.hash), "group/forked");
}

// -------------------------------------------------------------------------------------------------- notices

/** What a change looks like in the history. */
export function noticesOf(before: GroupState, after: GroupState, change: VerifiedChange): readonly Notice[] {
  const { action } = change;
  const author = formatId(change.author.accountId);
  switch (action.kind) {
    case "create":
      return [{ code: "group/created" }];
    case "add":
      return action.members.map(({ account, profileKey }) => ({
        code: profileKey === undefined ? "group/member-invited" : "group/member-added",
        account: formatId(account),
      }));
    case "join":
      return [{ code: "group/member-joined", account: author }, ...heirNotices(before, after)];
    case "remove": {
      const account = formatId(action.account);
      return before.members.has(account) ? [{ code: "group/member-removed", account }] : [];
    }
    case "leave":
      return [{ code: "group/member-left", account: author }, ...heirNotices(before, after)];
    case "role":
      return [{ code: "group/role-changed", account: formatId(action.account), role: action.role }];
    case "title":
      return [{ code: "group/title-changed", title: action.title }];
    case "expiry":
      return [{ code: "conversation/expiry-changed", seconds: action.seconds }];
    default:
      return [];
  }
}

/** Of who became owner because nobody was any more. */
function heirNotices(before: GroupState, after: GroupState): readonly Notice[] {
  return [...after.members.values()]
    .filter((member) => isOwner(member) && before.members.get(formatId(member.account))?.role !== "owner")
    .map(({ account }) => ({ code: "group/role-changed", account: formatId(account), role: "owner" }));
}

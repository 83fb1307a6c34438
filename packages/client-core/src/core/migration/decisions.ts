/** What the device that prepares a group's move to MLS does next (docs/migration.md). Pure: facts in, one step out. */
import { type Bytes, equalBytes, refuseUnless } from "@murmuration/base";
import { hasSwitched, type MigrationState } from "@murmuration/wire";
import type { SwitchPoint } from "../group-change.ts";

/** Role holders that the context of an MLS group names, at the most. */
const MAX_ROLE_HOLDERS = 50;

export const TOO_MANY_ROLE_HOLDERS = "migration/too-many-role-holders";

/** What of a record's members decides whether an MLS group can have their roles. */
interface Roles {
  readonly members: ReadonlyMap<string, { readonly role: string; readonly invited: boolean }>;
}

/** Whether the context of an MLS group can name everybody who has a role. O(members). */
export function fitsContext(state: Roles): boolean {
  const holders = [...state.members.values()].filter(({ role, invited }) => role !== "member" && !invited);
  return holders.length <= MAX_ROLE_HOLDERS;
}

/** RejectionError {@link TOO_MANY_ROLE_HOLDERS}. O(members). */
export function requireFewRoleHolders(state: Roles): void {
  refuseUnless(fitsContext(state), TOO_MANY_ROLE_HOLDERS);
}

/** How long a device that prepares waits for the others, ms. */
export function patienceMs(facts: {
  readonly state: MigrationState;
  readonly membersWait: boolean;
  readonly migrationDeadlineMs: number;
  readonly migrationUrgentDeadlineMs: number;
}): number {
  // While a group recovers nobody can say anything in it.
  const isUrgent = facts.membersWait || facts.state === "recovering";
  return isUrgent ? facts.migrationUrgentDeadlineMs : facts.migrationDeadlineMs;
}

/**
 * Urgent times in which members may be put in before those who come then are not waited for any more. A full group whose
 * members are slow takes 13 minutes (shell/migration/gentle.ts).
 */
const MOST_URGENT_TIMES = 15;

/**
 * Until when the device that prepares waits, after it has put members into the MLS group: whoever came last has time to
 * join too, however long it took to put all of them in. One who has not joined at the switch hears nothing until it has.
 * Bounded: a member that leaves the MLS group again and again, to be put in anew, does not keep the others from moving.
 */
export function deadlineAfterAdding(facts: {
  readonly deadlineAtMs: number;
  readonly startedAtMs: number;
  readonly nowMs: number;
  readonly migrationUrgentDeadlineMs: number;
}): number {
  const { deadlineAtMs, migrationUrgentDeadlineMs: urgentMs, nowMs, startedAtMs } = facts;
  return Math.max(deadlineAtMs, Math.min(nowMs + urgentMs, startedAtMs + MOST_URGENT_TIMES * urgentMs));
}

/** What holds at the moment. */
export interface PreparationFacts {
  readonly state: MigrationState;
  /** The record lets this device take steps. One whose role was taken lets its lease run out, and somebody else goes on. */
  readonly mayStep: boolean;
  /** The context of the MLS group can name the roles of the record: {@link fitsContext}. They may change at any time. */
  readonly fitsContext: boolean;
  /** The MLS group exists, here and at the service. */
  readonly stands: boolean;
  /** The newest secret has left for every member of the record. Whoever gets it late stands still until then. */
  readonly secretSent: boolean;
  /** No secret has been drawn since the last removal. */
  readonly secretDue: boolean;
  /** Leaves of accounts that are not in the record, or under another identity key. */
  readonly toRemove: number;
  /** Accounts of the record that have no leaf and can be tried (again). */
  readonly toAdd: number;
  /** Everybody in the record whose devices are in use has a leaf for each of them and has said so. */
  readonly everybodyReady: boolean;
  readonly deadlineAtMs: number;
  /** A person does not want to wait. */
  readonly finishNow: boolean;
  readonly nowMs: number;
}

export type PreparationStep =
  | "create"
  | "draw-secret"
  | "remove"
  | "add"
  | "mark-ready"
  | "switch"
  | "finish"
  /** There can be no such group. */
  | "give-up"
  /** For the secret to be accepted, or for members. */
  | "wait"
  | "nothing";

/**
 * The next step. Removals go before additions, so that nobody who is gone learns of who comes; a secret that a removed
 * member knows is replaced before anything is switched with it.
 */
export function decidePreparation(facts: PreparationFacts): PreparationStep {
  const { state } = facts;
  if (!facts.mayStep) return "nothing";
  if (state === "switching") return "finish";
  if (state !== "preparing" && state !== "ready" && state !== "recovering") return "nothing";
  if (!facts.fitsContext) return "give-up";
  if (!facts.stands) return "create";
  if (facts.toRemove > 0) return "remove";
  if (facts.secretDue) return "draw-secret";
  const isLate = facts.finishNow || facts.nowMs >= facts.deadlineAtMs;
  if (facts.toAdd > 0) return "add";
  if (!facts.secretSent) return "wait";
  if (!facts.everybodyReady && !isLate) return "wait";
  // A group that is recovering has said that it is ready by its first switch.
  return state === "preparing" ? "mark-ready" : "switch";
}

/**
 * Whether the switching commit is to be made, or made anew, before the record may name it: with the secret that was drawn
 * last, and so that it leaves just the leaves and the settings that the group is to have. One that was made before somebody
 * was removed has that one in its roster, and everybody would refuse it.
 */
export function mustCommitSwitch(facts: {
  /** What the newest switching commit led to, made with the newest secret; undefined for none. */
  readonly reached: SwitchPoint | undefined;
  /** Of the leaves that are in the group now. */
  readonly rosterHash: Bytes;
  readonly hasForeignLeaves: boolean;
  /** Roles and settings of the group are those of the record. */
  readonly isContextInForce: boolean;
}): boolean {
  const { reached } = facts;
  if (reached === undefined || facts.hasForeignLeaves || !facts.isContextInForce) return true;
  return !equalBytes(reached.rosterHash, facts.rosterHash);
}

/**
 * Whether the creator, which has made the switching commit, writes the switch into the record as it is now: `commit-anew`
 * where the record has gone on, `nothing` where it goes on without it.
 */
export function decideSwitchWrite(facts: {
  readonly state: MigrationState;
  /** The record is in the generation that the commit was made for. */
  readonly isSameGeneration: boolean;
  readonly secretDue: boolean;
  readonly mustCommit: () => boolean;
}): "write" | "commit-anew" | "nothing" {
  const { state, isSameGeneration, secretDue, mustCommit } = facts;
  // An attempt that was given up has no group any more to look at.
  if (!isSameGeneration || (state !== "ready" && state !== "recovering")) return "nothing";
  return secretDue || mustCommit() ? "commit-anew" : "write";
}

/** What a device knows of a switch. */
export interface SwitchFacts {
  readonly state: MigrationState;
  /** Where the record says that the conversation goes on; undefined before it does. */
  readonly switchPoint: SwitchPoint | undefined;
  /** What the newest switching commit led to here; undefined where this device has taken none. */
  readonly reached: SwitchPoint | undefined;
  /** The roster of that commit is not the one that its PSK names. */
  readonly isMisnamed: boolean;
  /** Somebody is in the MLS group who is not in the record, or under another identity key, or with another role. */
  readonly hasStrangers: boolean;
  /** Epoch of the MLS group here; undefined while this device is not in it. */
  readonly epoch: number | undefined;
  /** Epoch in which this device came into the MLS group, the last time that it did; 0 for the one that made it. */
  readonly enteredEpoch: number;
  readonly hasSwitched: boolean;
}

export type SwitchDecision =
  | { readonly kind: "wait" }
  | { readonly kind: "switch" }
  | { readonly kind: "refuse"; readonly code: "migration/roster-mismatch" | "migration/other-epoch" };

/**
 * Whether this device goes over. Only what the record says switches it, and only into the epoch, the authenticator and the
 * roster that it names. Who came in behind that epoch cannot have seen it; whoever was in before, and came past it without
 * a switching commit that leads there, has been shown another group than the record names.
 */
export function decideSwitch(facts: SwitchFacts): SwitchDecision {
  const { state, switchPoint, reached, epoch } = facts;
  if (!hasSwitched(state) || switchPoint === undefined || facts.hasSwitched || epoch === undefined)
    return { kind: "wait" };
  // The commit has still to come, or the one that this device took was made anew, or was taken back.
  if (epoch < switchPoint.epoch) return { kind: "wait" };
  if (reached?.epoch !== switchPoint.epoch) {
    if (facts.enteredEpoch > switchPoint.epoch) return { kind: "switch" };
    return { kind: "refuse", code: "migration/other-epoch" };
  }
  const isSame =
    equalBytes(reached.authenticator, switchPoint.authenticator) &&
    equalBytes(reached.rosterHash, switchPoint.rosterHash);
  if (!isSame) return { kind: "refuse", code: "migration/other-epoch" };
  if (facts.hasStrangers || facts.isMisnamed) return { kind: "refuse", code: "migration/roster-mismatch" };
  return { kind: "switch" };
}

/** What a device does that the record has told of a switch, and that has not gone over yet. */
export type FollowStep =
  | "nothing"
  /** Begin the next generation. */
  | "recover"
  /** Enter the MLS group from outside. */
  | "enter"
  /** The commit is on its way. */
  | "wait";

/**
 * How a device follows a switch, also one that comes when all others are through. Whoever enters from outside can read
 * nothing that was said before, so nobody does while what it needs may be on its way. Where it was refused, any owner or admin
 * recovers: the record takes that from `mls` as well.
 */
export function decideFollow(facts: {
  readonly state: MigrationState;
  readonly hasSwitched: boolean;
  readonly isRefused: boolean;
  readonly isRoleHolder: boolean;
  /**
   * Of this device in the MLS group. `outside` is also whoever was removed from it and is a member of the record again.
   * `out`: it knows of no group, or is no member.
   */
  readonly place: "in" | "outside" | "out";
  /** The log of the MLS group waits for a secret that is not here. */
  readonly isStandingStill: boolean;
  /** The mailbox was empty since this device connected. A Welcome, or the secret, may be in it. */
  readonly isMailboxEmpty: boolean;
}): FollowStep {
  const { state } = facts;
  if ((state !== "switching" && state !== "mls") || facts.hasSwitched) return "nothing";
  if (facts.isRefused) return facts.isRoleHolder ? "recover" : "nothing";
  if (facts.place === "out") return "nothing";
  if (facts.place === "in" && !facts.isStandingStill) return "wait";
  return facts.isMailboxEmpty ? "enter" : "wait";
}

/** Whether a group that has so many members begins to move by itself. */
export function reachesThreshold(facts: {
  readonly members: number;
  readonly mlsThreshold: number;
  readonly migrationMargin: number;
}): boolean {
  return facts.members >= facts.mlsThreshold - facts.migrationMargin;
}

/** Whether this device goes on where the creator has vanished: an owner or admin, once the lease is over. */
export function mayTakeOver(facts: {
  readonly state: MigrationState;
  readonly isCreator: boolean;
  readonly isRoleHolder: boolean;
  readonly leaseLeftMs: number;
}): boolean {
  const { state, isCreator, isRoleHolder, leaseLeftMs } = facts;
  const isUnderWay = state === "preparing" || state === "ready" || state === "recovering";
  return isUnderWay && !isCreator && isRoleHolder && leaseLeftMs === 0;
}

/** In so much time the device that has prepared a move says that it is done; then it may be lost, or lets it be, ms. */
export const FINISHED_WITHIN_MS = 600_000;

/**
 * Whether this device says in the creator's place that a move is done: an owner or admin that has gone over, where the
 * creator is not in the group any more, or does not say so.
 */
export function mayFinish(facts: {
  readonly state: MigrationState;
  readonly isRoleHolder: boolean;
  /** The device that has prepared the move has a leaf in the MLS group. */
  readonly isCreatorIn: boolean;
  readonly switchedAtMs: number;
  readonly nowMs: number;
}): boolean {
  const { state, isRoleHolder, isCreatorIn, switchedAtMs, nowMs } = facts;
  if (state !== "switching" || !isRoleHolder || switchedAtMs === 0) return false;
  // Before the switch: a clock that was set back.
  const isLate = nowMs >= switchedAtMs + FINISHED_WITHIN_MS || nowMs < switchedAtMs;
  return !isCreatorIn || isLate;
}

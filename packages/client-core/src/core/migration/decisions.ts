/** What the device that prepares a group's move to MLS does next (docs/migration.md). Pure: facts in, one step out. */
import { equalBytes } from "@murmuration/base";
import { hasSwitched, type MigrationState } from "@murmuration/wire";
import type { SwitchPoint } from "../group-change.ts";

/** What holds at the moment. */
export interface PreparationFacts {
  readonly state: MigrationState;
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
  /** Everybody in the record has a leaf for each device and has said so. */
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
  /** For the secret to be accepted, or for members. */
  | "wait"
  | "nothing";

/**
 * The next step. Removals go before additions, so that nobody who is gone learns of who comes; a secret that a removed
 * member knows is replaced before anything is switched with it.
 */
export function decidePreparation(facts: PreparationFacts): PreparationStep {
  const { state } = facts;
  if (state === "switching") return "finish";
  if (state !== "preparing" && state !== "ready" && state !== "recovering") return "nothing";
  if (!facts.stands) return "create";
  if (facts.toRemove > 0) return "remove";
  if (facts.secretDue) return "draw-secret";
  const isLate = facts.finishNow || facts.nowMs >= facts.deadlineAtMs;
  if (facts.toAdd > 0) return "add";
  if (!facts.secretSent && !isLate) return "wait";
  if (!facts.everybodyReady && !isLate) return "wait";
  // A group that is recovering has said that it is ready by its first switch.
  return state === "preparing" ? "mark-ready" : "switch";
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
  readonly hasSwitched: boolean;
}

export type SwitchDecision =
  | { readonly kind: "wait" }
  | { readonly kind: "switch" }
  | { readonly kind: "refuse"; readonly code: "migration/roster-mismatch" | "migration/other-epoch" };

/**
 * Whether this device goes over. Only what the record says switches it, and only into the epoch, the authenticator and the
 * roster that it names. Who comes in from outside, behind the switch, has looked at the group at the door.
 */
export function decideSwitch(facts: SwitchFacts): SwitchDecision {
  const { state, switchPoint, reached, epoch } = facts;
  if (!hasSwitched(state) || switchPoint === undefined || facts.hasSwitched || epoch === undefined)
    return { kind: "wait" };
  if (reached === undefined) return { kind: epoch > switchPoint.epoch ? "switch" : "wait" };
  // A removal came between, and the switch is made anew.
  if (reached.epoch < switchPoint.epoch) return { kind: "wait" };
  const isSame =
    reached.epoch === switchPoint.epoch &&
    equalBytes(reached.authenticator, switchPoint.authenticator) &&
    equalBytes(reached.rosterHash, switchPoint.rosterHash);
  if (!isSame) return { kind: "refuse", code: "migration/other-epoch" };
  if (facts.hasStrangers || facts.isMisnamed) return { kind: "refuse", code: "migration/roster-mismatch" };
  return { kind: "switch" };
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

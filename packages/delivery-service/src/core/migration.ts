import { type Bytes, equalBytes, equalSecret, RejectionError } from "@murmuration/base";
import {
  beginsLease,
  type GroupLeaseRenewal,
  type GroupMigrationStep,
  type GroupMigration as GroupMigrationView,
  type GroupWriteRequest,
  generationAfter,
  hasLease,
  type MigrationChange,
  type MigrationTransition,
  migrationTransitionBetween,
  takesOtherChanges,
  unmigrated,
} from "@murmuration/wire";
import type { GroupMigration, GroupRecord, Lease } from "../ports/group-records.ts";
import { DelayedRejection } from "./delayed-rejection.ts";
import { sha256 } from "./submit.ts";

/** The service's clock, and how long a lease lasts. */
export interface LeaseTime {
  readonly nowMs: number;
  readonly leaseMs: number;
}

/** A step that a write may take, with what is told of it to operators. */
export interface MigrationStep {
  readonly change: MigrationChange;
  readonly next: GroupMigration;
  /** End of the lease of somebody else, where the step counts because it was over: it may have been renewed since. */
  readonly overLeaseUntilMs: number | undefined;
  /** Since the last step; undefined for the first one of a group. */
  readonly sincePreviousMs: number | undefined;
}

/**
 * Decides what a write does to the migration of its group: a step, or nothing where it names none. Knows the states,
 * generations and tokens, and nothing of the record. Throws RejectionError `migration/not-possible` (also for a write
 * without a step, or with another fence, once the group has switched), `migration/wrong-generation`,
 * `migration/lease-held`, `migration/fence-missing`, `wire/missing-field`, `wire/invalid-field`. Constant time.
 * docs/migration.md.
 */
export function decideMigration(
  record: GroupRecord | undefined,
  write: GroupWriteRequest,
  time: LeaseTime,
): MigrationStep | undefined {
  const before = record?.migration;
  const present = before ?? unmigrated;
  const { migration: step } = write;
  if (step === undefined) {
    if (!takesOtherChanges(present.state)) throw new RejectionError("migration/not-possible");
    return undefined;
  }
  const transition = migrationTransitionBetween(present.state, step.state);
  if (transition === undefined) throw new RejectionError("migration/not-possible");
  if (step.generation !== generationAfter(present.generation, transition)) {
    throw new RejectionError("migration/wrong-generation");
  }
  checkNewToken(transition, step);
  const overLeaseUntilMs = checkHolder(transition, before?.lease, step.leaseToken, time);
  checkFence(transition, record?.fence, write.generation?.fence);
  const { nowMs } = time;
  return {
    change: transition.change,
    next: {
      state: step.state,
      generation: step.generation,
      lease: nextLease(before?.lease, step, time),
      sinceMs: nowMs,
      // Of the whole move, whoever made it: what members wait for is the switch.
      startedMs: before === undefined || begins(before, transition) ? nowMs : before.startedMs,
    },
    overLeaseUntilMs,
    sincePreviousMs: before === undefined ? undefined : nowMs - before.sinceMs,
  };
}

/**
 * Decides whether a lease may be renewed: by its holder, also when its time is over and nobody came in its place.
 * Returns the lease to be stored. Throws RejectionError `migration/not-possible` where the state has none,
 * `migration/wrong-generation`, `migration/lease-lost`.
 */
export function decideRenewal(record: GroupRecord, renewal: GroupLeaseRenewal, time: LeaseTime): Lease {
  const { migration } = record;
  if (migration?.lease === undefined) throw new RejectionError("migration/not-possible");
  if (renewal.generation !== migration.generation) throw new RejectionError("migration/wrong-generation");
  if (!holds(migration.lease, renewal.leaseToken)) throw new RejectionError("migration/lease-lost");
  return { ...migration.lease, untilMs: time.nowMs + time.leaseMs };
}

/** What a reader is told of a migration; undefined where the group never began one. */
export function viewMigration(
  migration: GroupMigration | undefined,
  time: LeaseTime,
): GroupMigrationView | undefined {
  if (migration === undefined) return undefined;
  const { state, generation, lease } = migration;
  return { state, generation, leaseLeftMs: lease === undefined ? 0 : leaseLeftMs(lease, time) };
}

/** Whether a step begins a move to MLS or a recovery, and does not go on with one that another member began. */
function begins(before: GroupMigration, { change }: MigrationTransition): boolean {
  return beginsLease(change) && !hasLease(before.state);
}

/** How long others still have to wait. A clock that was set back makes no lease longer than a new one. */
function leaseLeftMs(lease: Lease, { nowMs, leaseMs }: LeaseTime): number {
  const leftMs = lease.untilMs - nowMs;
  return leftMs > leaseMs ? 0 : Math.max(0, leftMs);
}

function holds(lease: Lease | undefined, token: Uint8Array | undefined): boolean {
  return lease !== undefined && token !== undefined && equalSecret(sha256(token), lease.tokenHash);
}

/** Returns the end of somebody else's lease, if the step takes one over. */
function checkHolder(
  { who }: MigrationTransition,
  lease: Lease | undefined,
  token: Uint8Array | undefined,
  time: LeaseTime,
): number | undefined {
  if (who === "any" || holds(lease, token)) return undefined;
  if (lease === undefined) return undefined;
  const leftMs = leaseLeftMs(lease, time);
  if (leftMs > 0) throw new DelayedRejection("migration/lease-held", leftMs);
  return lease.untilMs;
}

/** A token where no lease begins would be one that its sender relies on and the service does not know. */
function checkNewToken({ change }: MigrationTransition, step: GroupMigrationStep): void {
  if (beginsLease(change) === (step.newLeaseToken !== undefined)) return;
  throw new RejectionError(beginsLease(change) ? "wire/missing-field" : "wire/invalid-field");
}

function checkFence(
  { fence }: MigrationTransition,
  present: Bytes | undefined,
  brought: Bytes | undefined,
): void {
  const another = brought !== undefined && (present === undefined || !equalBytes(brought, present));
  if (fence === "new" && !another) throw new RejectionError("migration/fence-missing");
  if (fence === "kept" && another) throw new RejectionError("migration/not-possible");
}

function nextLease(before: Lease | undefined, step: GroupMigrationStep, time: LeaseTime): Lease | undefined {
  if (!hasLease(step.state)) return undefined;
  const untilMs = time.nowMs + time.leaseMs;
  if (step.newLeaseToken !== undefined) return { tokenHash: sha256(step.newLeaseToken), untilMs };
  // A step by its holder renews a lease: it shows that the holder is there. Nobody else's does.
  return before !== undefined && holds(before, step.leaseToken) ? { ...before, untilMs } : before;
}

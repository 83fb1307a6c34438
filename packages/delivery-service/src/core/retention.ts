import { limits } from "@murmuration/wire";
import { dayOf } from "./days.ts";

/** How long what is kept; README.md and the view retention_overdue say the same. */
export const retention = {
  envelopesMs: limits.envelopeLifetimeMs,
  submitsMs: limits.submitMemoryMs,
  blobsMs: limits.blobLifetimeMs,
  /** Age from which an upload that was never finished is a leftover of a crash. */
  unfinishedUploadMs: 86_400_000,
  /** Age from which a mailbox without a device is a leftover of a crash and not of a registration under way. */
  orphanMs: 3_600_000,
  /** Entries of MLS groups. */
  groupEntriesMs: limits.groupLogLifetimeMs,
  pushHandleDays: limits.pushHandleLifetimeMs / 86_400_000,
  idleDeviceDays: 180,
  /** Of pairwise and of MLS groups. */
  idleGroupDays: 400,
  /** Counts of commits that lost their race: as long as the log with those that won. */
  lostCommitDays: 30,
  /** Time between two runs. */
  intervalMs: 3_600_000,
  /** Rows that one transaction removes at most, so that a run never blocks delivery for long. */
  batch: 500,
  /** MLS groups that one transaction removes at most: each may have cursors of thousands of leaves. */
  mlsGroupBatch: 10,
} as const;

/** Jobs in the order of a run. */
export type RetentionJob =
  | {
      readonly name:
        | "envelopes"
        | "submits"
        | "blobs"
        | "unfinished-uploads"
        | "key-packages"
        | "group-entries";
      readonly beforeMs: number;
    }
  | {
      readonly name: "push-handles" | "idle-devices" | "idle-groups" | "idle-mls-groups" | "lost-commits";
      readonly beforeDay: number;
    }
  | { readonly name: "orphaned-mailboxes"; readonly beforeMs: number };

/** What a run at `now` has to remove. */
export function planRetention(now: number): readonly RetentionJob[] {
  return [
    { name: "envelopes", beforeMs: now - retention.envelopesMs },
    { name: "submits", beforeMs: now - retention.submitsMs },
    { name: "blobs", beforeMs: now - retention.blobsMs },
    { name: "unfinished-uploads", beforeMs: now - retention.unfinishedUploadMs },
    { name: "key-packages", beforeMs: now },
    { name: "group-entries", beforeMs: now - retention.groupEntriesMs },
    { name: "push-handles", beforeDay: dayOf(now) - retention.pushHandleDays },
    { name: "idle-devices", beforeDay: dayOf(now) - retention.idleDeviceDays },
    { name: "idle-groups", beforeDay: dayOf(now) - retention.idleGroupDays },
    { name: "idle-mls-groups", beforeDay: dayOf(now) - retention.idleGroupDays },
    { name: "lost-commits", beforeDay: dayOf(now) - retention.lostCommitDays },
    { name: "orphaned-mailboxes", beforeMs: now - retention.orphanMs },
  ];
}

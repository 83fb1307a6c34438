/** What appends to a group's log, each inside one transaction. */
import { type AccountId, type Bytes, type GroupId, invariant } from "@murmuration/base";
import { dayOf } from "../core/days.ts";
import {
  type AppendCommit,
  type AppendCommitOutcome,
  type AppendMessage,
  type AppendMessageOutcome,
  type AppendRefeed,
  type AppendRefeedOutcome,
  type VoidCommit,
  WELCOMES_WAITING,
} from "../ports/mls-groups.ts";
import type { Statements } from "./sqlite-database.ts";

/** The small part of a group: all that an append has to know. */
export interface Head {
  /** Number of the group within the file. */
  readonly key: number;
  readonly epoch: number;
  readonly lastSequence: number;
  readonly firstSequence: number;
  /** Of the present epoch. */
  readonly commitSequence: number;
  readonly lastRemovalEpoch: number;
  readonly banListSequence: number | undefined;
}

export interface NewEpoch {
  readonly epoch: number;
  readonly commitSequence: number;
  readonly lastRemovalEpoch: number;
  readonly banListSequence: number | undefined;
  readonly treeHash: Bytes;
  /** Undefined in an epoch that nobody can go back to. */
  readonly groupInfo: Bytes | undefined;
  readonly treeDelta: Bytes | undefined;
}

interface NewEntry {
  readonly kind: "application" | "proposal" | "commit" | "void";
  readonly acceptedAtMs: number;
  readonly message: Bytes;
  readonly hash?: Bytes;
  readonly leadsFrom?: number;
  readonly proposals?: number;
  readonly voids?: number;
  readonly parted?: number | undefined;
}

/** A commit as it is appended: one that is fed again may lead to an epoch without GroupInfo. */
type AnyCommit = Omit<AppendCommit, "groupInfo"> & {
  readonly groupInfo: Bytes | undefined;
  readonly partedSequence?: number | undefined;
};

/** O(1), and none of the large columns is read. */
export function loadHead(statements: Statements, groupId: GroupId): Head | undefined {
  const row = statements
    .prepare(
      `SELECT g.mls_group, g.epoch, g.last_sequence, g.first_sequence, e.commit_sequence, e.last_removal_epoch,
         e.ban_list_sequence
       FROM mls_groups g JOIN mls_epochs e ON e.mls_group = g.mls_group AND e.epoch = g.epoch
       WHERE g.group_id = ?`,
    )
    .get(groupId);
  return (
    row && {
      key: row["mls_group"] as number,
      epoch: row["epoch"] as number,
      lastSequence: row["last_sequence"] as number,
      firstSequence: row["first_sequence"] as number,
      commitSequence: row["commit_sequence"] as number,
      lastRemovalEpoch: row["last_removal_epoch"] as number,
      banListSequence: (row["ban_list_sequence"] as number | null) ?? undefined,
    }
  );
}

export function appendMessage(statements: Statements, append: AppendMessage): AppendMessageOutcome {
  const head = loadHead(statements, append.groupId);
  if (head === undefined) return { kind: "unknown-group" };
  const known = findByHash(statements, head.key, "application", append.submitHash);
  if (known !== undefined) return { kind: "repeated", sequence: known.sequence };
  if (append.epoch > head.epoch) return { kind: "unknown-epoch" };
  if (append.epoch < head.lastRemovalEpoch || append.epoch < head.epoch - append.epochsBehind) {
    return { kind: "outdated" };
  }
  const sequence = appendEntries(statements, head, head.epoch, [
    {
      kind: "application",
      acceptedAtMs: append.acceptedAtMs,
      message: append.message,
      hash: append.submitHash,
    },
  ]);
  return { kind: "appended", sequence };
}

export function appendCommit(statements: Statements, append: AnyCommit): AppendCommitOutcome {
  const head = loadHead(statements, append.groupId);
  if (head === undefined) return { kind: "unknown-group" };
  const known = findByHash(statements, head.key, "commit", append.commitHash);
  if (known?.leadsFrom !== undefined) {
    return { kind: "repeated", sequence: known.sequence, epoch: known.leadsFrom + 1 };
  }
  // One that was voided does not come back: members could not follow it.
  const { fromCommitSequence = head.commitSequence } = append;
  const isOther = append.fromEpoch !== head.epoch || fromCommitSequence !== head.commitSequence;
  if (known !== undefined || isOther) return { kind: "lost", epoch: head.epoch };
  const epoch = head.epoch + 1;
  const { acceptedAtMs } = append;
  const sequence = appendEntries(statements, head, epoch, [
    ...append.proposals.map((message) => ({ kind: "proposal", acceptedAtMs, message }) as const),
    {
      kind: "commit",
      acceptedAtMs,
      message: append.commit,
      hash: append.commitHash,
      leadsFrom: head.epoch,
      proposals: append.proposals.length,
      parted: append.partedSequence,
    },
  ]);
  if (append.banList !== undefined) {
    statements.prepare("INSERT INTO mls_ban_lists VALUES (?, ?, ?)").run(head.key, sequence, append.banList);
  }
  insertEpoch(statements, head.key, {
    epoch,
    commitSequence: sequence,
    lastRemovalEpoch: append.removed.length > 0 || append.leafReplaced ? epoch : head.lastRemovalEpoch,
    banListSequence: append.banList === undefined ? head.banListSequence : sequence,
    treeHash: append.treeHash,
    groupInfo: append.groupInfo,
    treeDelta: append.treeDelta,
  });
  noteRemoved(statements, head.key, sequence, append.removed);
  noteListed(statements, head.key, sequence, append.listed);
  clearProposals(statements, head.key);
  queueWelcomes(statements, head.key, sequence, append);
  return { kind: "appended", sequence, epoch };
}

export function appendRefeed(statements: Statements, append: AppendRefeed): AppendRefeedOutcome {
  const { groupId, fromEpoch, groupInfo, acceptedAtMs } = append;
  const head = loadHead(statements, groupId);
  if (head === undefined) return { kind: "unknown-group" };
  const known = append.commits.some(
    ({ commitHash }) => findByHash(statements, head.key, "commit", commitHash) !== undefined,
  );
  if (known || head.epoch !== fromEpoch) return { kind: "lost", epoch: head.epoch };
  const sequences: number[] = [];
  for (const [index, commit] of append.commits.entries()) {
    const outcome = appendCommit(statements, {
      ...commit,
      groupId,
      fromEpoch: fromEpoch + index,
      groupInfo: index === append.commits.length - 1 ? groupInfo : undefined,
      partedSequence: sequences.at(-1) ?? append.partedSequence,
      welcomes: [],
      acceptedAtMs,
    });
    invariant(outcome.kind === "appended", "group/refeed-not-appended");
    sequences.push(outcome.sequence);
  }
  return { kind: "appended", sequences, epoch: fromEpoch + sequences.length };
}

export function voidCommit(
  statements: Statements,
  request: VoidCommit,
): { readonly sequence: number } | undefined {
  const head = loadHead(statements, request.groupId);
  const voids = request.sequence;
  // The log still has the commit, hence mls_epochs the epoch before it.
  if (head === undefined || head.commitSequence !== voids || voids < head.firstSequence) return undefined;
  const before = statements
    .prepare("SELECT group_info IS NOT NULL AS whole FROM mls_epochs WHERE mls_group = ? AND epoch = ?")
    .get(head.key, head.epoch - 1);
  if (before?.["whole"] !== 1) return undefined;
  statements
    .prepare("UPDATE mls_entries SET leads_from = NULL WHERE mls_group = ? AND sequence = ?")
    .run(head.key, voids);
  const sequence = appendEntries(statements, head, head.epoch - 1, [
    { kind: "void", acceptedAtMs: request.acceptedAtMs, message: request.proof, voids },
  ]);
  statements.prepare("DELETE FROM mls_epochs WHERE mls_group = ? AND epoch = ?").run(head.key, head.epoch);
  statements
    .prepare("DELETE FROM mls_former_leaves WHERE mls_group = ? AND removed_at = ?")
    .run(head.key, voids);
  statements
    .prepare("UPDATE mls_bans SET removed_at = NULL WHERE mls_group = ? AND removed_at = ?")
    .run(head.key, voids);
  statements
    .prepare("UPDATE mls_bans SET listed_at = NULL WHERE mls_group = ? AND listed_at = ?")
    .run(head.key, voids);
  statements.prepare("DELETE FROM mls_outbox WHERE mls_group = ? AND sequence = ?").run(head.key, voids);
  clearProposals(statements, head.key);
  return { sequence };
}

export function insertEpoch(statements: Statements, key: number, epoch: NewEpoch): void {
  statements
    .prepare("INSERT INTO mls_epochs VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
    .run(
      key,
      epoch.epoch,
      epoch.commitSequence,
      epoch.lastRemovalEpoch,
      epoch.banListSequence ?? null,
      epoch.treeHash,
      epoch.groupInfo ?? null,
      epoch.treeDelta ?? null,
    );
}

/** Numbers the entries on from the last one. Returns the sequence number of the last of them. */
function appendEntries(
  statements: Statements,
  head: Head,
  epoch: number,
  entries: readonly NewEntry[],
): number {
  const insert = statements.prepare("INSERT INTO mls_entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
  let sequence = head.lastSequence;
  for (const entry of entries) {
    sequence++;
    insert.run(
      head.key,
      sequence,
      entry.acceptedAtMs,
      entry.kind,
      entry.hash ?? null,
      entry.leadsFrom ?? null,
      entry.proposals ?? null,
      entry.voids ?? null,
      entry.message,
      entry.parted ?? null,
    );
  }
  const { acceptedAtMs } = entries[0]!;
  statements
    .prepare(
      `UPDATE mls_groups SET epoch = ?, last_sequence = ?, oldest_entry_ms = ifnull(oldest_entry_ms, ?),
         last_used_day = max(last_used_day, ?)
       WHERE mls_group = ?`,
    )
    .run(epoch, sequence, acceptedAtMs, dayOf(acceptedAtMs), head.key);
  return sequence;
}

function findByHash(
  statements: Statements,
  key: number,
  kind: "application" | "commit",
  hash: Bytes,
): { readonly sequence: number; readonly leadsFrom: number | undefined } | undefined {
  const row = statements
    .prepare("SELECT sequence, leads_from FROM mls_entries WHERE mls_group = ? AND kind = ? AND hash = ?")
    .get(key, kind, hash);
  return (
    row && {
      sequence: row["sequence"] as number,
      leadsFrom: (row["leads_from"] as number | null) ?? undefined,
    }
  );
}

function noteRemoved(statements: Statements, key: number, sequence: number, removed: readonly Bytes[]): void {
  const former = statements.prepare("INSERT INTO mls_former_leaves VALUES (?, ?, ?) ON CONFLICT DO NOTHING");
  const banned = statements.prepare(
    "UPDATE mls_bans SET removed_at = ? WHERE mls_group = ? AND signature_key = ? AND removed_at IS NULL",
  );
  for (const signatureKey of removed) {
    former.run(key, signatureKey, sequence);
    banned.run(sequence, key, signatureKey);
  }
}

function noteListed(
  statements: Statements,
  key: number,
  sequence: number,
  listed: readonly AccountId[],
): void {
  const update = statements.prepare(
    "UPDATE mls_bans SET listed_at = ? WHERE mls_group = ? AND account_id = ? AND listed_at IS NULL",
  );
  for (const account of listed) update.run(sequence, key, account);
}

function queueWelcomes(statements: Statements, key: number, sequence: number, append: AnyCommit): void {
  const insert = statements.prepare(
    `INSERT INTO mls_outbox (mls_group, sequence, account_id, device_id, tree_hash, accepted_at_ms, welcome)
     VALUES (?, ?, ?, ?, ?, ?, ?)`,
  );
  const trim = statements.prepare(
    `DELETE FROM mls_outbox WHERE id IN
       (SELECT id FROM mls_outbox WHERE account_id = ? AND device_id = ? ORDER BY id DESC LIMIT -1 OFFSET ?)`,
  );
  for (const { recipient, welcome } of append.welcomes) {
    insert.run(
      key,
      sequence,
      recipient.accountId,
      recipient.deviceId,
      append.treeHash,
      append.acceptedAtMs,
      welcome,
    );
    trim.run(recipient.accountId, recipient.deviceId, WELCOMES_WAITING);
  }
}

/** Those that wait belong to the epoch that ends. */
function clearProposals(statements: Statements, key: number): void {
  statements.prepare("DELETE FROM mls_pending_proposals WHERE mls_group = ?").run(key);
}

/** How a group's log and what hangs on it grows shorter. */
import { blob, type Statements } from "./sqlite-database.ts";

/**
 * Deletes entries from the beginning of logs on, at most `limit`, as long as they were accepted before `beforeMs`;
 * never out of the middle, so that what is left has no gap. O(deleted + groups that have something to delete).
 */
export function expireEntries(statements: Statements, beforeMs: number, limit: number): number {
  const overdue = statements.prepare(
    `SELECT mls_group, last_sequence FROM mls_groups WHERE oldest_entry_ms < ?
     ORDER BY oldest_entry_ms LIMIT 1`,
  );
  let removed = 0;
  while (removed < limit) {
    const group = overdue.get(beforeMs);
    if (group === undefined) break;
    const [key, lastSequence] = [group["mls_group"] as number, group["last_sequence"] as number];
    removed += expireGroupEntries(statements, key, lastSequence, beforeMs, limit - removed);
    prune(statements, key);
  }
  return removed;
}

/** At least one, because the oldest entry is overdue. */
function expireGroupEntries(
  statements: Statements,
  key: number,
  lastSequence: number,
  beforeMs: number,
  limit: number,
): number {
  const entries = statements
    .prepare("SELECT sequence, accepted_at_ms FROM mls_entries WHERE mls_group = ? ORDER BY sequence LIMIT ?")
    .all(key, limit + 1);
  const kept = entries.findIndex((entry) => (entry["accepted_at_ms"] as number) >= beforeMs);
  const removed = Math.min(kept === -1 ? entries.length : kept, limit);
  const first = entries[removed];
  const firstSequence = (first?.["sequence"] as number | undefined) ?? lastSequence + 1;
  statements.prepare("DELETE FROM mls_entries WHERE mls_group = ? AND sequence < ?").run(key, firstSequence);
  statements
    .prepare("UPDATE mls_groups SET first_sequence = ?, oldest_entry_ms = ? WHERE mls_group = ?")
    .run(firstSequence, (first?.["accepted_at_ms"] as number | undefined) ?? null, key);
  return removed;
}

/**
 * Deletes what only expired entries needed. The oldest kept entry was written in some epoch, and that one and all
 * later ones stay whole; before it stays the snapshot that its tree begins with, and the deltas in between.
 * O(deleted + deltas in between).
 */
export function prune(statements: Statements, key: number): void {
  const group = statements
    .prepare("SELECT epoch, first_sequence FROM mls_groups WHERE mls_group = ?")
    .get(key)!;
  const firstSequence = group["first_sequence"] as number;
  const next = statements
    .prepare(
      "SELECT epoch FROM mls_epochs WHERE mls_group = ? AND commit_sequence >= ? ORDER BY epoch LIMIT 1",
    )
    .get(key, firstSequence);
  const oldest = next === undefined ? (group["epoch"] as number) : (next["epoch"] as number) - 1;
  const base = statements
    .prepare("SELECT max(epoch) AS epoch FROM mls_snapshots WHERE mls_group = ? AND epoch <= ?")
    .get(key, oldest)!["epoch"] as number;
  statements.prepare("DELETE FROM mls_epochs WHERE mls_group = ? AND epoch < ?").run(key, base);
  statements
    .prepare(
      `UPDATE mls_epochs SET group_info = NULL
       WHERE mls_group = ? AND epoch < ? AND group_info IS NOT NULL`,
    )
    .run(key, oldest);
  statements
    .prepare(
      `DELETE FROM mls_ban_lists WHERE mls_group = ?1 AND sequence < ?2 AND sequence IS NOT
         (SELECT ban_list_sequence FROM mls_epochs WHERE mls_group = ?1 AND epoch = ?3)`,
    )
    .run(key, firstSequence, oldest);
  forgetLeaves(statements, key, firstSequence);
  statements.prepare("DELETE FROM mls_bans WHERE mls_group = ? AND removed_at < ?").run(key, firstSequence);
  statements.prepare("DELETE FROM mls_outbox WHERE mls_group = ? AND sequence < ?").run(key, firstSequence);
}

/** A leaf that came back since keeps the cursor that it has written since. */
function forgetLeaves(statements: Statements, key: number, firstSequence: number): void {
  const forgotten = statements
    .prepare(
      "DELETE FROM mls_former_leaves WHERE mls_group = ? AND removed_at < ? RETURNING signature_key, removed_at",
    )
    .all(key, firstSequence);
  const removeCursor = statements.prepare(
    "DELETE FROM mls_cursors WHERE mls_group = ? AND signature_key = ? AND through_sequence <= ?",
  );
  for (const leaf of forgotten) {
    removeCursor.run(key, blob(leaf["signature_key"]), leaf["removed_at"] as number);
  }
}

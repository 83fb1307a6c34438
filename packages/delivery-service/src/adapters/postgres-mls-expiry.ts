/** How groups' logs grow shorter, and how what has expired leaves the disk. */
import type { GroupId } from "@murmuration/base";
import type { PostgresDatabase } from "./postgres-database.ts";
import { bytea } from "./postgres-values.ts";

/** After all groups of a transaction, whose keys are hexadecimal digits: no row of a group is waited for with these locks. */
const PERIODS = "~periods";

/** A log that has entries to lose: all before `first`, which were there when it was read and never change. */
interface Overdue {
  readonly groupId: GroupId;
  readonly key: number;
  readonly entries: number;
  readonly first: number;
}

/**
 * Lets logs begin later, by at most `limit` entries in all, as long as the first was accepted before `beforeMs`; never out
 * of the middle, so that what is left has no gap. One short transaction for each group, behind what else is written to
 * it. Then the next period is made, and those in which nothing is left are dropped. O(groups that have something to lose + what hung on it).
 */
export async function expireEntries(
  database: PostgresDatabase,
  beforeMs: number,
  limit: number,
): Promise<number> {
  const logs = within(await overdueLogs(database, beforeMs, limit), limit);
  const removed = await Promise.all(
    logs.map(({ groupId, key, first }) =>
      database.write(groupId, async (statements) => {
        const row = await statements.get("SELECT mls_expire($1, $2) AS removed", key, first);
        return row!["removed"] as number;
      }),
    ),
  );
  const total = removed.reduce((sum, count) => sum + count, 0);
  if (total < limit) await renewPeriods(database, beforeMs);
  return total;
}

/** Deletes groups that nobody used since before `day`, each with all that is its own. O(what they have). */
export async function expireGroups(database: PostgresDatabase, day: number, limit: number): Promise<number> {
  const idle = await database.read((statements) =>
    statements.all("SELECT group_id FROM mls_groups WHERE last_used_day < $1 LIMIT $2", day, limit),
  );
  const removed = await Promise.all(
    idle.map((row) =>
      database.write(bytea(row["group_id"]), async (statements) => {
        const gone = await statements.get(
          "DELETE FROM mls_groups WHERE group_id = $1 AND last_used_day < $2 RETURNING mls_group",
          bytea(row["group_id"]),
          day,
        );
        if (gone === undefined) return 0;
        await statements.run("DELETE FROM mls_entries WHERE mls_group = $1", gone["mls_group"] as number);
        return 1;
      }),
    ),
  );
  return removed.reduce<number>((sum, count) => sum + count, 0);
}

/** Oldest beginning first. A period in which all is too old is not even looked at. */
async function overdueLogs(
  database: PostgresDatabase,
  beforeMs: number,
  limit: number,
): Promise<readonly Overdue[]> {
  const rows = await database.read((statements) =>
    statements.all(
      `SELECT g.group_id, g.mls_group, g.first_sequence, coalesce(kept.sequence, g.last_sequence + 1) AS first
       FROM mls_groups g LEFT JOIN LATERAL (
         SELECT e.sequence FROM mls_entries e
         WHERE e.mls_group = g.mls_group AND e.sequence >= g.first_sequence
         AND e.filed_at_ms >= $1 AND e.accepted_at_ms >= $1
         ORDER BY e.sequence LIMIT 1
       ) kept ON true
       WHERE g.oldest_entry_ms < $1 ORDER BY g.oldest_entry_ms LIMIT $2`,
      beforeMs,
      limit,
    ),
  );
  return rows.map((row) => ({
    groupId: bytea(row["group_id"]) as GroupId,
    key: row["mls_group"] as number,
    first: row["first"] as number,
    entries: (row["first"] as number) - (row["first_sequence"] as number),
  }));
}

/** The first of these logs, the last one in part, that have no more than `limit` entries to lose. */
function within(logs: readonly Overdue[], limit: number): readonly Overdue[] {
  let left = limit;
  return logs.flatMap((log) => {
    const entries = Math.min(log.entries, left);
    left -= entries;
    return entries === 0 ? [] : [{ ...log, entries, first: log.first - log.entries + entries }];
  });
}

/** O(periods). One that is in use just now goes another time. */
async function renewPeriods(database: PostgresDatabase, beforeMs: number): Promise<void> {
  const ahead = await database.read((statements) =>
    statements.all(
      "SELECT period FROM mls_periods_ahead() AS period WHERE period > mls_period_of($1)",
      beforeMs,
    ),
  );
  for (const { period } of ahead) {
    await database.write(PERIODS, (statements) =>
      statements.get("SELECT mls_make_period($1)", period as number),
    );
  }
  const over = await database.read((statements) =>
    statements.all(
      "SELECT period FROM mls_periods WHERE period < mls_period_of($1) AND mls_period_is_over(period)",
      beforeMs,
    ),
  );
  for (const { period } of over) {
    await database.write(PERIODS, (statements) =>
      statements.get("SELECT mls_drop_period($1)", period as number),
    );
  }
}

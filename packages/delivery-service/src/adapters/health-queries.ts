import type { GroupId } from "@murmuration/base";
import type {
  GroupHealth,
  HealthOrder,
  HealthQuery,
  RetentionHealth,
  StockHealth,
} from "../ports/group-health.ts";

/**
 * What {@link HealthReader} asks, in SQL that SQLite and PostgreSQL both understand; their tables are called alike. Rows
 * are by column name.
 */
type Row = Readonly<Record<string, unknown>>;

/** Which commits count, and when each was accepted: PostgreSQL keeps them beside the log, SQLite in it. */
export const COMMITS_OF = {
  sqlite: "SELECT mls_group, accepted_at_ms FROM mls_entries WHERE leads_from IS NOT NULL",
  postgres: `SELECT c.mls_group, e.accepted_at_ms FROM mls_commits c
    JOIN mls_entries e ON e.mls_group = c.mls_group AND e.sequence = c.sequence
    WHERE c.leads_from IS NOT NULL`,
} as const;

const ORDER: Readonly<Record<HealthOrder, string>> = {
  stale: "CASE WHEN lost_commits = 0 THEN 0 ELSE lost_commits * 1.0 / (commits + lost_commits) END DESC",
  age: "epoch_since_ms ASC NULLS FIRST",
  stragglers: "stragglers DESC",
  entries: "entries DESC",
  outbox: "welcomes DESC",
};

/** Takes the first day, the entries of a straggler and the limit. */
export function groupsQuery(order: HealthOrder, commits: string): string {
  return `
  WITH readers AS (
    -- The cursor of a leaf that was removed stays for a while: it is nobody's.
    SELECT c.mls_group, c.through_sequence FROM mls_cursors c WHERE NOT EXISTS (
      SELECT 1 FROM mls_former_leaves f WHERE f.mls_group = c.mls_group
        AND f.signature_key = c.signature_key AND f.removed_at >= c.through_sequence)
  ), reading AS (
    SELECT g.mls_group, count(*) AS readers,
      count(*) FILTER (WHERE r.through_sequence < g.last_sequence - CAST($2 AS bigint)) AS stragglers,
      count(*) FILTER (WHERE r.through_sequence < g.first_sequence - 1) AS left_behind
    FROM mls_groups g JOIN readers r ON r.mls_group = g.mls_group GROUP BY g.mls_group
  ), committing AS (
    SELECT c.mls_group, count(*) AS commits FROM (${commits}) AS c
      WHERE c.accepted_at_ms >= CAST($1 AS bigint) * 86400000 GROUP BY c.mls_group
  ), losing AS (
    SELECT group_id, CAST(sum(lost) AS bigint) AS lost FROM mls_lost_commits
      WHERE day >= CAST($1 AS bigint) GROUP BY group_id
  ), waiting AS (
    SELECT mls_group, count(*) AS proposals FROM mls_pending_proposals GROUP BY mls_group
  ), leaving AS (
    SELECT mls_group, count(*) AS welcomes FROM mls_outbox GROUP BY mls_group
  )
  SELECT * FROM (
    SELECT g.mls_group, g.group_id, g.epoch, g.last_used_day, g.last_sequence,
      g.last_sequence - g.first_sequence + 1 AS entries,
      (SELECT n.accepted_at_ms FROM mls_epochs e
        JOIN mls_entries n ON n.mls_group = e.mls_group AND n.sequence = e.commit_sequence
        WHERE e.mls_group = g.mls_group AND e.epoch = g.epoch
        AND e.commit_sequence >= g.first_sequence) AS epoch_since_ms,
      coalesce(committing.commits, 0) AS commits, coalesce(losing.lost, 0) AS lost_commits,
      coalesce(reading.readers, 0) AS readers, coalesce(reading.stragglers, 0) AS stragglers,
      coalesce(reading.left_behind, 0) AS left_behind,
      coalesce(waiting.proposals, 0) AS proposals, coalesce(leaving.welcomes, 0) AS welcomes
    FROM mls_groups g
      LEFT JOIN committing ON committing.mls_group = g.mls_group
      LEFT JOIN losing ON losing.group_id = g.group_id
      LEFT JOIN reading ON reading.mls_group = g.mls_group
      LEFT JOIN waiting ON waiting.mls_group = g.mls_group
      LEFT JOIN leaving ON leaving.mls_group = g.mls_group
  ) AS health ORDER BY ${ORDER[order]}, last_sequence DESC, mls_group LIMIT CAST($3 AS bigint)`;
}

export function groupsParameters(query: HealthQuery): readonly [number, number, number] {
  return [query.sinceDay, query.stragglerEntries, query.limit];
}

export function toGroupHealth(row: Row, lowStock: number | undefined): GroupHealth {
  const number = (name: string) => row[name] as number;
  return {
    groupId: row["group_id"] as GroupId,
    epoch: number("epoch"),
    epochSinceMs: (row["epoch_since_ms"] as number | null) ?? undefined,
    entries: number("entries"),
    commits: number("commits"),
    lostCommits: number("lost_commits"),
    readers: number("readers"),
    stragglers: number("stragglers"),
    leftBehind: number("left_behind"),
    lowStock,
    proposals: number("proposals"),
    welcomes: number("welcomes"),
    lastUsedDay: number("last_used_day"),
  };
}

/** Takes the number below which a stock is low, and the time (ms since 1970) beyond which a KeyPackage has to be good. */
export const KEY_PACKAGES_QUERY = `
  SELECT count(*) AS devices,
    count(*) FILTER (WHERE one_time > 0 AND one_time < CAST($1 AS bigint)) AS low,
    count(*) FILTER (WHERE one_time = 0 AND last_resort > 0) AS last_resort_only,
    count(*) FILTER (WHERE one_time = 0 AND last_resort = 0) AS none
  FROM (
    SELECT u.account_id, u.device_id,
      count(k.reference) FILTER (WHERE NOT k.last_resort) AS one_time,
      count(k.reference) FILTER (WHERE k.last_resort) AS last_resort
    FROM key_package_uploads u LEFT JOIN key_packages k
      ON k.account_id = u.account_id AND k.device_id = u.device_id AND k.expires_at_ms > CAST($2 AS bigint)
    WHERE u.upload_id IS NOT NULL GROUP BY u.account_id, u.device_id
  ) AS stock`;

export function toStockHealth(row: Row | undefined): StockHealth {
  return {
    devices: (row?.["devices"] as number) ?? 0,
    low: (row?.["low"] as number) ?? 0,
    lastResortOnly: (row?.["last_resort_only"] as number) ?? 0,
    none: (row?.["none"] as number) ?? 0,
  };
}

export const RETENTION_RUNS_QUERY = "SELECT job, ran_at_ms, removed FROM retention_runs";

/** Puts the runs and what is overdue together, by name of the job. */
export function toRetentionHealth(runs: readonly Row[], overdue: readonly Row[]): readonly RetentionHealth[] {
  const jobs = new Set([...runs, ...overdue].map((row) => row["job"] as string));
  return [...jobs].sort().map((job) => {
    const run = runs.find((row) => row["job"] === job);
    return {
      job,
      ranAtMs: run?.["ran_at_ms"] as number | undefined,
      removed: (run?.["removed"] as number) ?? 0,
      overdue: overdue.find((row) => row["job"] === job)?.["overdue"] as number | undefined,
    };
  });
}

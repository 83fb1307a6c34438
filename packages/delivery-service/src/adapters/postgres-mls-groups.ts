import { type AccountId, accountId, type Bytes, type DeviceId, type GroupId } from "@murmuration/base";
import type {
  AppendCommit,
  AppendCommitOutcome,
  AppendMessage,
  AppendMessageOutcome,
  AppendRefeed,
  AppendRefeedOutcome,
  FormerLeaf,
  GroupHead,
  LeafCursor,
  LogEntry,
  MlsGroupRow,
  MlsGroupStore,
  NewMlsGroup,
  OutgoingWelcome,
  StoredTree,
  VoidCommit,
} from "../ports/mls-groups.ts";
import type {
  PostgresDatabase,
  PostgresRow,
  PostgresStatements,
  PostgresValue,
} from "./postgres-database.ts";
import { PostgresAppends } from "./postgres-mls-appends.ts";
import { expireEntries, expireGroups } from "./postgres-mls-expiry.ts";
import { bytea, optionalBytea } from "./postgres-values.ts";

const OUTBOX = "~outbox";
const CURSORS = "~cursors";

/**
 * {@link MlsGroupStore} on PostgreSQL, for several nodes. Whatever changes a group locks the group's row before it reads
 * anything; whatever is read is read by one statement, and so all of one moment.
 */
export class PostgresMlsGroupStore implements MlsGroupStore {
  private readonly database: PostgresDatabase;
  private readonly appends: PostgresAppends;

  constructor(database: PostgresDatabase) {
    this.database = database;
    this.appends = new PostgresAppends(database);
  }

  create(group: NewMlsGroup): Promise<"created" | "exists"> {
    return this.database.write(group.groupId, async (statements) => {
      const created = await statements.run(
        `WITH made AS (
           INSERT INTO mls_groups (group_id, epoch, last_used_day) VALUES ($1, $2, $3)
           ON CONFLICT DO NOTHING RETURNING mls_group, epoch
         ), entered AS (
           INSERT INTO mls_epochs SELECT mls_group, epoch, 0, epoch, NULL, $4, $5, NULL FROM made
         )
         INSERT INTO mls_snapshots SELECT mls_group, epoch, $6 FROM made`,
        group.groupId,
        group.epoch,
        group.day,
        group.treeHash,
        group.groupInfo,
        group.tree,
      );
      return created === 0 ? "exists" : "created";
    });
  }

  async load(groupId: GroupId): Promise<MlsGroupRow | undefined> {
    const row = await this.get(
      `SELECT g.epoch, g.last_sequence, g.first_sequence, g.last_used_day, e.group_info, e.tree_hash,
         e.last_removal_epoch, e.commit_sequence, b.ban_list
       FROM mls_groups g
       JOIN mls_epochs e ON e.mls_group = g.mls_group AND e.epoch = g.epoch
       LEFT JOIN mls_ban_lists b ON b.mls_group = g.mls_group AND b.sequence = e.ban_list_sequence
       WHERE g.group_id = $1`,
      groupId,
    );
    return (
      row && {
        groupId,
        epoch: row["epoch"] as number,
        lastSequence: row["last_sequence"] as number,
        firstSequence: row["first_sequence"] as number,
        groupInfo: bytea(row["group_info"]),
        treeHash: bytea(row["tree_hash"]),
        banList: optionalBytea(row["ban_list"]),
        lastRemovalEpoch: row["last_removal_epoch"] as number,
        lastCommitSequence: row["commit_sequence"] as number,
        lastUsedDay: row["last_used_day"] as number,
      }
    );
  }

  async heads(groupIds: readonly GroupId[]): Promise<readonly (GroupHead | undefined)[]> {
    const rows = await this.all(
      `SELECT asked.place, g.last_sequence,
         (SELECT count(*)::int FROM mls_bans b WHERE b.mls_group = g.mls_group) AS bans
       FROM unnest($1::bytea[]) WITH ORDINALITY AS asked (group_id, place) JOIN mls_groups g USING (group_id)`,
      groupIds,
    );
    const found = new Map(rows.map((row) => [row["place"] as number, row]));
    return groupIds.map((_, index) => {
      const row = found.get(index + 1);
      return row && { lastSequence: row["last_sequence"] as number, bans: row["bans"] as number };
    });
  }

  appendMessage(append: AppendMessage): Promise<AppendMessageOutcome> {
    return this.appends.message(append);
  }

  appendCommit(append: AppendCommit): Promise<AppendCommitOutcome> {
    return this.appends.commit(append);
  }

  refeed(append: AppendRefeed): Promise<AppendRefeedOutcome> {
    return this.appends.refeed(append);
  }

  voidCommit(request: VoidCommit): Promise<{ readonly sequence: number } | undefined> {
    return this.appends.voidCommit(request);
  }

  async read(
    groupId: GroupId,
    after: number,
    through: number,
    limits: { readonly maxEntries: number; readonly maxBytes: number },
  ): Promise<readonly LogEntry[]> {
    const rows = await this.all(
      // Within LATERAL the index gives the order: no more is read than the page may hold.
      `SELECT * FROM (
         SELECT ${ENTRY},
           sum(octet_length(e.message) + coalesce(octet_length(b.ban_list), 0)) OVER page AS bytes,
           row_number() OVER page AS place
         FROM mls_groups g CROSS JOIN LATERAL (
           SELECT * FROM mls_entries e WHERE e.mls_group = g.mls_group ${KEPT} AND e.sequence > $2 AND e.sequence <= $3
           ORDER BY e.sequence LIMIT $4
         ) AS e ${WITH_BAN_LIST}
         WHERE g.group_id = $1
         WINDOW page AS (ORDER BY e.sequence)
       ) AS measured WHERE place = 1 OR bytes <= $5 ORDER BY sequence`,
      groupId,
      after,
      through,
      limits.maxEntries,
      limits.maxBytes,
    );
    return rows.map(toEntry);
  }

  async commitOf(groupId: GroupId, epoch: number): Promise<readonly LogEntry[] | undefined> {
    const rows = await this.all(
      `SELECT ${ENTRY} FROM mls_groups g
       JOIN mls_commits c ON c.mls_group = g.mls_group AND c.leads_from = $2
       JOIN mls_entries e ON e.mls_group = g.mls_group ${KEPT}
         AND e.sequence BETWEEN c.sequence - c.proposals AND c.sequence
       ${WITH_BAN_LIST}
       WHERE g.group_id = $1 AND c.sequence - c.proposals >= g.first_sequence ORDER BY e.sequence`,
      groupId,
      epoch,
    );
    return rows.length === 0 ? undefined : rows.map(toEntry);
  }

  async loadTree(groupId: GroupId, epoch: number): Promise<StoredTree | undefined> {
    const rows = await this.all(
      `SELECT e.epoch, e.tree_hash, s.tree, CASE WHEN s.tree IS NULL THEN e.tree_delta END AS tree_delta
       FROM (
         SELECT g.mls_group,
           (SELECT max(epoch) FROM mls_snapshots WHERE mls_group = g.mls_group AND epoch <= $2) AS base
         FROM mls_groups g WHERE g.group_id = $1
       ) AS g
       JOIN mls_epochs e ON e.mls_group = g.mls_group AND e.epoch BETWEEN g.base AND $2
       LEFT JOIN mls_snapshots s ON s.mls_group = g.mls_group AND s.epoch = e.epoch AND s.epoch = g.base
       ORDER BY e.epoch`,
      groupId,
      epoch,
    );
    const [first, last] = [rows[0], rows.at(-1)];
    if (first === undefined || last?.["epoch"] !== epoch) return undefined;
    return {
      epoch,
      treeHash: bytea(last["tree_hash"]),
      snapshotEpoch: first["epoch"] as number,
      snapshot: bytea(first["tree"]),
      deltas: rows.slice(1).map((row) => bytea(row["tree_delta"])),
    };
  }

  async treeBytes(groupId: GroupId, epoch: number): Promise<number> {
    const row = await this.get(
      `SELECT (length(s.tree) + coalesce((
           SELECT sum(length(d.tree_delta)) FROM mls_epochs d
           WHERE d.mls_group = s.mls_group AND d.epoch > s.epoch AND d.epoch <= e.epoch
         ), 0))::bigint AS bytes
       FROM mls_groups g JOIN mls_epochs e USING (mls_group) JOIN mls_snapshots s USING (mls_group)
       WHERE g.group_id = $1 AND e.epoch = $2 AND s.epoch <= e.epoch ORDER BY s.epoch DESC LIMIT 1`,
      groupId,
      epoch,
    );
    return Number(row?.["bytes"] ?? 0);
  }

  async treeDeltas(
    groupId: GroupId,
    from: number,
    to: number,
    maxBytes: number,
  ): Promise<readonly Bytes[] | undefined> {
    const between = `FROM mls_epochs e JOIN mls_groups g USING (mls_group)
      WHERE g.group_id = $1 AND e.epoch > $2 AND e.epoch <= $3 AND e.tree_delta IS NOT NULL`;
    const [sum] = await this.all(
      `SELECT count(*)::bigint AS n, coalesce(sum(length(e.tree_delta)), 0)::bigint AS bytes ${between}`,
      groupId,
      from,
      to,
    );
    if (from >= to || Number(sum?.["n"]) !== to - from || Number(sum?.["bytes"]) > maxBytes) return undefined;
    const rows = await this.all(`SELECT e.tree_delta ${between} ORDER BY e.epoch`, groupId, from, to);
    // One may have been voided, or have expired, between the two questions.
    return rows.length === to - from ? rows.map((row) => bytea(row["tree_delta"])) : undefined;
  }

  async findTree(
    treeHash: Bytes,
  ): Promise<{ readonly groupId: GroupId; readonly epoch: number } | undefined> {
    const row = await this.get(
      `SELECT g.group_id, e.epoch FROM mls_epochs e JOIN mls_groups g USING (mls_group)
       WHERE e.tree_hash = $1 ORDER BY e.epoch DESC LIMIT 1`,
      treeHash,
    );
    return row && { groupId: bytea(row["group_id"]) as GroupId, epoch: row["epoch"] as number };
  }

  async saveSnapshot(groupId: GroupId, epoch: number, treeHash: Bytes, snapshot: Bytes): Promise<void> {
    await this.database.write(groupId, async (statements) => {
      const key = (await lockGroup(statements, groupId))?.key;
      if (key === undefined) return;
      await statements.run(
        `INSERT INTO mls_snapshots SELECT mls_group, epoch, $4 FROM mls_epochs
         WHERE mls_group = $1 AND epoch = $2 AND tree_hash = $3 ON CONFLICT DO NOTHING`,
        key,
        epoch,
        treeHash,
        snapshot,
      );
      await statements.run("SELECT FROM mls_groups g, mls_prune(g) WHERE mls_group = $1", key);
    });
  }

  async formerLeaf(groupId: GroupId, signatureKey: Bytes): Promise<FormerLeaf | undefined> {
    const row = await this.get(
      `SELECT f.removed_at, b.removed_at AS banned_at FROM mls_former_leaves f JOIN mls_groups g USING (mls_group)
         LEFT JOIN mls_bans b USING (mls_group, signature_key, removed_at)
       WHERE g.group_id = $1 AND f.signature_key = $2 ORDER BY f.removed_at DESC LIMIT 1`,
      groupId,
      signatureKey,
    );
    if (row === undefined) return undefined;
    const removedAt = row["removed_at"] as number;
    return row["banned_at"] === null ? { removedAt } : { removedAt, banned: true };
  }

  async ban(
    groupId: GroupId,
    orderId: Bytes,
    account: AccountId,
    signatureKeys: readonly Bytes[],
  ): Promise<void> {
    await this.database.write(groupId, async (statements) => {
      const group = await lockGroup(statements, groupId);
      if (group === undefined) return;
      await statements.run(
        `WITH heard AS (
           INSERT INTO mls_ban_orders VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING mls_group
         )
         INSERT INTO mls_bans SELECT DISTINCT mls_group, signature_key, $3::bytea, NULL::bigint, NULL::bigint
           FROM heard, unnest($4::bytea[]) AS k (signature_key)
         ON CONFLICT (mls_group, signature_key)
           DO UPDATE SET removed_at = NULL, account_id = excluded.account_id, listed_at = NULL`,
        group.key,
        orderId,
        account,
        signatureKeys,
      );
    });
  }

  async bannedKeys(groupId: GroupId): Promise<readonly Bytes[]> {
    const rows = await this.all(
      `SELECT b.signature_key FROM mls_bans b JOIN mls_groups g USING (mls_group)
       WHERE g.group_id = $1 AND b.removed_at IS NULL ORDER BY b.signature_key`,
      groupId,
    );
    return rows.map((row) => bytea(row["signature_key"]));
  }

  async bannedAccounts(groupId: GroupId): Promise<readonly AccountId[]> {
    const rows = await this.all(
      `SELECT DISTINCT b.account_id FROM mls_bans b JOIN mls_groups g USING (mls_group)
       WHERE g.group_id = $1 AND b.listed_at IS NULL ORDER BY b.account_id`,
      groupId,
    );
    return rows.map((row) => accountId(bytea(row["account_id"])));
  }

  async saveCursors(cursors: readonly LeafCursor[]): Promise<void> {
    await this.database.write(CURSORS, (statements) =>
      statements.run(
        // In order, so that two nodes which save the same cursors do not wait for each other in a ring.
        `INSERT INTO mls_cursors AS known
         SELECT g.mls_group, c.signature_key, max(c.through_sequence)
         FROM unnest($1::bytea[], $2::bytea[], $3::bigint[]) AS c (group_id, signature_key, through_sequence)
           JOIN mls_groups g USING (group_id)
         GROUP BY 1, 2 ORDER BY 1, 2
         ON CONFLICT (mls_group, signature_key) DO UPDATE SET through_sequence = excluded.through_sequence
           WHERE known.through_sequence < excluded.through_sequence`,
        cursors.map(({ groupId }) => groupId),
        cursors.map(({ signatureKey }) => signatureKey),
        cursors.map(({ throughSequence }) => throughSequence),
      ),
    );
  }

  async cursor(groupId: GroupId, signatureKey: Bytes): Promise<number | undefined> {
    const row = await this.get(
      `SELECT c.through_sequence FROM mls_cursors c JOIN mls_groups g USING (mls_group)
       WHERE g.group_id = $1 AND c.signature_key = $2`,
      groupId,
      signatureKey,
    );
    return row?.["through_sequence"] as number | undefined;
  }

  async pendingProposals(groupId: GroupId): Promise<readonly Bytes[]> {
    const rows = await this.all(
      `SELECT p.proposal FROM mls_pending_proposals p JOIN mls_groups g USING (mls_group)
       WHERE g.group_id = $1 ORDER BY p.place`,
      groupId,
    );
    return rows.map((row) => bytea(row["proposal"]));
  }

  addProposal(
    groupId: GroupId,
    epoch: number,
    proposal: Bytes,
    max: number,
  ): Promise<"stored" | "full" | "outdated"> {
    return this.database.write(groupId, async (statements) => {
      const group = await lockGroup(statements, groupId);
      if (group === undefined || group.epoch !== epoch) return "outdated";
      const waiting = await statements.get(
        `SELECT count(*) AS n, coalesce(bool_or(proposal = $2), false) AS known FROM mls_pending_proposals
         WHERE mls_group = $1`,
        group.key,
        proposal,
      );
      if (waiting!["known"] === true) return "stored";
      const count = waiting!["n"] as number;
      if (count >= max) return "full";
      await statements.run(
        "INSERT INTO mls_pending_proposals VALUES ($1, $2, $3)",
        group.key,
        count + 1,
        proposal,
      );
      return "stored";
    });
  }

  async outbox(after: number, limit: number): Promise<readonly OutgoingWelcome[]> {
    // In this order: another node may give ids in between, and what it gave them to is then on the page.
    const [unseen, page] = await this.database.read((statements) =>
      Promise.all([
        statements.get("SELECT place FROM mls_outbox WHERE id IS NULL LIMIT 1"),
        statements.all(OUTBOX_PAGE, after, limit),
      ]),
    );
    if (unseen === undefined || page.length === limit) return page.map(toOutgoing);
    await this.database.write(OUTBOX, (statements) => statements.run("SELECT mls_number_outbox($1)", limit));
    return (await this.all(OUTBOX_PAGE, after, limit)).map(toOutgoing);
  }

  async removeFromOutbox(ids: readonly number[]): Promise<void> {
    if (ids.length === 0) return;
    await this.database.write(OUTBOX, (statements) =>
      statements.run("DELETE FROM mls_outbox WHERE id = ANY ($1::bigint[])", ids),
    );
  }

  expire(beforeMs: number, limit: number): Promise<number> {
    return expireEntries(this.database, beforeMs, limit);
  }

  expireGroups(day: number, limit: number): Promise<number> {
    return expireGroups(this.database, day, limit);
  }

  async touch(groupId: GroupId, day: number): Promise<void> {
    await this.database.write(groupId, (statements) =>
      statements.run(
        "UPDATE mls_groups SET last_used_day = $1 WHERE group_id = $2 AND last_used_day < $1",
        day,
        groupId,
      ),
    );
  }

  private all(sql: string, ...values: readonly PostgresValue[]): Promise<readonly PostgresRow[]> {
    return this.database.read((statements) => statements.all(sql, ...values));
  }

  private get(sql: string, ...values: readonly PostgresValue[]): Promise<PostgresRow | undefined> {
    return this.database.read((statements) => statements.get(sql, ...values));
  }
}

/** Alone with the group until the transaction ends. */
async function lockGroup(
  statements: PostgresStatements,
  groupId: GroupId,
): Promise<{ readonly key: number; readonly epoch: number } | undefined> {
  const row = await statements.get(
    "SELECT mls_group, epoch FROM mls_groups WHERE group_id = $1 FOR NO KEY UPDATE",
    groupId,
  );
  return row && { key: row["mls_group"] as number, epoch: row["epoch"] as number };
}

const OUTBOX_PAGE = `
  SELECT o.id, g.group_id, o.account_id, o.device_id, o.welcome, o.tree_hash, o.sequence, o.accepted_at_ms
  FROM mls_outbox o JOIN mls_groups g USING (mls_group) WHERE o.id > $1 ORDER BY o.id LIMIT $2`;

function toOutgoing(row: PostgresRow): OutgoingWelcome {
  return {
    id: row["id"] as number,
    groupId: bytea(row["group_id"]) as GroupId,
    recipient: {
      accountId: accountId(bytea(row["account_id"])),
      deviceId: row["device_id"] as DeviceId,
    },
    welcome: bytea(row["welcome"]),
    treeHash: bytea(row["tree_hash"]),
    sequence: row["sequence"] as number,
    acceptedAtMs: row["accepted_at_ms"] as number,
  };
}

const ENTRY = "e.sequence, e.kind, e.voids, e.parted_sequence, e.accepted_at_ms, e.message, b.ban_list";
/** Which have not expired. The second says in which periods they are. */
const KEPT = "AND e.sequence >= g.first_sequence AND e.filed_at_ms >= g.filed_from_ms";
const WITH_BAN_LIST = "LEFT JOIN mls_ban_lists b ON b.mls_group = e.mls_group AND b.sequence = e.sequence";

function toEntry(row: PostgresRow): LogEntry {
  return {
    sequence: row["sequence"] as number,
    kind: row["kind"] as LogEntry["kind"],
    message: bytea(row["message"]),
    banList: optionalBytea(row["ban_list"]),
    voids: (row["voids"] as number | null) ?? undefined,
    partedSequence: (row["parted_sequence"] as number | null) ?? undefined,
    acceptedAtMs: row["accepted_at_ms"] as number,
  };
}

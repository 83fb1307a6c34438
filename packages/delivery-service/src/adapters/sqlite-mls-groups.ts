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
import { blob, optionalBlob, type SqliteDatabase } from "./sqlite-database.ts";
import {
  appendCommit,
  appendMessage,
  appendRefeed,
  insertEpoch,
  loadHead,
  voidCommit,
} from "./sqlite-mls-appends.ts";
import { expireEntries, prune } from "./sqlite-mls-expiry.ts";

/** {@link MlsGroupStore} on SQLite. */
export class SqliteMlsGroupStore implements MlsGroupStore {
  private readonly database: SqliteDatabase;

  constructor(database: SqliteDatabase) {
    this.database = database;
  }

  create(group: NewMlsGroup): Promise<"created" | "exists"> {
    return this.database.write((statements) => {
      const inserted = statements
        .prepare(
          `INSERT INTO mls_groups (group_id, epoch, last_sequence, first_sequence, last_used_day)
           VALUES (?, ?, 0, 1, ?) ON CONFLICT DO NOTHING`,
        )
        .run(group.groupId, group.epoch, group.day);
      if (inserted.changes === 0) return "exists";
      const key = Number(inserted.lastInsertRowid);
      insertEpoch(statements, key, {
        epoch: group.epoch,
        commitSequence: 0,
        lastRemovalEpoch: group.epoch,
        banListSequence: undefined,
        treeHash: group.treeHash,
        groupInfo: group.groupInfo,
        treeDelta: undefined,
      });
      statements.prepare("INSERT INTO mls_snapshots VALUES (?, ?, ?)").run(key, group.epoch, group.tree);
      return "created";
    });
  }

  load(groupId: GroupId): Promise<MlsGroupRow | undefined> {
    return this.database.read((statements) => {
      const row = statements
        .prepare(
          `SELECT g.epoch, g.last_sequence, g.first_sequence, g.last_used_day, e.group_info, e.tree_hash,
             e.last_removal_epoch, e.commit_sequence, b.ban_list
           FROM mls_groups g
           JOIN mls_epochs e ON e.mls_group = g.mls_group AND e.epoch = g.epoch
           LEFT JOIN mls_ban_lists b ON b.mls_group = g.mls_group AND b.sequence = e.ban_list_sequence
           WHERE g.group_id = ?`,
        )
        .get(groupId);
      return (
        row && {
          groupId,
          epoch: row["epoch"] as number,
          lastSequence: row["last_sequence"] as number,
          firstSequence: row["first_sequence"] as number,
          groupInfo: blob(row["group_info"]),
          treeHash: blob(row["tree_hash"]),
          banList: optionalBlob(row["ban_list"]),
          lastRemovalEpoch: row["last_removal_epoch"] as number,
          lastCommitSequence: row["commit_sequence"] as number,
          lastUsedDay: row["last_used_day"] as number,
        }
      );
    });
  }

  heads(groupIds: readonly GroupId[]): Promise<readonly (GroupHead | undefined)[]> {
    return this.database.read((statements) => {
      const head = statements.prepare(
        `SELECT last_sequence, (SELECT count(*) FROM mls_bans b WHERE b.mls_group = g.mls_group) AS bans
         FROM mls_groups g WHERE group_id = ?`,
      );
      return groupIds.map((groupId) => {
        const row = head.get(groupId);
        return row && { lastSequence: Number(row["last_sequence"]), bans: Number(row["bans"]) };
      });
    });
  }

  appendMessage(append: AppendMessage): Promise<AppendMessageOutcome> {
    return this.database.write((statements) => appendMessage(statements, append));
  }

  appendCommit(append: AppendCommit): Promise<AppendCommitOutcome> {
    return this.database.write((statements) => appendCommit(statements, append));
  }

  refeed(append: AppendRefeed): Promise<AppendRefeedOutcome> {
    return this.database.write((statements) => appendRefeed(statements, append));
  }

  voidCommit(request: VoidCommit): Promise<{ readonly sequence: number } | undefined> {
    return this.database.write((statements) => voidCommit(statements, request));
  }

  read(
    groupId: GroupId,
    after: number,
    through: number,
    limits: { readonly maxEntries: number; readonly maxBytes: number },
  ): Promise<readonly LogEntry[]> {
    return this.database.read((statements) => {
      const rows = statements
        .prepare(
          `${SELECT_ENTRIES} WHERE g.group_id = ? AND e.sequence > ? AND e.sequence <= ?
           ORDER BY e.sequence LIMIT ?`,
        )
        .iterate(groupId, after, through, limits.maxEntries);
      const page: LogEntry[] = [];
      let bytes = 0;
      for (const row of rows) {
        const entry = toEntry(row);
        bytes += entry.message.length + (entry.banList?.length ?? 0);
        if (page.length > 0 && bytes > limits.maxBytes) break;
        page.push(entry);
      }
      return page;
    });
  }

  commitOf(groupId: GroupId, epoch: number): Promise<readonly LogEntry[] | undefined> {
    return this.database.read((statements) => {
      const commit = statements
        .prepare(
          `SELECT e.mls_group, e.sequence, e.proposals FROM mls_entries e JOIN mls_groups g USING (mls_group)
           WHERE g.group_id = ? AND e.leads_from = ?`,
        )
        .get(groupId, epoch);
      if (commit === undefined) return undefined;
      const [sequence, proposals] = [commit["sequence"] as number, commit["proposals"] as number];
      const entries = statements
        .prepare(`${SELECT_ENTRIES} WHERE e.mls_group = ? AND e.sequence BETWEEN ? AND ? ORDER BY e.sequence`)
        .all(commit["mls_group"] as number, sequence - proposals, sequence)
        .map(toEntry);
      return entries.length === proposals + 1 ? entries : undefined;
    });
  }

  loadTree(groupId: GroupId, epoch: number): Promise<StoredTree | undefined> {
    return this.database.read((statements) => {
      const found = statements
        .prepare(
          `SELECT e.mls_group, e.tree_hash FROM mls_epochs e JOIN mls_groups g USING (mls_group)
           WHERE g.group_id = ? AND e.epoch = ?`,
        )
        .get(groupId, epoch);
      if (found === undefined) return undefined;
      const key = found["mls_group"] as number;
      const snapshot = statements
        .prepare(
          "SELECT epoch, tree FROM mls_snapshots WHERE mls_group = ? AND epoch <= ? ORDER BY epoch DESC LIMIT 1",
        )
        .get(key, epoch)!;
      const deltas = statements
        .prepare(
          "SELECT tree_delta FROM mls_epochs WHERE mls_group = ? AND epoch > ? AND epoch <= ? ORDER BY epoch",
        )
        .all(key, snapshot["epoch"] as number, epoch);
      return {
        epoch,
        treeHash: blob(found["tree_hash"]),
        snapshotEpoch: snapshot["epoch"] as number,
        snapshot: blob(snapshot["tree"]),
        deltas: deltas.map((row) => blob(row["tree_delta"])),
      };
    });
  }

  treeBytes(groupId: GroupId, epoch: number): Promise<number> {
    return this.database.read((statements) => {
      const found = statements
        .prepare(
          `SELECT s.mls_group, s.epoch, length(s.tree) AS bytes
           FROM mls_groups g JOIN mls_epochs e USING (mls_group) JOIN mls_snapshots s USING (mls_group)
           WHERE g.group_id = ? AND e.epoch = ? AND s.epoch <= e.epoch ORDER BY s.epoch DESC LIMIT 1`,
        )
        .get(groupId, epoch);
      if (found === undefined) return 0;
      const deltas = statements
        .prepare(
          "SELECT total(length(tree_delta)) AS bytes FROM mls_epochs WHERE mls_group = ? AND epoch > ? AND epoch <= ?",
        )
        .get(found["mls_group"] as number, found["epoch"] as number, epoch)!;
      return (found["bytes"] as number) + (deltas["bytes"] as number);
    });
  }

  treeDeltas(
    groupId: GroupId,
    from: number,
    to: number,
    maxBytes: number,
  ): Promise<readonly Bytes[] | undefined> {
    const between = `FROM mls_epochs e JOIN mls_groups g USING (mls_group)
      WHERE g.group_id = ? AND e.epoch > ? AND e.epoch <= ? AND e.tree_delta IS NOT NULL`;
    return this.database.read((statements) => {
      const { n, bytes } = statements
        .prepare(`SELECT count(*) AS n, total(length(e.tree_delta)) AS bytes ${between}`)
        .get(groupId, from, to) as { readonly n: number; readonly bytes: number };
      if (from >= to || n !== to - from || bytes > maxBytes) return undefined;
      const rows = statements
        .prepare(`SELECT e.tree_delta ${between} ORDER BY e.epoch`)
        .all(groupId, from, to);
      return rows.map((row) => blob(row["tree_delta"]));
    });
  }

  findTree(treeHash: Bytes): Promise<{ readonly groupId: GroupId; readonly epoch: number } | undefined> {
    return this.database.read((statements) => {
      const row = statements
        .prepare(
          `SELECT g.group_id, e.epoch FROM mls_epochs e JOIN mls_groups g USING (mls_group)
           WHERE e.tree_hash = ? ORDER BY e.epoch DESC LIMIT 1`,
        )
        .get(treeHash);
      return row && { groupId: blob(row["group_id"]) as GroupId, epoch: row["epoch"] as number };
    });
  }

  async saveSnapshot(groupId: GroupId, epoch: number, treeHash: Bytes, snapshot: Bytes): Promise<void> {
    await this.database.write((statements) => {
      const row = statements
        .prepare(
          `SELECT e.mls_group FROM mls_epochs e JOIN mls_groups g USING (mls_group)
           WHERE g.group_id = ? AND e.epoch = ? AND e.tree_hash = ?`,
        )
        .get(groupId, epoch, treeHash);
      if (row === undefined) return;
      const key = row["mls_group"] as number;
      statements
        .prepare("INSERT INTO mls_snapshots VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        .run(key, epoch, snapshot);
      prune(statements, key);
    });
  }

  formerLeaf(groupId: GroupId, signatureKey: Bytes): Promise<FormerLeaf | undefined> {
    return this.database.read((statements) => {
      const row = statements
        .prepare(
          `SELECT f.removed_at, b.removed_at AS banned_at FROM mls_former_leaves f JOIN mls_groups g USING (mls_group)
             LEFT JOIN mls_bans b USING (mls_group, signature_key, removed_at)
           WHERE g.group_id = ? AND f.signature_key = ? ORDER BY f.removed_at DESC LIMIT 1`,
        )
        .get(groupId, signatureKey);
      if (row === undefined) return undefined;
      const removedAt = row["removed_at"] as number;
      return row["banned_at"] === null ? { removedAt } : { removedAt, banned: true };
    });
  }

  async ban(
    groupId: GroupId,
    orderId: Bytes,
    account: AccountId,
    signatureKeys: readonly Bytes[],
  ): Promise<void> {
    await this.database.write((statements) => {
      const head = loadHead(statements, groupId);
      if (head === undefined) return;
      const order = statements
        .prepare("INSERT INTO mls_ban_orders VALUES (?, ?) ON CONFLICT DO NOTHING")
        .run(head.key, orderId);
      if (order.changes === 0) return;
      const insert = statements.prepare(
        `INSERT INTO mls_bans VALUES (?, ?, NULL, ?, NULL)
         ON CONFLICT DO UPDATE SET removed_at = NULL, account_id = excluded.account_id, listed_at = NULL`,
      );
      for (const signatureKey of signatureKeys) insert.run(head.key, signatureKey, account);
    });
  }

  bannedKeys(groupId: GroupId): Promise<readonly Bytes[]> {
    return this.database.read((statements) =>
      statements
        .prepare(
          `SELECT b.signature_key FROM mls_bans b JOIN mls_groups g USING (mls_group)
           WHERE g.group_id = ? AND b.removed_at IS NULL ORDER BY b.signature_key`,
        )
        .all(groupId)
        .map((row) => blob(row["signature_key"])),
    );
  }

  bannedAccounts(groupId: GroupId): Promise<readonly AccountId[]> {
    return this.database.read((statements) =>
      statements
        .prepare(
          `SELECT DISTINCT b.account_id FROM mls_bans b JOIN mls_groups g USING (mls_group)
           WHERE g.group_id = ? AND b.account_id IS NOT NULL AND b.listed_at IS NULL ORDER BY b.account_id`,
        )
        .all(groupId)
        .map((row) => accountId(blob(row["account_id"]))),
    );
  }

  async saveCursors(cursors: readonly LeafCursor[]): Promise<void> {
    await this.database.write((statements) => {
      const save = statements.prepare(
        `INSERT INTO mls_cursors SELECT mls_group, ?, ? FROM mls_groups WHERE group_id = ?
         ON CONFLICT DO UPDATE SET through_sequence = max(through_sequence, excluded.through_sequence)`,
      );
      for (const { groupId, signatureKey, throughSequence } of cursors) {
        save.run(signatureKey, throughSequence, groupId);
      }
    });
  }

  cursor(groupId: GroupId, signatureKey: Bytes): Promise<number | undefined> {
    return this.database.read((statements) => {
      const row = statements
        .prepare(
          `SELECT c.through_sequence FROM mls_cursors c JOIN mls_groups g USING (mls_group)
           WHERE g.group_id = ? AND c.signature_key = ?`,
        )
        .get(groupId, signatureKey);
      return row?.["through_sequence"] as number | undefined;
    });
  }

  pendingProposals(groupId: GroupId): Promise<readonly Bytes[]> {
    return this.database.read((statements) =>
      statements
        .prepare(
          `SELECT p.proposal FROM mls_pending_proposals p JOIN mls_groups g USING (mls_group)
           WHERE g.group_id = ? ORDER BY p.place`,
        )
        .all(groupId)
        .map((row) => blob(row["proposal"])),
    );
  }

  addProposal(
    groupId: GroupId,
    epoch: number,
    proposal: Bytes,
    max: number,
  ): Promise<"stored" | "full" | "outdated"> {
    return this.database.write((statements) => {
      const head = loadHead(statements, groupId);
      if (head === undefined || head.epoch !== epoch) return "outdated";
      const known = statements
        .prepare("SELECT 1 FROM mls_pending_proposals WHERE mls_group = ? AND proposal = ?")
        .get(head.key, proposal);
      if (known !== undefined) return "stored";
      const waiting = statements
        .prepare("SELECT count(*) AS n FROM mls_pending_proposals WHERE mls_group = ?")
        .get(head.key)!["n"] as number;
      if (waiting >= max) return "full";
      statements
        .prepare("INSERT INTO mls_pending_proposals VALUES (?, ?, ?)")
        .run(head.key, waiting + 1, proposal);
      return "stored";
    });
  }

  outbox(after: number, limit: number): Promise<readonly OutgoingWelcome[]> {
    return this.database.read((statements) =>
      statements
        .prepare(
          `SELECT o.id, g.group_id, o.account_id, o.device_id, o.welcome, o.tree_hash, o.sequence, o.accepted_at_ms
           FROM mls_outbox o JOIN mls_groups g USING (mls_group) WHERE o.id > ? ORDER BY o.id LIMIT ?`,
        )
        .all(after, limit)
        .map((row) => ({
          id: row["id"] as number,
          groupId: blob(row["group_id"]) as GroupId,
          recipient: {
            accountId: blob(row["account_id"]) as AccountId,
            deviceId: row["device_id"] as DeviceId,
          },
          welcome: blob(row["welcome"]),
          treeHash: blob(row["tree_hash"]),
          sequence: row["sequence"] as number,
          acceptedAtMs: row["accepted_at_ms"] as number,
        })),
    );
  }

  async removeFromOutbox(ids: readonly number[]): Promise<void> {
    await this.database.write((statements) => {
      const remove = statements.prepare("DELETE FROM mls_outbox WHERE id = ?");
      for (const id of ids) remove.run(id);
    });
  }

  expire(beforeMs: number, limit: number): Promise<number> {
    return this.database.write((statements) => expireEntries(statements, beforeMs, limit));
  }

  expireGroups(day: number, limit: number): Promise<number> {
    return this.database.write((statements) =>
      Number(
        statements
          .prepare(
            `DELETE FROM mls_groups WHERE mls_group IN
               (SELECT mls_group FROM mls_groups WHERE last_used_day < ? LIMIT ?)`,
          )
          .run(day, limit).changes,
      ),
    );
  }

  async touch(groupId: GroupId, day: number): Promise<void> {
    await this.database.write((statements) => {
      statements
        .prepare("UPDATE mls_groups SET last_used_day = ? WHERE group_id = ? AND last_used_day < ?")
        .run(day, groupId, day);
    });
  }
}

const SELECT_ENTRIES = `SELECT e.sequence, e.kind, e.voids, e.parted_sequence, e.accepted_at_ms, e.message, b.ban_list
  FROM mls_entries e JOIN mls_groups g USING (mls_group)
  LEFT JOIN mls_ban_lists b ON b.mls_group = e.mls_group AND b.sequence = e.sequence`;

function toEntry(row: Record<string, unknown>): LogEntry {
  return {
    sequence: row["sequence"] as number,
    kind: row["kind"] as LogEntry["kind"],
    message: blob(row["message"]),
    banList: optionalBlob(row["ban_list"]),
    voids: (row["voids"] as number | null) ?? undefined,
    partedSequence: (row["parted_sequence"] as number | null) ?? undefined,
    acceptedAtMs: row["accepted_at_ms"] as number,
  };
}

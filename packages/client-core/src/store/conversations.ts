import { type AccountId, accountId, type Bytes, equalBytes } from "@murmuration/base";
import type { ConversationState, Role } from "../api.ts";
import type { WakeBy } from "../core/push.ts";
import type { Row, Storage } from "../ports/storage.ts";
import { KeptRows, type KeptStorage, keyOf } from "./kept-storage.ts";

export interface ConversationRow {
  readonly id: Bytes;
  readonly kind: "direct" | "group";
  readonly state: ConversationState;
  readonly protocol: "pairwise" | "mls";
  readonly title: string;
  readonly expireAfterSeconds: number;
}

/** The verified state of a group record, without its members. */
export interface GroupRow {
  readonly groupKey: Bytes;
  readonly fence: Bytes;
  readonly revision: number;
  readonly hash: Bytes;
  /** The service showed another past than before: nothing is sent until the user decided. */
  readonly forked: boolean;
  /** Revision of a leave after which the group key has to be replaced; 0 for none. */
  readonly rotateAfter: number;
}

export interface MemberRow {
  readonly account: AccountId;
  readonly role: Role;
  readonly invited: boolean;
  readonly identityKey: Bytes;
}

/** Lists of members that are kept: a large group's takes some hundred bytes for each. */
const MAX_LISTS = 2;

const isSameMember = (a: MemberRow, b: MemberRow): boolean =>
  a.role === b.role && a.invited === b.invited && equalBytes(a.identityKey, b.identityKey);

export interface PendingKey {
  readonly revision: number;
  readonly author: AccountId;
  readonly groupKey: Bytes;
  readonly fence: Bytes;
}

/** The key of a generation that is over, with the revision from which on it was. */
export interface PastKey {
  readonly groupKey: Bytes;
  readonly overFrom: number;
}

/** An own change between the moment it was decided and the moment the service took it. */
export interface PendingWrite {
  readonly revision: number;
  readonly change: Bytes;
  /** The request body, sent again as it is. */
  readonly body: Bytes;
  /** The key under which the record will lie: a new one where a generation starts. */
  readonly groupKey: Bytes;
  /** The new generation's fence; undefined where the generation stays. */
  readonly fence: Bytes | undefined;
  /** Outbox row that announces the new key and has to be accepted first; 0 for none. */
  readonly announcement: number;
}

const bytesOf = (row: Row, key: string): Bytes => new Uint8Array(row[key] as Bytes);

function conversationOf(row: Row): ConversationRow {
  return {
    id: bytesOf(row, "id"),
    kind: row["kind"] as ConversationRow["kind"],
    state: row["state"] as ConversationState,
    protocol: row["protocol"] as ConversationRow["protocol"],
    title: row["title"] as string,
    expireAfterSeconds: row["expiry"] as number,
  };
}

const memberOf = (row: Row): MemberRow => ({
  account: accountId(bytesOf(row, "account")),
  role: row["role"] as Role,
  invited: row["invited"] === 1,
  identityKey: bytesOf(row, "identity_key"),
});

/** Owners and admins of a group that is pairwise. */
const MAY_ROTATE = `EXISTS (SELECT 1 FROM group_member WHERE group_id = group_state.id AND account = ?
    AND role <> 'member' AND invited = 0 AND removed_at IS NULL)
  AND EXISTS (SELECT 1 FROM conversation WHERE conversation.id = group_state.id AND protocol = 'pairwise' AND state = 'active')`;

export class ConversationStore {
  private readonly storage: Storage;
  private readonly rows: KeptRows<ConversationRow>;
  /** Whole lists: whoever looks at all members of a group looks at them again while it does. */
  private readonly lists: KeptRows<readonly MemberRow[]>;
  private readonly counts: KeptRows<number>;

  constructor(storage: KeptStorage) {
    this.storage = storage;
    this.rows = new KeptRows(storage, "conversation");
    this.lists = new KeptRows(storage, "group_member", MAX_LISTS);
    this.counts = new KeptRows(storage, "group_member");
  }

  get(id: Bytes): ConversationRow | undefined {
    return this.rows.get(keyOf(id), () => {
      const row = this.storage.get("SELECT * FROM conversation WHERE id = ?", [id]);
      return row === undefined ? undefined : conversationOf(row);
    });
  }

  list(): readonly ConversationRow[] {
    return this.storage.all("SELECT * FROM conversation ORDER BY active_at DESC, id").map(conversationOf);
  }

  insert(row: ConversationRow, atMs: number): void {
    this.storage.run(
      "INSERT INTO conversation (id, kind, state, protocol, title, expiry, active_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
      [row.id, row.kind, row.state, row.protocol, row.title, row.expireAfterSeconds, atMs],
    );
  }

  setState(id: Bytes, state: ConversationState): void {
    this.storage.run("UPDATE conversation SET state = ? WHERE id = ?", [state, id]);
  }

  setTitle(id: Bytes, title: string): void {
    this.storage.run("UPDATE conversation SET title = ? WHERE id = ?", [title, id]);
  }

  setExpiry(id: Bytes, seconds: number): void {
    this.storage.run("UPDATE conversation SET expiry = ? WHERE id = ?", [seconds, id]);
  }

  setProtocol(id: Bytes, protocol: ConversationRow["protocol"]): void {
    this.storage.run("UPDATE conversation SET protocol = ? WHERE id = ?", [protocol, id]);
  }

  /** 0: not muted. */
  mutedUntil(id: Bytes): number {
    const row = this.storage.get("SELECT muted_until FROM conversation WHERE id = ?", [id]);
    return (row?.["muted_until"] as number | undefined) ?? 0;
  }

  /** What decides about waking this device. One look-up by key. */
  wakeTerms(id: Bytes): { readonly wakeBy: WakeBy; readonly mutedUntilMs: number } {
    const row = this.storage.get("SELECT wake_by, muted_until FROM conversation WHERE id = ?", [id]);
    return {
      wakeBy: (row?.["wake_by"] as WakeBy | undefined) ?? "messages",
      mutedUntilMs: (row?.["muted_until"] as number | undefined) ?? 0,
    };
  }

  setWakeBy(id: Bytes, wakeBy: WakeBy): void {
    this.storage.run("UPDATE conversation SET wake_by = ? WHERE id = ?", [wakeBy, id]);
  }

  setMuted(id: Bytes, untilMs: number): void {
    this.storage.run("UPDATE conversation SET muted_until = ? WHERE id = ?", [untilMs, id]);
  }

  touch(id: Bytes, atMs: number): void {
    const sql = "UPDATE conversation SET active_at = max(active_at, ?) WHERE id = ?";
    this.rows.writeThrough(keyOf(id), () => this.storage.run(sql, [atMs, id]));
  }

  /** When it last had another line, or its group changed, ms since 1970; 0 for none. Of a community by the service's clock. */
  activeAtMs(id: Bytes): number {
    return (this.storage.get("SELECT active_at FROM conversation WHERE id = ?", [id])?.["active_at"] ??
      0) as number;
  }

  delete(id: Bytes): void {
    this.storage.run("DELETE FROM conversation WHERE id = ?", [id]);
    this.storage.run("DELETE FROM group_state WHERE id = ?", [id]);
    this.storage.run("DELETE FROM group_member WHERE group_id = ?", [id]);
    this.storage.run("DELETE FROM group_pending_key WHERE group_id = ?", [id]);
    this.storage.run("DELETE FROM group_past_key WHERE group_id = ?", [id]);
    this.storage.run("DELETE FROM group_log WHERE group_id = ?", [id]);
    this.storage.run("DELETE FROM group_write WHERE group_id = ?", [id]);
    this.storage.run("DELETE FROM other_identity WHERE group_id = ?", [id]);
  }

  // Groups.

  group(id: Bytes): GroupRow | undefined {
    const row = this.storage.get("SELECT * FROM group_state WHERE id = ?", [id]);
    if (row === undefined) return undefined;
    return {
      groupKey: bytesOf(row, "group_key"),
      fence: bytesOf(row, "fence"),
      revision: row["revision"] as number,
      hash: bytesOf(row, "hash"),
      forked: row["forked"] === 1,
      rotateAfter: row["rotate_after"] as number,
    };
  }

  groups(): readonly Bytes[] {
    return this.storage.all("SELECT id FROM group_state ORDER BY id").map((row) => bytesOf(row, "id"));
  }

  /** Groups whose key has to be replaced, by an account that may do it: nobody else asks for their members each time. */
  groupsToRotate(account: AccountId): readonly Bytes[] {
    return this.storage
      .all(`SELECT id FROM group_state WHERE rotate_after > 0 AND ${MAY_ROTATE} ORDER BY id`, [account])
      .map((row) => bytesOf(row, "id"));
  }

  /** Somebody who has all that this account's devices have is none of them any more. */
  rotateAll(account: AccountId): void {
    this.storage.run(
      `UPDATE group_state SET rotate_after = revision WHERE rotate_after = 0 AND ${MAY_ROTATE}`,
      [account],
    );
  }

  saveGroup(id: Bytes, group: GroupRow): void {
    this.storage.run(
      `INSERT INTO group_state (id, group_key, fence, revision, hash, forked, rotate_after) VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET group_key = excluded.group_key, fence = excluded.fence,
         revision = excluded.revision, hash = excluded.hash, forked = excluded.forked,
         rotate_after = excluded.rotate_after`,
      [id, group.groupKey, group.fence, group.revision, group.hash, group.forked ? 1 : 0, group.rotateAfter],
    );
  }

  /** Everybody who is present, by account id. O(members) where the list was not asked for since it last changed. */
  members(id: Bytes): readonly MemberRow[] {
    return this.lists.read(keyOf(id), () => this.membersAfter(id));
  }

  /** A page of them. */
  membersAfter(id: Bytes, after: Bytes = new Uint8Array(0), limit = -1): readonly MemberRow[] {
    return this.storage
      .all(
        `SELECT account, role, invited, identity_key FROM group_member
           WHERE group_id = ? AND removed_at IS NULL AND account > ? ORDER BY account LIMIT ?`,
        [id, after, limit],
      )
      .map(memberOf);
  }

  /** Members whose name, given by us or by themselves, has this text in it. */
  findMembers(
    id: Bytes,
    by: { readonly search: string; readonly after: Bytes | undefined; readonly limit: number },
  ): readonly MemberRow[] {
    const pattern = `%${by.search.replace(/[~%_]/g, "~$&")}%`;
    return this.storage
      .all(
        `SELECT m.account, m.role, m.invited, m.identity_key FROM group_member m
           JOIN contact c ON c.account = m.account
           WHERE m.group_id = ? AND m.removed_at IS NULL AND m.account > ?
           AND (c.name LIKE ? ESCAPE '~' OR c.given_name LIKE ? ESCAPE '~') ORDER BY m.account LIMIT ?`,
        [id, by.after ?? new Uint8Array(0), pattern, pattern, by.limit],
      )
      .map(memberOf);
  }

  /** Accounts of the present members that are not just invited, by account id. One query, and no more of a row than that. */
  memberAccounts(id: Bytes): readonly AccountId[] {
    return this.storage
      .all(
        `SELECT account FROM group_member WHERE group_id = ? AND removed_at IS NULL AND invited = 0
           ORDER BY account`,
        [id],
      )
      .map((row) => accountId(row["account"] as Bytes));
  }

  member(id: Bytes, account: AccountId): MemberRow | undefined {
    const row = this.storage.get(
      "SELECT account, role, invited, identity_key FROM group_member WHERE group_id = ? AND account = ? AND removed_at IS NULL",
      [id, account],
    );
    return row === undefined ? undefined : memberOf(row);
  }

  /** When we learned that an account is no member any more; undefined for a present or unknown one. */
  removedAt(id: Bytes, account: AccountId): number | undefined {
    const row = this.storage.get("SELECT removed_at FROM group_member WHERE group_id = ? AND account = ?", [
      id,
      account,
    ]);
    return (row?.["removed_at"] as number | null | undefined) ?? undefined;
  }

  /**
   * Replaces the member list: writes who is another than before. Those who are gone stay as a mark, with the time at which
   * we learned it.
   */
  saveMembers(id: Bytes, members: readonly MemberRow[], atMs: number): void {
    const present = new Set(members.map((member) => keyOf(member.account)));
    const before = new Map(this.members(id).map((member) => [keyOf(member.account), member]));
    for (const [key, { account }] of before) {
      if (present.has(key)) continue;
      this.storage.run("UPDATE group_member SET removed_at = ? WHERE group_id = ? AND account = ?", [
        atMs,
        id,
        account,
      ]);
    }
    for (const member of members) {
      const known = before.get(keyOf(member.account));
      if (known !== undefined && isSameMember(known, member)) continue;
      this.storage.run(
        `INSERT INTO group_member (group_id, account, role, invited, identity_key) VALUES (?, ?, ?, ?, ?)
           ON CONFLICT DO UPDATE SET role = excluded.role, invited = excluded.invited,
           identity_key = excluded.identity_key, removed_at = NULL`,
        [id, member.account, member.role, member.invited ? 1 : 0, member.identityKey],
      );
    }
  }

  // One member of an MLS group at a time: a commit changes few of thousands.

  putMember(id: Bytes, member: MemberRow): void {
    this.storage.run(
      `INSERT INTO group_member (group_id, account, role, invited, identity_key) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET role = excluded.role, invited = excluded.invited,
         identity_key = excluded.identity_key, removed_at = NULL`,
      [id, member.account, member.role, member.invited ? 1 : 0, member.identityKey],
    );
  }

  setRole(id: Bytes, account: AccountId, role: Role): void {
    this.storage.run("UPDATE group_member SET role = ? WHERE group_id = ? AND account = ?", [
      role,
      id,
      account,
    ]);
  }

  removeMember(id: Bytes, account: AccountId, atMs: number): void {
    this.storage.run("UPDATE group_member SET removed_at = ? WHERE group_id = ? AND account = ?", [
      atMs,
      id,
      account,
    ]);
  }

  /** Former members that had only been invited. */
  formerlyInvited(id: Bytes): readonly AccountId[] {
    return this.storage
      .all("SELECT account FROM group_member WHERE group_id = ? AND removed_at IS NOT NULL AND invited = 1", [
        id,
      ])
      .map((row) => accountId(row["account"] as Bytes));
  }

  /**
   * Replaces the member list of a group that this device has come into: who was there before leaves no mark. Returns the
   * accounts that were not present before. One question, and a write for each member that is another than before.
   */
  replaceMembers(id: Bytes, members: readonly MemberRow[]): readonly AccountId[] {
    // Asked first: a deletion of nothing would have the list read anew.
    const marked = "SELECT 1 FROM group_member WHERE group_id = ? AND removed_at IS NOT NULL LIMIT 1";
    if (this.storage.get(marked, [id]) !== undefined)
      this.storage.run("DELETE FROM group_member WHERE group_id = ? AND removed_at IS NOT NULL", [id]);
    const before = new Map(this.members(id).map((member) => [keyOf(member.account), member]));
    const fresh: AccountId[] = [];
    for (const member of members) {
      const key = keyOf(member.account);
      const known = before.get(key);
      before.delete(key);
      if (known === undefined) fresh.push(member.account);
      else if (isSameMember(known, member)) continue;
      this.putMember(id, member);
    }
    for (const { account } of before.values())
      this.storage.run("DELETE FROM group_member WHERE group_id = ? AND account = ?", [id, account]);
    return fresh;
  }

  /** Members that are not just invited. O(members) where it was not asked since the list last changed. */
  countMembers(id: Bytes): number {
    return this.counts.read(keyOf(id), () => {
      const row = this.storage.get(
        "SELECT count(*) AS n FROM group_member WHERE group_id = ? AND removed_at IS NULL AND invited = 0",
        [id],
      );
      return row!["n"] as number;
    });
  }

  /** Where an account is a present member, and under which identity key. O(members of all groups). */
  standings(account: AccountId): readonly { readonly group: Bytes; readonly identityKey: Bytes }[] {
    const sql = "SELECT group_id, identity_key FROM group_member WHERE account = ? AND removed_at IS NULL";
    return this.storage
      .all(sql, [account])
      .map((row) => ({ group: bytesOf(row, "group_id"), identityKey: bytesOf(row, "identity_key") }));
  }

  /** False where it was noted before. */
  noteOtherIdentity(id: Bytes, account: AccountId, identityKey: Uint8Array): boolean {
    const sql = "INSERT INTO other_identity VALUES (?, ?, ?) ON CONFLICT DO NOTHING";
    return this.storage.run(sql, [id, account, new Uint8Array(identityKey)]).changes === 1;
  }

  /** Groups in which an account is a present member. O(members of all groups). */
  groupsWith(account: AccountId): readonly Bytes[] {
    return this.standings(account).map(({ group }) => group);
  }

  /** The encoded changes of the record, from revision 1 on. */
  changes(id: Bytes): readonly Bytes[] {
    return this.storage
      .all("SELECT change FROM group_log WHERE group_id = ? ORDER BY revision", [id])
      .map((row) => bytesOf(row, "change"));
  }

  /** One of them; O(1). */
  change(id: Bytes, revision: number): Bytes | undefined {
    const row = this.storage.get("SELECT change FROM group_log WHERE group_id = ? AND revision = ?", [
      id,
      revision,
    ]);
    return row && bytesOf(row, "change");
  }

  appendChange(id: Bytes, revision: number, change: Bytes): void {
    this.storage.run("INSERT INTO group_log (group_id, revision, change) VALUES (?, ?, ?)", [
      id,
      revision,
      change,
    ]);
  }

  // Own changes on their way.

  pendingWrite(id: Bytes): PendingWrite | undefined {
    const row = this.storage.get("SELECT * FROM group_write WHERE group_id = ?", [id]);
    if (row === undefined) return undefined;
    return {
      revision: row["revision"] as number,
      change: bytesOf(row, "change"),
      body: bytesOf(row, "body"),
      groupKey: bytesOf(row, "group_key"),
      fence: row["fence"] === null ? undefined : bytesOf(row, "fence"),
      announcement: row["announced"] as number,
    };
  }

  pendingWrites(): readonly Bytes[] {
    return this.storage.all("SELECT group_id FROM group_write").map((row) => bytesOf(row, "group_id"));
  }

  savePendingWrite(id: Bytes, write: PendingWrite): void {
    this.storage.run(
      `INSERT INTO group_write (group_id, revision, change, body, group_key, fence, announced)
         VALUES (?, ?, ?, ?, ?, ?, ?)`,
      [id, write.revision, write.change, write.body, write.groupKey, write.fence ?? null, write.announcement],
    );
  }

  deletePendingWrite(id: Bytes): void {
    this.storage.run("DELETE FROM group_write WHERE group_id = ?", [id]);
  }

  // Keys announced for a coming generation.

  addPendingKey(id: Bytes, key: PendingKey): void {
    this.storage.run(
      `INSERT INTO group_pending_key (group_id, revision, author, group_key, fence) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET group_key = excluded.group_key, fence = excluded.fence`,
      [id, key.revision, key.author, key.groupKey, key.fence],
    );
  }

  pendingKeys(id: Bytes): readonly PendingKey[] {
    return this.storage
      .all("SELECT * FROM group_pending_key WHERE group_id = ? ORDER BY revision DESC LIMIT 16", [id])
      .map((row) => ({
        revision: row["revision"] as number,
        author: accountId(bytesOf(row, "author")),
        groupKey: bytesOf(row, "group_key"),
        fence: bytesOf(row, "fence"),
      }));
  }

  // Keys of generations that are over: a service that was set back has their record.

  /** `overFrom`: the revision of the change that began the next generation. The newest 16 are kept. */
  addPastKey(id: Bytes, { groupKey, overFrom }: PastKey, atMs: number): void {
    this.storage.run(
      "INSERT INTO group_past_key (group_id, group_key, over_from, over_at) VALUES (?, ?, ?, ?)",
      [id, groupKey, overFrom, atMs],
    );
    this.storage.run(
      `DELETE FROM group_past_key WHERE group_id = ? AND id NOT IN
         (SELECT id FROM group_past_key WHERE group_id = ? ORDER BY id DESC LIMIT 16)`,
      [id, id],
    );
  }

  /** The newest first. */
  pastKeys(id: Bytes): readonly PastKey[] {
    return this.storage
      .all("SELECT group_key, over_from FROM group_past_key WHERE group_id = ? ORDER BY id DESC", [id])
      .map((row) => ({ groupKey: bytesOf(row, "group_key"), overFrom: row["over_from"] as number }));
  }

  forgetPastKeys(beforeMs: number): void {
    this.storage.run("DELETE FROM group_past_key WHERE over_at < ?", [beforeMs]);
  }

  dropPendingKeys(id: Bytes, throughRevision: number): void {
    this.storage.run("DELETE FROM group_pending_key WHERE group_id = ? AND revision <= ?", [
      id,
      throughRevision,
    ]);
  }
}

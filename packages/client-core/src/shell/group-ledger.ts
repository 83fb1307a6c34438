/** The verified state of groups in the database: changes are adopted here, whichever way they came. */
import {
  type AccountId,
  type Bytes,
  equalBytes,
  formatId,
  type GroupId,
  InvariantError,
  messageId,
  RejectionError,
  refuseUnless,
  utf8,
} from "@murmuration/base";
import type { Notice } from "../api.ts";
import { byAccount } from "../core/by-account.ts";
import type { Content, GroupInvite } from "../core/content.ts";
import {
  migrationChangeOf,
  startsGeneration,
  type VerifiedChange,
  verifyChange,
} from "../core/group-change.ts";
import {
  applyChange,
  emptyGroup,
  type GroupState,
  noticesOf,
  type RecordMember,
  replayRecord,
  withOwner,
} from "../core/group-record.ts";
import type { GroupRow, PendingWrite } from "../store/conversations.ts";
import type { Context } from "./context.ts";
import type { Generation, GroupMessages } from "./group-messages.ts";
import { lanes } from "./lanes.ts";
import { NO_DEVICE } from "./lines.ts";

/** What a change sets off beside the record, inside the same transaction. */
export interface LedgerEffects {
  /** `present`: the state after the last of the changes that are adopted with this one. */
  adopted(
    group: GroupId,
    before: GroupState,
    after: GroupState,
    change: VerifiedChange,
    present: GroupState,
  ): void;
  /** Accounts without a leaf that the MLS group of this conversation expects. */
  expected(group: GroupId): readonly AccountId[];
}

/** Somebody who has a role in the record, and none over MLS any more, takes the group back. */
export const RECOVERY_REFUSED = "migration/recovery-refused";

export class GroupLedger {
  private readonly context: Context;
  private readonly messages: GroupMessages;
  private readonly effects: LedgerEffects;

  constructor(context: Context, messages: GroupMessages, effects: LedgerEffects) {
    this.context = context;
    this.messages = messages;
    this.effects = effects;
  }

  /** The verified state as it is stored. O(members) where its members have changed since it was asked for last. */
  state(group: GroupId): GroupState {
    const { conversations } = this.context;
    const row = conversations.group(group);
    const conversation = conversations.get(group);
    if (row === undefined || conversation === undefined) return emptyGroup(group);
    return {
      groupId: group,
      revision: row.revision,
      hash: row.hash,
      title: conversation.title,
      expireAfterSeconds: conversation.expireAfterSeconds,
      members: byAccount(conversations.members(group)),
      rotateAfter: row.rotateAfter,
      migration: this.context.migration.record(group),
    };
  }

  /**
   * Inside a transaction: applies verified changes in order, writes state, members, notices and events, and
   * settles an own change that is among them. `generation` is the key that opened the record, if it was read.
   */
  adopt(group: GroupId, changes: readonly VerifiedChange[], generation: Generation | undefined): void {
    const { context } = this;
    const { conversations, events } = context;
    let state = this.state(group);
    const { members } = state;
    const stored = conversations.group(group);
    let keys: Generation | undefined = stored ?? generation;
    const own = conversations.pendingWrite(group);
    const self = formatId(context.own.accountId);
    let joined = 0;
    let goesByMls = this.goesByMls(group);
    const steps: {
      readonly before: GroupState;
      readonly after: GroupState;
      readonly change: VerifiedChange;
    }[] = [];
    for (const change of changes) {
      if (goesByMls && change.action.kind === "migrate-recover") {
        const isOfRecord = generation !== undefined;
        state = { ...state, members: this.membersAtRecovery(group, state, change, isOfRecord) };
        goesByMls = false;
      }
      const before = state;
      state = applyChange(state, change);
      steps.push({ before, after: state, change });
      if (!before.members.has(self) && state.members.has(self)) joined = change.revision;
      const pending = conversations
        .pendingKeys(group)
        .find((key) => key.revision === change.revision && equalBytes(key.author, change.author.accountId));
      if (startsGeneration(change.action) && pending !== undefined) keys = pending;
      conversations.appendChange(group, change.revision, change.encoded);
      this.learnProfiles(change);
      this.writeNotices(group, before, state, change);
    }
    const current = generation ?? keys;
    if (current === undefined) throw new InvariantError("group/without-key");
    this.keepPastKey(group, current, changes);
    this.save(group, state, current, stored?.forked ?? false);
    // Members of a large group would pay for a step of its move by their number.
    if (state.members !== members && !goesByMls) {
      const present = [...state.members.values()];
      conversations.saveMembers(group, present, context.now());
      const before = (account: AccountId) => members.get(formatId(account))?.identityKey;
      context.identities.tellOfOthers(
        group,
        present.filter(({ account, identityKey }) => {
          const known = before(account);
          return known === undefined || !equalBytes(known, identityKey);
        }),
      );
    }
    if (joined > 0) context.migration.setJoinedRevision(group, joined);
    for (const { before, after, change } of steps) {
      this.effects.adopted(group, before, after, change, state);
      if (own?.revision === change.revision) this.settleOwn(group, own, change, before);
    }
    this.followUp(group, state, changes);
    // A step of a migration changes nothing that the conversation is.
    const isChanged = changes.some(({ action }) => migrationChangeOf(action) === undefined);
    if (isChanged || changes.length === 0)
      events.append({ kind: "conversation-changed", conversation: group, atMs: context.now() });
  }

  /**
   * Who has gone over goes by the record again where the group recovers, as all others do: what a creator, or anybody else, has
   * made of members and roles in the MLS group that is given up is nothing to the next one. But nobody comes back by it who was
   * removed over MLS, or would read on: of the record's members it takes those who are in that MLS group, or expected there.
   * If no owner is among them, there is one as if the last one had left.
   *
   * Whoever was removed or lost its role over MLS is still an admin in the record, which has stood still: it takes nobody out of
   * the MLS group any more. Where the record itself has such a step, and would be right to, it is refused with
   * {@link RECOVERY_REFUSED}; by its word anybody could alarm a group, and have it verify its whole record again and again:
   * that is `group/role-too-low`. O(changes), and it is seldom.
   */
  private membersAtRecovery(
    group: GroupId,
    state: GroupState,
    change: VerifiedChange,
    isOfRecord: boolean,
  ): ReadonlyMap<string, RecordMember> {
    const { conversations } = this.context;
    const { role = "member" } = conversations.member(group, change.author.accountId) ?? {};
    const hasRole = role !== "member";
    refuseUnless(hasRole || isOfRecord, "group/role-too-low");
    const changes = conversations.changes(group).slice(0, state.revision);
    const { members } = replayRecord(group, state.revision, changes);
    if (!hasRole) {
      applyChange({ ...state, members }, change);
      throw new RejectionError(RECOVERY_REFUSED);
    }
    const expected = new Set(this.effects.expected(group).map(formatId));
    const isThere = (account: string) => state.members.has(account) || expected.has(account);
    // Its owner may have left over MLS.
    return withOwner({ ...state, members: new Map([...members].filter(([account]) => isThere(account))) })
      .members;
  }

  /** A service that is set back behind these changes has the record under the key that they end. */
  private keepPastKey(group: GroupId, { groupKey }: Generation, changes: readonly VerifiedChange[]): void {
    const { conversations } = this.context;
    const before = conversations.group(group)?.groupKey;
    const next = changes.find(({ action }) => startsGeneration(action));
    if (before === undefined || next === undefined || equalBytes(before, groupKey)) return;
    conversations.addPastKey(group, { groupKey: before, overFrom: next.revision }, this.context.now());
  }

  private save(group: GroupId, state: GroupState, keys: Generation, forked: boolean): void {
    const { conversations } = this.context;
    const row: GroupRow = {
      groupKey: keys.groupKey,
      fence: keys.fence,
      revision: state.revision,
      hash: state.hash,
      forked,
      rotateAfter: state.rotateAfter,
    };
    conversations.saveGroup(group, row);
    conversations.dropPendingKeys(group, state.revision);
    if (this.goesByMls(group)) return;
    conversations.setTitle(group, state.title);
    conversations.setExpiry(group, state.expireAfterSeconds);
  }

  /** A conversation that has moved goes by its MLS group, and by its record again while it recovers. */
  private goesByMls(group: GroupId): boolean {
    const { conversations, migration } = this.context;
    return conversations.get(group)?.protocol === "mls" && !migration.isMoving(group);
  }

  /** Own membership may have ended, or begun. */
  private followUp(group: GroupId, state: GroupState, changes: readonly VerifiedChange[]): void {
    const { context } = this;
    const self = state.members.get(formatId(context.own.accountId));
    const conversation = context.conversations.get(group);
    if (conversation === undefined || this.goesByMls(group)) return;
    if (self === undefined && conversation.state !== "left" && conversation.state !== "removed") {
      const left = changes.some((c) => c.action.kind === "leave" && context.isOwn(c.author.accountId));
      context.conversations.setState(group, left ? "left" : "removed");
      this.failWaiting(group);
    }
    if (self !== undefined && !self.invited && conversation.state === "invited") {
      context.conversations.setState(group, "active");
    }
  }

  /** What was still to be sent to a group that we are no member of any more. */
  private failWaiting(group: GroupId): void {
    const { context } = this;
    for (const row of context.outbox.waitingRows(lanes.group(group))) {
      // The news of our own leaving still has to reach the others.
      if (row.historyId === undefined) continue;
      context.outbox.setState(row.id, "failed", 0, "conversation/not-active");
      context.history.settle(row.historyId, "failed", "conversation/not-active", context.now());
      const atMs = context.now();
      const detail = "send-state";
      context.events.append({
        kind: "line-changed",
        conversation: group,
        historyId: row.historyId,
        detail,
        atMs,
      });
    }
  }

  /**
   * A profile key that its owner put into the record counts; one that somebody else did only fills a gap. Whoever stands there
   * under another identity key than is known of its account says nothing of that account.
   */
  private learnProfiles(change: VerifiedChange): void {
    const { contacts, identities } = this.context;
    const { action, author } = change;
    if (action.kind === "join" || action.kind === "profile") {
      const isOther = identities.compare(author.accountId, change.authorAccountKey) === "other";
      if (isOther || this.context.isOwn(author.accountId)) return;
      contacts.setProfileKey(author.accountId, action.profileKey);
      contacts.setName(author.accountId, action.name);
      return;
    }
    if (action.kind !== "create" && action.kind !== "add") return;
    for (const { account, identityKey, profileKey, name } of action.members) {
      if (this.context.isOwn(account) || identities.compare(account, identityKey) === "other") continue;
      contacts.ensure(account);
      const known = contacts.get(account);
      const byOwner = equalBytes(account, author.accountId);
      if (profileKey !== undefined && (byOwner || known?.profileKey === undefined)) {
        contacts.setProfileKey(account, profileKey);
      }
      if (byOwner || known?.name === "") contacts.setName(account, name);
    }
  }

  private writeNotices(group: GroupId, before: GroupState, after: GroupState, change: VerifiedChange): void {
    noticesOf(before, after, change).forEach((notice, index) => {
      // Every member derives the same id, so the notice is there once, however the change came.
      const id = new Uint8Array(change.hash.subarray(0, 16));
      id[15] = id[15]! ^ index;
      this.appendNotice(group, change, messageId(id), notice);
    });
  }

  private appendNotice(
    group: GroupId,
    change: VerifiedChange,
    id: ReturnType<typeof messageId>,
    notice: Notice,
  ): void {
    const { context } = this;
    const line = context.history.append({
      conversation: group,
      messageId: id,
      author: change.author.accountId,
      authorDevice: NO_DEVICE,
      outgoing: context.isOwn(change.author.accountId),
      kind: "notice",
      body: utf8(JSON.stringify(notice)),
      sentAtMs: change.atMs,
      storedAtMs: context.now(),
      expireAfterSeconds: 0,
      sendState: undefined,
    });
    if (line === undefined) return;
    context.conversations.touch(group, context.now());
    context.events.append({ kind: "line-added", conversation: group, historyId: line, atMs: context.now() });
  }

  /** The record has a change at the revision of our pending one: ours, or another that won. */
  private settleOwn(group: GroupId, own: PendingWrite, change: VerifiedChange, before: GroupState): void {
    const { conversations, outbox } = this.context;
    conversations.deletePendingWrite(group);
    if (!equalBytes(own.change, change.encoded)) {
      if (own.announcement !== 0) outbox.delete(own.announcement);
      this.context.migration.dropLease(group);
      return;
    }
    const fresh = own.fence === undefined ? undefined : { groupKey: own.groupKey, fence: own.fence };
    const keys = fresh ?? conversations.group(group);
    if (keys === undefined) throw new InvariantError("group/without-key");
    this.messages.tell(group, change, before, keys);
  }

  /** Inside a transaction: a key for a coming generation. Only owners and admins draw one. */
  receiveKey(group: GroupId, sender: AccountId, key: NonNullable<Content["groupKey"]>): void {
    const { conversations } = this.context;
    const member = conversations.member(group, sender);
    const trusted = this.context.isOwn(sender) || (member !== undefined && member.role !== "member");
    if (!trusted) throw new RejectionError("group/role-too-low");
    conversations.addPendingKey(group, { ...key, author: sender });
  }

  /**
   * Inside a transaction: one change that its author says is in the record. Applied when it is the next one and
   * its key is known; otherwise `behind`: the record has to be read.
   */
  receiveChange(group: GroupId, encoded: Bytes): "applied" | "known" | "behind" {
    const { conversations } = this.context;
    const change = verifyChange(encoded);
    if (formatId(change.groupId) !== formatId(group)) throw new RejectionError("group/foreign-change");
    const row = conversations.group(group);
    if (row === undefined || change.revision > row.revision + 1) return "behind";
    if (change.revision <= row.revision) {
      const known = conversations.change(group, change.revision);
      if (known !== undefined && equalBytes(known, change.encoded)) return "known";
      throw new RejectionError("group/forked");
    }
    const leavesUs = change.action.kind === "remove" && this.context.isOwn(change.action.account);
    const hasKey = conversations
      .pendingKeys(group)
      .some((key) => key.revision === change.revision && equalBytes(key.author, change.author.accountId));
    if (startsGeneration(change.action) && !hasKey && !leavesUs) return "behind";
    this.adopt(group, [change], undefined);
    return "applied";
  }

  /** The invite for another own device. */
  inviteFor(group: GroupId): GroupInvite | undefined {
    const row = this.context.conversations.group(group);
    if (row === undefined) return undefined;
    return { groupKey: row.groupKey, fence: row.fence, revision: row.revision, hash: row.hash };
  }
}

/**
 * What a commit means for the people in the group: members, roles, lines in the history, the state of the
 * conversation. Runs inside the transaction that takes the commit over. While a conversation is pairwise its record says
 * all this: of an MLS group that is being prepared for it, only the leaves are noted.
 */
import {
  type AccountId,
  type Bytes,
  type DeviceAddress,
  equalBytes,
  formatId,
  type GroupId,
  messageId,
} from "@murmuration/base";
import {
  type CommitDescription,
  type CommunityContext,
  communityContextOf,
  decodeMemberCredential,
  type Group,
  roleOf,
} from "@murmuration/mls-groups";
import type { Notice, Role } from "../../api.ts";
import type { MemberRow } from "../../store/conversations.ts";
import { keyOf } from "../../store/kept-storage.ts";
import type { RosterAccount } from "../../store/migration.ts";
import type { Context } from "../context.ts";
import { lanes } from "../lanes.ts";
import { type Lines, NO_DEVICE, type Place } from "../lines.ts";
import { leavesOf, readLeaves } from "./leaves.ts";

/** A commit as it came out of the log. */
export interface Committed {
  readonly description: CommitDescription;
  /** Leaves that it removed because they had asked to go. */
  readonly leavers: readonly number[];
  /** SHA-256 of the commit: names the lines that it leaves. */
  readonly hash: Bytes;
  readonly atMs: number;
}

/** Accounts that one line names; the rest is a number. */
const NAMED_IN_A_LINE = 16;

export class CommunityLedger {
  private readonly context: Context;
  private readonly lines: Lines;

  constructor(context: Context, lines: Lines) {
    this.context = context;
    this.lines = lines;
  }

  /** Everybody who is in a group that was just created or joined. O(members). */
  entered(id: GroupId, group: Group): void {
    const leaves = readLeaves(group);
    const rows = leaves.map(({ leaf, account, deviceId: device }) => ({ leaf, account, device }));
    this.context.mls.saveLeaves(id, rows);
    if (this.carries(id)) this.carry(id, group, leaves);
  }

  /**
   * The MLS group, whose leaves are known, carries its conversation. Returns the accounts that the conversation did not have
   * before. O(members) to read, and one write for each that is another than before: a conversation that moves has them
   * all, and everybody in it moves at the same moment.
   */
  carry(id: GroupId, group: Group, leaves: readonly RosterAccount[] = leavesOf(group)): readonly AccountId[] {
    const { contacts, conversations } = this.context;
    const members = new Map<string, MemberRow>();
    for (const { account, identityKey, role } of leaves)
      members.set(keyOf(account), { account, role, invited: false, identityKey });
    const fresh = conversations.replaceMembers(id, [...members.values()]);
    for (const account of fresh) contacts.ensure(account);
    this.context.identities.tellOfOthers(id, leaves);
    conversations.setExpiry(id, communityContextOf(group.context.extensions).expireAfterSeconds);
    return fresh;
  }

  /** Whether the MLS group is what the conversation goes by. */
  private carries(id: GroupId): boolean {
    const { migration, mls } = this.context;
    return equalBytes(mls.wireIdOf(id), id) || !migration.isMoving(id);
  }

  /** What a commit changed, `group` being in its epoch already. O(changes), or O(role holders) where roles changed. */
  merged(id: GroupId, group: Group, committed: Committed): void {
    const { conversations, events } = this.context;
    const { description } = committed;
    if (!this.carries(id)) {
      this.noteLeaves(id, description);
      return;
    }
    const committer = this.committerOf(description, group);
    const notices = [
      ...this.removeLeaves(id, committed, committer),
      ...this.addLeaves(id, group, committed),
      ...this.changeContext(id, description),
    ];
    if (committer !== undefined) this.append(id, committer, committed, notices);
    if (notices.length > 0)
      events.append({ kind: "conversation-changed", conversation: id, atMs: this.context.now() });
    conversations.touch(id, committed.atMs);
  }

  private noteLeaves(id: GroupId, { added, removed }: CommitDescription): void {
    const { mls } = this.context;
    for (const { leaf, device } of removed) {
      mls.deleteLeaf(id, leaf);
      if (mls.leavesOf(id, device.accountId).length === 0) mls.deleteJob(id, device.accountId, "remove");
    }
    for (const { leaf, device } of added) {
      mls.putLeaf(id, { leaf, account: device.accountId, device: device.deviceId });
      mls.deleteJob(id, device.accountId, "add");
    }
  }

  /** A void entry took the newest commit back. Its lines stay, and this one says that they hold no longer. O(members). */
  takenBack(id: GroupId, before: Group, atMs: number): void {
    const { context } = this;
    this.entered(id, before);
    if (!this.carries(id)) return;
    const { accountId: author } = context.own;
    this.lines.appendNotice(
      context.newMessageId(),
      { conversation: id, author, authorDevice: NO_DEVICE, outgoing: true, sentAtMs: atMs },
      { code: "group/change-taken-back" },
    );
    context.events.append({ kind: "conversation-changed", conversation: id, atMs: context.now() });
  }

  /**
   * Accounts that came into the group before this device went by it, and that its record did not know: nobody is among us
   * without a line that says so.
   */
  cameMeanwhile(id: GroupId, accounts: readonly AccountId[], atMs: number): void {
    const { accountId: author } = this.context.own;
    for (const account of accounts)
      this.lines.appendNotice(
        this.context.newMessageId(),
        { conversation: id, author, authorDevice: NO_DEVICE, outgoing: true, sentAtMs: atMs },
        { code: "group/member-added", account: formatId(account) },
      );
  }

  /** A commit removed this device. What was to be sent fails, what was to be done is forgotten; the history stays. */
  removed(id: GroupId): void {
    const { context } = this;
    const { conversations, events, mls } = context;
    const stays = mls.leavesOf(id, context.own.accountId).length > 0;
    mls.setState(id, "over");
    mls.deleteRows(id);
    mls.deletePendingCommit(id);
    // Who is a member again some day does not go on with what it was about to do.
    mls.deleteJobs(id);
    context.eraseAfterwards();
    if (!this.carries(id)) return;
    if (conversations.get(id)?.state !== "left") conversations.setState(id, "removed");
    if (!stays) conversations.removeMember(id, context.own.accountId, context.now());
    this.failWaiting(id);
    events.append({ kind: "conversation-changed", conversation: id, atMs: context.now() });
  }

  private failWaiting(id: GroupId): void {
    const { context } = this;
    for (const row of context.outbox.waitingRows(lanes.group(id))) {
      context.outbox.setState(row.id, "failed", 0, "conversation/not-active");
      context.mls.deletePart(row.id);
      if (row.historyId === undefined) continue;
      context.history.settle(row.historyId, "failed", "conversation/not-active", context.now());
      const [detail, atMs] = ["send-state", context.now()] as const;
      context.events.append({
        kind: "line-changed",
        conversation: id,
        historyId: row.historyId,
        detail,
        atMs,
      });
    }
  }

  private committerOf(description: CommitDescription, group: Group): DeviceAddress | undefined {
    if (description.committer === undefined) return description.added[0]?.device;
    const leaf = group.tree.leaf(description.committer);
    if (leaf !== undefined) {
      const { accountId, deviceId } = decodeMemberCredential(leaf.credential);
      return { accountId, deviceId };
    }
    return undefined;
  }

  private removeLeaves(
    id: GroupId,
    { description, leavers, atMs }: Committed,
    committer: DeviceAddress | undefined,
  ): Notice[] {
    const { conversations, mls } = this.context;
    const accounts = new Map<string, AccountId>();
    const asked = new Set<string>();
    for (const { leaf, device } of description.removed) {
      mls.deleteLeaf(id, leaf);
      accounts.set(formatId(device.accountId), device.accountId);
      if (leavers.includes(leaf)) asked.add(formatId(device.accountId));
    }
    const back = new Set(description.added.map(({ device }) => formatId(device.accountId)));
    const notices: Notice[] = [];
    for (const [key, account] of accounts) {
      if (back.has(key) || mls.leavesOf(id, account).length > 0) continue;
      conversations.removeMember(id, account, atMs);
      mls.deleteJob(id, account, "remove");
      const self = committer !== undefined && equalBytes(committer.accountId, account);
      const left = self || asked.has(key);
      notices.push({ code: left ? "group/member-left" : "group/member-removed", account: key });
    }
    return notices;
  }

  private addLeaves(id: GroupId, group: Group, { description }: Committed): Notice[] {
    const { contacts, conversations, mls } = this.context;
    const fresh: RosterAccount[] = [];
    for (const { leaf, device } of description.added) {
      const { accountId: account, deviceId } = device;
      mls.putLeaf(id, { leaf, account, device: deviceId });
      mls.deleteJob(id, account, "add");
      mls.deleteJoinRequests(id, account);
      const node = group.tree.leaf(leaf);
      if (node === undefined) continue;
      const { accountIdentityKey: identityKey } = decodeMemberCredential(node.credential);
      const known = conversations.member(id, account);
      if (known !== undefined && equalBytes(known.identityKey, identityKey)) continue;
      contacts.ensure(account);
      const role = roleOf(description.after, account);
      conversations.putMember(id, { account, role, invited: false, identityKey });
      fresh.push({ account, role, identityKey });
    }
    this.context.identities.tellOfOthers(id, fresh);
    const accounts = fresh.slice(0, NAMED_IN_A_LINE).map(({ account }) => formatId(account));
    const [account] = accounts;
    if (account === undefined) return [];
    if (description.external) return [{ code: "group/member-joined", account }];
    if (fresh.length === 1) return [{ code: "group/member-added", account }];
    return [{ code: "group/members-added", count: fresh.length, accounts }];
  }

  private changeContext(id: GroupId, { before, after }: CommitDescription): Notice[] {
    const notices: Notice[] = [];
    for (const [key, { account, role }] of changedRoles(before, after)) {
      if (this.context.conversations.member(id, account) === undefined) continue;
      this.context.conversations.setRole(id, account, role);
      notices.push({ code: "group/role-changed", account: key, role });
    }
    if (before.expireAfterSeconds !== after.expireAfterSeconds) {
      this.context.conversations.setExpiry(id, after.expireAfterSeconds);
      notices.push({ code: "conversation/expiry-changed", seconds: after.expireAfterSeconds });
    }
    return notices;
  }

  /** Every member derives the same ids, so a line is there once, however often the commit is looked at. */
  private append(
    id: GroupId,
    author: DeviceAddress,
    { hash, atMs }: Committed,
    notices: readonly Notice[],
  ): void {
    const place: Place = {
      conversation: id,
      author: author.accountId,
      authorDevice: NO_DEVICE,
      outgoing: this.context.isOwn(author.accountId),
      sentAtMs: atMs,
    };
    notices.forEach((notice, index) => {
      const name = new Uint8Array(hash.subarray(0, 16));
      new DataView(name.buffer).setUint16(14, index);
      this.lines.appendNotice(messageId(name), place, notice);
    });
  }
}

function changedRoles(
  before: CommunityContext,
  after: CommunityContext,
): Map<string, { readonly account: AccountId; readonly role: Role }> {
  const changed = new Map<string, { account: AccountId; role: Role }>();
  for (const { accountId: account } of [...before.roleHolders, ...after.roleHolders]) {
    const role = roleOf(after, account);
    if (role !== roleOf(before, account)) changed.set(formatId(account), { account, role });
  }
  return changed;
}

/** What the members of a group are told about it, as rows of the outbox. Runs inside transactions. */
import {
  type AccountId,
  type Bytes,
  equalBytes,
  formatId,
  type GroupId,
  type MessageId,
} from "@murmuration/base";
import { hasSwitched } from "@murmuration/wire";
import { type Content, encodeContent, type GroupInvite } from "../core/content.ts";
import {
  type GroupAction,
  migrationChangeOf,
  type VerifiedChange,
  verifyChange,
} from "../core/group-change.ts";
import type { GroupState } from "../core/group-record.ts";
import type { Context } from "./context.ts";
import { lanes } from "./lanes.ts";
import { HEAR_AT_A_TIME, HEAR_PAUSE_MS_PER_MEMBER } from "./migration/gentle.ts";

/** The keys between two removals. */
export interface Generation {
  readonly groupKey: Bytes;
  readonly fence: Bytes;
}

/** Changes among which somebody who is removed may have missed a step: within seconds behind it, there are fewer. */
const UNHEARD_CHANGES = 8;

export class GroupMessages {
  private readonly context: Context;

  constructor(context: Context) {
    this.context = context;
  }

  /** An own change is in the record: tells whom it concerns. */
  tell(group: GroupId, change: VerifiedChange, before: GroupState, keys: Generation): void {
    const { action } = change;
    const { groupKey, fence } = keys;
    const groupInvite: GroupInvite = { groupKey, fence, revision: change.revision, hash: change.hash };
    if (action.kind === "create") {
      this.enqueue(group, { groupInvite });
      const invited = action.members.filter((member) => member.profileKey === undefined);
      for (const member of invited) this.enqueueFor(group, member.account, { groupInvite });
      return;
    }
    const groupChange = { change: change.encoded };
    if (hasSwitched(this.context.migration.record(group).state)) {
      this.tellStep(group, change, before);
      return;
    }
    if (migrationChangeOf(action) !== undefined) {
      this.tellGently(group, change, before.migration.creator?.accountId);
      return;
    }
    const added = action.kind === "add" ? action.members.map((member) => member.account) : [];
    const declined = before.members.get(formatId(change.author.accountId))?.invited === true;
    if (action.kind !== "leave" || !declined) this.enqueue(group, { groupChange }, added);
    for (const account of added) this.enqueueFor(group, account, { groupInvite });
    if (action.kind !== "remove") return;
    for (const unheard of this.unheardBefore(group, change))
      this.enqueueFor(group, action.account, { groupChange: { change: unheard } });
    this.enqueueFor(group, action.account, { groupChange });
  }

  /**
   * What somebody who is removed may not have heard yet: a step of a move, which some hear later than others, and whatever came
   * behind it. It takes no change without the one before, and cannot read the record any more. Changes, oldest first.
   */
  private unheardBefore(group: GroupId, { revision }: VerifiedChange): readonly Bytes[] {
    const recent: Bytes[] = [];
    for (let at = Math.max(1, revision - UNHEARD_CHANGES); at < revision; at++) {
      const change = this.context.conversations.change(group, at);
      if (change === undefined) continue;
      if (recent.length > 0 || migrationChangeOf(verifyChange(change).action) !== undefined)
        recent.push(change);
    }
    return recent;
  }

  /**
   * A step of a migration before the switch: everybody has something to do for it, and nobody waits for it. So some hear of
   * it at a time, and each of these words has a time before which it does not leave (OutboxWorker). In a lane of its own, or
   * what this device says to the group would wait for all of them. Whoever has prepared the move until now hears of it first,
   * or goes on for nothing. O(members).
   */
  private tellGently(group: GroupId, change: VerifiedChange, creator: AccountId | undefined): void {
    const { conversations } = this.context;
    const isCreator = (account: AccountId): boolean => creator !== undefined && equalBytes(account, creator);
    const accounts = conversations
      .memberAccounts(group)
      .filter((account) => !this.context.isOwn(account))
      .sort((a, b) => Number(isCreator(b)) - Number(isCreator(a)));
    const body = { groupChange: { change: change.encoded } };
    this.enqueueForOwn(group, body);
    for (let at = 0; at < accounts.length; at += HEAR_AT_A_TIME) {
      const others = [...accounts.slice(0, at), ...accounts.slice(at + HEAR_AT_A_TIME)];
      this.append(group, body, {
        lane: lanes.migration(group),
        exclude: others,
        messageId: this.context.newMessageId(),
        afterMs: (at / HEAR_AT_A_TIME) * HEAR_PAUSE_MS_PER_MEMBER * accounts.length,
      });
    }
  }

  /**
   * A step of a migration from the switch on. Whoever has moved hears it in the MLS group, at once. The switch, and what
   * is to be heard while no MLS group is there, goes over the pairwise sessions, also to those who were left behind.
   */
  private tellStep(group: GroupId, change: VerifiedChange, before: GroupState): void {
    const { conversations, migration } = this.context;
    const groupChange = { change: change.encoded };
    const isMoving = migration.isMoving(group);
    if (!isMoving) this.enqueue(group, { groupChange });
    if (!isMoving && change.action.kind !== "migrate-switch") return;
    this.enqueue(group, { groupChange }, [], lanes.migration(group));
    for (const { account, invited } of before.members.values())
      if (!invited && conversations.member(group, account) === undefined)
        this.enqueueFor(group, account, { groupChange });
  }

  /** Queues the new key for everybody who stays. Returns the outbox row. */
  announce(group: GroupId, action: GroupAction, revision: number, keys: Generation): number {
    const { groupKey, fence } = keys;
    return this.enqueue(
      group,
      { groupKey: { groupKey, fence, revision } },
      action.kind === "remove" ? [action.account] : [],
      hasSwitched(this.context.migration.record(group).state) ? lanes.migration(group) : lanes.group(group),
    );
  }

  /** A message to the members (and to the own other devices). Returns the outbox row. */
  private enqueue(
    group: GroupId,
    body: Partial<Content>,
    exclude: readonly AccountId[] = [],
    lane = lanes.group(group),
  ): number {
    const messageId = this.enqueueForOwn(group, body);
    return this.append(group, body, { lane, exclude, messageId });
  }

  /** A message about the group to the own other devices, if there are any. Returns its id. */
  private enqueueForOwn(group: GroupId, body: Partial<Content>): MessageId {
    const { context } = this;
    const messageId = context.newMessageId();
    if (context.engine.devicesOf(context.own.accountId).length === 0) return messageId;
    context.outbox.append({
      lane: lanes.own,
      target: { kind: "own", account: context.own.accountId },
      messageId,
      content: this.contentOf(group, messageId, body),
      confirm: false,
      createdAtMs: context.now(),
    });
    return messageId;
  }

  private append(
    group: GroupId,
    body: Partial<Content>,
    row: {
      readonly lane: string;
      readonly exclude: readonly AccountId[];
      readonly messageId: MessageId;
      readonly afterMs?: number;
    },
  ): number {
    const { afterMs = 0, ...rest } = row;
    return this.context.outbox.append({
      ...rest,
      target: { kind: "group", group },
      content: this.contentOf(group, row.messageId, body),
      confirm: true,
      createdAtMs: this.context.now() + afterMs,
    });
  }

  private contentOf(group: GroupId, messageId: MessageId, body: Partial<Content>): Bytes {
    const revision = this.context.conversations.group(group)?.revision ?? 0;
    return encodeContent({ messageId, group: { groupId: group, revision }, ...body });
  }

  /** A message about the group to one account. */
  private enqueueFor(group: GroupId, account: AccountId, body: Partial<Content>): void {
    const { context } = this;
    const id = context.newMessageId();
    // An account that cannot answer yet learns how.
    const introduce =
      context.contacts.get(account)?.profileKey === undefined
        ? { profile: { profileKey: context.meta.require("profile-key"), name: context.meta.text("name") } }
        : {};
    const content = this.contentOf(group, id, { ...introduce, ...body });
    context.outbox.append({
      lane: lanes.account(account),
      target: { kind: "account", account },
      messageId: id,
      content,
      confirm: true,
      createdAtMs: context.now(),
    });
  }
}

/** What the members of a group are told about it, as rows of the outbox. Runs inside transactions. */
import { type AccountId, type Bytes, formatId, type GroupId } from "@murmuration/base";
import { hasSwitched } from "@murmuration/wire";
import { type Content, encodeContent, type GroupInvite } from "../core/content.ts";
import type { GroupAction, VerifiedChange } from "../core/group-change.ts";
import type { GroupState } from "../core/group-record.ts";
import type { Context } from "./context.ts";
import { lanes } from "./lanes.ts";

/** The keys between two removals. */
export interface Generation {
  readonly groupKey: Bytes;
  readonly fence: Bytes;
}

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
    const added = action.kind === "add" ? action.members.map((member) => member.account) : [];
    const declined = before.members.get(formatId(change.author.accountId))?.invited === true;
    if (action.kind !== "leave" || !declined) this.enqueue(group, { groupChange }, added);
    for (const account of added) this.enqueueFor(group, account, { groupInvite });
    if (action.kind === "remove") this.enqueueFor(group, action.account, { groupChange });
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
    const { context } = this;
    const id = context.newMessageId();
    const revision = context.conversations.group(group)?.revision ?? 0;
    const content = encodeContent({ messageId: id, group: { groupId: group, revision }, ...body });
    const createdAtMs = context.now();
    const rest = { messageId: id, content, confirm: true, createdAtMs };
    if (context.engine.devicesOf(context.own.accountId).length > 0) {
      const target = { kind: "own" as const, account: context.own.accountId };
      context.outbox.append({ lane: lanes.own, target, ...rest, confirm: false });
    }
    return context.outbox.append({ lane, target: { kind: "group", group }, exclude, ...rest });
  }

  /** A message about the group to one account. */
  private enqueueFor(group: GroupId, account: AccountId, body: Partial<Content>): void {
    const { context } = this;
    const id = context.newMessageId();
    const revision = context.conversations.group(group)?.revision ?? 0;
    // An account that cannot answer yet learns how.
    const introduce =
      context.contacts.get(account)?.profileKey === undefined
        ? { profile: { profileKey: context.meta.require("profile-key"), name: context.meta.text("name") } }
        : {};
    const content = encodeContent({
      messageId: id,
      group: { groupId: group, revision },
      ...introduce,
      ...body,
    });
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

/** What the members of a group are told about it, as rows of the outbox. Runs inside transactions. */
import { type AccountId, type Bytes, formatId, type GroupId } from "@murmuration/base";
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
    if (this.context.conversations.get(group)?.protocol === "mls") {
      this.tellOverMls(group, change, before);
      return;
    }
    const added = action.kind === "add" ? action.members.map((member) => member.account) : [];
    const declined = before.members.get(formatId(change.author.accountId))?.invited === true;
    if (action.kind !== "leave" || !declined) this.enqueue(group, { groupChange }, added);
    for (const account of added) this.enqueueFor(group, account, { groupInvite });
    if (action.kind === "remove") this.enqueueFor(group, action.account, { groupChange });
  }

  /**
   * A step of a migration behind the switch: said in the MLS group, where whoever has moved hears it at once. The switch
   * itself also goes to each member over its pairwise session, without the fence that nobody knows any more.
   */
  private tellOverMls(group: GroupId, change: VerifiedChange, before: GroupState): void {
    const { context } = this;
    const groupChange = { change: change.encoded };
    this.enqueue(group, { groupChange });
    if (change.action.kind !== "migrate-switch") return;
    for (const { account, invited } of before.members.values())
      if (!invited && !context.isOwn(account)) this.enqueueFor(group, account, { groupChange });
  }

  /** Queues the new key for everybody who stays. Returns the outbox row. */
  announce(group: GroupId, action: GroupAction, revision: number, keys: Generation): number {
    const { groupKey, fence } = keys;
    return this.enqueue(
      group,
      { groupKey: { groupKey, fence, revision } },
      action.kind === "remove" ? [action.account] : [],
    );
  }

  /** A message to the members (and to the own other devices). Returns the outbox row. */
  private enqueue(group: GroupId, body: Partial<Content>, exclude: readonly AccountId[] = []): number {
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
    return context.outbox.append({
      lane: lanes.group(group),
      target: { kind: "group", group },
      exclude,
      ...rest,
    });
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

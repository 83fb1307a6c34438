import { type AccountId, messageId, RejectionError } from "@murmuration/base";
import { encodeContent, type Sync } from "../core/content.ts";
import type { Context } from "./context.ts";
import { forgetConversation } from "./forget-told.ts";
import type { GroupLedger } from "./group-ledger.ts";
import type { Received, Receiver } from "./receiver.ts";

/** What another device of the own account tells. Runs inside the receiving transaction. */
export class SyncReceiver {
  private readonly context: Context;
  private readonly groups: GroupLedger;
  private readonly receiver: Receiver;

  constructor(context: Context, groups: GroupLedger, receiver: Receiver) {
    this.context = context;
    this.groups = groups;
    this.receiver = receiver;
  }

  apply(message: Received, sync: Sync): void {
    const { context } = this;
    if (sync.sent !== undefined) {
      this.receiver.applySentCopy(message, sync.sent);
    }
    for (const target of sync.read?.messages ?? []) {
      const atMs = sync.read!.readAtMs;
      for (const line of context.history.linesOf(target.accountId, target.messageId)) {
        if (line.readAtMs !== undefined) continue;
        context.history.markRead(line.id, atMs);
        context.history.startExpiry(line.id, atMs);
      }
    }
    for (const contact of sync.contacts?.contacts ?? []) this.applyContact(contact);
    for (const { groupId, invite } of sync.groups?.groups ?? []) this.holdInvite(message, groupId, invite);
    if (sync.conversation !== undefined) this.applyConversation(sync.conversation);
    if (sync.muted !== undefined) this.applyMuted(sync.muted);
  }

  private applyContact(contact: NonNullable<Sync["contacts"]>["contacts"][number]): void {
    const { context } = this;
    const { accountId: account, profileKey, name, accepted, blocked } = contact;
    if (context.isOwn(account)) {
      // The own profile, changed on another device.
      if (profileKey !== undefined) context.meta.setBytes("profile-key", profileKey);
      context.meta.setText("name", name);
      return;
    }
    context.contacts.setFlags(account, { known: true, accepted, blocked, shared: accepted });
    if (profileKey !== undefined) context.contacts.setProfileKey(account, profileKey);
    context.contacts.setName(account, name);
    const conversation = context.conversations.get(account);
    if (conversation !== undefined && blocked !== (conversation.state === "blocked")) {
      context.conversations.setState(account, blocked ? "blocked" : "active");
    }
    context.events.append({ kind: "contact-changed", account, atMs: context.now() });
  }

  private holdInvite(
    message: Received,
    group: NonNullable<Sync["groups"]>["groups"][number]["groupId"],
    groupInvite: NonNullable<Sync["groups"]>["groups"][number]["invite"],
  ): void {
    if (this.groups.inviteFor(group) !== undefined) return;
    const bytes = encodeContent({
      messageId: messageId(this.context.environment.random(16)),
      group: { groupId: group, revision: groupInvite.revision },
      groupInvite,
    });
    const { sender, sentAtMs, acceptedAtMs } = message;
    this.context.held.add(
      { reason: "invite", bytes, sender, subject: group, sentAtMs, acceptedAtMs },
      this.context.now(),
    );
  }

  private applyMuted({ conversationId, untilMs }: NonNullable<Sync["muted"]>): void {
    const { conversations, events } = this.context;
    if (conversations.get(conversationId) === undefined) return;
    conversations.setMuted(conversationId, untilMs);
    events.append({ kind: "conversation-changed", conversation: conversationId, atMs: this.context.now() });
  }

  private applyConversation(change: NonNullable<Sync["conversation"]>): void {
    const { context } = this;
    const conversation = context.conversations.get(change.conversationId);
    if (conversation === undefined) return;
    if (change.accepted) {
      if (conversation.state === "request") context.conversations.setState(conversation.id, "active");
      if (conversation.kind === "direct") {
        context.contacts.setFlags(conversation.id as AccountId, { accepted: true });
      }
    } else {
      if (conversation.state === "active") throw new RejectionError("content/not-a-request");
      forgetConversation(context, conversation.id);
      context.conversations.delete(conversation.id);
    }
    context.events.append({
      kind: "conversation-changed",
      conversation: conversation.id,
      atMs: context.now(),
    });
  }
}

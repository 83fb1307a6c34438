import { type AccountId, type Bytes, equalBytes, messageId, RejectionError } from "@murmuration/base";
import { encodeContent, type Sync } from "../core/content.ts";
import { fingerprintOf } from "../core/profile.ts";
import type { Context } from "./context.ts";
import { forgetConversation } from "./forget-told.ts";
import type { GroupLedger } from "./group-ledger.ts";
import type { Received, Receiver } from "./receiver.ts";

/** Of what is not here yet nobody says in which conversation it will be. */
const ANY: Bytes = new Uint8Array(0);

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
    if (sync.sent !== undefined) {
      this.receiver.applySentCopy(message, sync.sent);
    }
    if (sync.read !== undefined) this.applyRead(message, sync.read);
    for (const contact of sync.contacts?.contacts ?? []) this.applyContact(contact);
    for (const { groupId, invite } of sync.groups?.groups ?? []) this.holdInvite(message, groupId, invite);
    if (sync.conversation !== undefined) this.applyConversation(sync.conversation);
    if (sync.muted !== undefined) this.applyMuted(sync.muted);
  }

  /** What is not here yet has been read when it comes: a log may be slower than the mailbox. */
  private applyRead({ sender }: Received, { messages, readAtMs }: NonNullable<Sync["read"]>): void {
    const { environment, history } = this.context;
    for (const { accountId: author, messageId: id } of messages) {
      const lines = history.linesOf(author, id);
      for (const { id: line, readAtMs: before } of lines)
        if (before === undefined) history.wasRead(line, readAtMs);
      if (lines.length > 0) continue;
      const own = { author: sender.accountId, authorDevice: sender.deviceId };
      const read = { messages: [{ accountId: author, messageId: id }], readAtMs };
      const content = encodeContent({ messageId: messageId(environment.random(16)), sync: { read } });
      const target = { targetAuthor: author, targetMessage: id, conversation: ANY };
      history.keepChange({ ...own, ...target, content, atMs: this.context.now() });
    }
  }

  private applyContact(contact: NonNullable<Sync["contacts"]>["contacts"][number]): void {
    const { context } = this;
    const { accountId: account, profileKey, name, accepted, blocked, fingerprint } = contact;
    if (context.isOwn(account)) {
      // The own profile, changed on another device.
      if (profileKey !== undefined) context.meta.setBytes("profile-key", profileKey);
      context.meta.setText("name", name);
      return;
    }
    context.contacts.setFlags(account, { known: true, accepted, blocked, shared: accepted });
    if (profileKey !== undefined) context.contacts.setProfileKey(account, profileKey);
    context.contacts.setName(account, name);
    if (fingerprint !== undefined) this.applyCard(account, fingerprint);
    const conversation = context.conversations.get(account);
    if (conversation !== undefined && blocked !== (conversation.state === "blocked")) {
      context.conversations.setState(account, blocked ? "blocked" : "active");
    } else if (accepted && conversation?.state === "request")
      context.conversations.setState(account, "active");
    context.events.append({ kind: "contact-changed", account, atMs: context.now() });
  }

  /**
   * A card that another own device has. The service may have shown this one another key before, or a person has accepted one on
   * either: then a person has to know, and the card says nothing here.
   */
  private applyCard(account: AccountId, fingerprint: Bytes): void {
    const { contacts, engine, events, identities } = this.context;
    const known = engine.identityOf(account)?.accountIdentityKey;
    if (known !== undefined && !equalBytes(fingerprintOf(known), fingerprint)) {
      const detail = "contact/fingerprint-mismatch";
      events.append({ kind: "decision-needed", account, detail, atMs: this.context.now() });
      return;
    }
    contacts.setFingerprint(account, fingerprint);
    identities.learned(account);
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

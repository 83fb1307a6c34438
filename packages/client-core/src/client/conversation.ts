import {
  type AccountId,
  formatId,
  type GroupId,
  parseMessageId,
  RejectionError,
  toBase64Url,
  UsageError,
  utf8,
} from "@murmuration/base";
import { hasSwitched } from "@murmuration/wire";
import type {
  AccountRef,
  Conversation,
  ConversationState,
  HistoryLine,
  LeftOutMember,
  Member,
  MessageRef,
  MessageTarget,
  Migration,
  OutgoingContent,
  Role,
  SentMessage,
  TextLine,
} from "../api.ts";
import {
  type Content,
  MAX_ATTACHMENTS,
  MAX_EXPIRY_SECONDS,
  MAX_MENTIONS,
  MAX_TEXT_BYTES,
  MAX_TITLE_BYTES,
  SYNC_PAGE,
  shorten,
  type Target,
} from "../core/content.ts";
import { mayConfirm } from "../core/delivery.ts";
import type { NewMember } from "../core/group-change.ts";
import type { WakeBy } from "../core/push.ts";
import { decideProtocol } from "../core/routing.ts";
import { describeLeftOut } from "../shell/communities/member-jobs.ts";
import { forgetConversation } from "../shell/forget-told.ts";
import type { ConversationRow } from "../store/conversations.ts";
import { ClientCommunity } from "./community.ts";
import type { ClientParts } from "./parts.ts";
import { attachmentOf, callersAccount, callersId, targetOf, viewLine } from "./view.ts";

const HISTORY_PAGE = 100;
const MEMBER_PAGE = 256;

/** A handle on one conversation; every call reads the present state. */
export class ClientConversation implements Conversation {
  readonly id: string;
  readonly kind: "direct" | "group";
  private readonly key: ConversationRow["id"];
  private readonly parts: ClientParts;

  constructor(parts: ClientParts, row: ConversationRow) {
    this.parts = parts;
    this.key = row.id;
    this.kind = row.kind;
    this.id = toBase64Url(row.id);
  }

  private get row(): ConversationRow {
    const row = this.parts.context.conversations.get(this.key);
    if (row === undefined) throw new UsageError("conversation/deleted");
    return row;
  }

  get protocol(): "pairwise" | "mls" {
    return this.row.protocol;
  }

  get state(): ConversationState {
    return this.row.state;
  }

  get title(): string {
    if (this.kind === "group") return this.row.title;
    const contact = this.parts.context.contacts.get(this.key as AccountId);
    return contact?.givenName || contact?.name || "";
  }

  get expireAfterSeconds(): number {
    return this.row.expireAfterSeconds;
  }

  get mutedUntilMs(): number | undefined {
    const { context } = this.parts;
    const untilMs = context.conversations.mutedUntil(this.row.id);
    return untilMs > context.now() ? untilMs : undefined;
  }

  async setMuted(untilMs: number | undefined): Promise<void> {
    if (untilMs !== undefined && (!Number.isSafeInteger(untilMs) || untilMs < 0))
      throw new UsageError("conversation/bad-time");
    const { context, sender } = this.parts;
    const { id } = this.row;
    context.transaction(() => {
      context.conversations.setMuted(id, untilMs ?? 0);
      sender.sync({ muted: { conversationId: id, untilMs: untilMs ?? 0 } });
      context.events.append({ kind: "conversation-changed", conversation: id, atMs: context.now() });
    });
    context.notifier.flush();
    this.parts.wakeOwn();
  }

  get wakeBy(): WakeBy {
    return this.parts.context.conversations.wakeTerms(this.row.id).wakeBy;
  }

  async setWakeBy(wakeBy: WakeBy): Promise<void> {
    if (!["messages", "mentions", "nothing"].includes(wakeBy)) throw new UsageError("conversation/bad-wake");
    const { context } = this.parts;
    const { id } = this.row;
    context.transaction(() => {
      context.conversations.setWakeBy(id, wakeBy);
      context.events.append({ kind: "conversation-changed", conversation: id, atMs: context.now() });
    });
    context.notifier.flush();
  }

  get memberCount(): number {
    return this.kind === "direct" ? 2 : this.parts.context.conversations.countMembers(this.key);
  }

  members(
    page: { readonly after?: AccountRef; readonly limit?: number; readonly search?: string } = {},
  ): readonly Member[] {
    const { context } = this.parts;
    const after = page.after === undefined ? undefined : callersAccount(page.after);
    const limit = page.limit ?? MEMBER_PAGE;
    const nameOf = (account: AccountId): string => {
      if (context.isOwn(account)) return context.meta.text("name");
      const contact = context.contacts.get(account);
      return contact?.givenName || contact?.name || "";
    };
    if (this.kind === "group") {
      const { search } = page;
      const rows =
        search === undefined
          ? context.conversations.membersAfter(this.key, after, limit)
          : context.conversations.findMembers(this.key, { search, after, limit });
      return rows.map((member) => ({
        accountId: formatId(member.account),
        role: member.role,
        name: nameOf(member.account),
        invited: member.invited,
      }));
    }
    return [context.own.accountId, this.key as AccountId]
      .sort((a, b) => Buffer.compare(a, b))
      .filter((account) => after === undefined || Buffer.compare(account, after) > 0)
      .filter((account) =>
        nameOf(account)
          .toLowerCase()
          .includes((page.search ?? "").toLowerCase()),
      )
      .slice(0, limit)
      .map((account) => ({
        accountId: formatId(account),
        role: "member",
        name: nameOf(account),
        invited: false,
      }));
  }

  // --------------------------------------------------------------------------------------------- sending

  private deliver(body: Partial<Content>): SentMessage {
    const { context, sender } = this.parts;
    this.beginDirect();
    const row = this.row;
    if (row.state !== "active") throw new UsageError("conversation/not-active");
    const group =
      row.protocol === "mls" ? context.mls.group(this.key) : context.conversations.group(this.key);
    if (group?.forked === true) throw new UsageError("group/forked");
    return sender.send(row, body).sent;
  }

  /** Writing to somebody accepts them. */
  private beginDirect(): void {
    const { context } = this.parts;
    if (this.kind !== "direct") return;
    const contact = context.contacts.get(this.key as AccountId);
    if (contact?.blocked === true) throw new UsageError("conversation/not-active");
    if (contact?.accepted === true && this.row.state === "active") return;
    context.transaction(() => {
      context.contacts.setFlags(this.key as AccountId, { accepted: true, known: true });
      context.conversations.setState(this.key, "active");
    });
  }

  async send(content: OutgoingContent): Promise<SentMessage> {
    const text = content.text ?? "";
    const attachments = (content.attachments ?? []).map(attachmentOf);
    if (text === "" && attachments.length === 0) throw new UsageError("conversation/empty-message");
    if (utf8(text).length > MAX_TEXT_BYTES) throw new UsageError("conversation/text-too-long");
    if (attachments.length > MAX_ATTACHMENTS) throw new UsageError("conversation/too-many-attachments");
    const mentions = (content.mentions ?? []).map(callersAccount);
    if (mentions.length > MAX_MENTIONS) throw new UsageError("conversation/too-many-mentions");
    const { expireAfterSeconds } = this.row;
    return this.deliver({
      text: {
        text,
        attachments,
        ...(mentions.length === 0 ? {} : { mentions: { accounts: mentions } }),
        ...(content.replyTo === undefined ? {} : { replyTo: targetOf(content.replyTo) }),
        ...(expireAfterSeconds === 0 ? {} : { expireAfterSeconds }),
      },
    });
  }

  async edit(message: MessageRef, text: string): Promise<SentMessage> {
    if (utf8(text).length > MAX_TEXT_BYTES) throw new UsageError("conversation/text-too-long");
    const messageId = callersId(parseMessageId, message);
    const { deleted } = this.requireLine({ accountId: this.parts.context.own.accountId, messageId });
    if (deleted) throw new UsageError("conversation/no-such-message");
    return this.deliver({ edit: { messageId, text } });
  }

  async react(message: MessageTarget, emoji: string | undefined): Promise<SentMessage> {
    const target = targetOf(message);
    this.requireLine(target);
    return this.deliver({ reaction: { target, ...(emoji === undefined ? {} : { emoji }) } });
  }

  async delete(message: MessageTarget): Promise<SentMessage> {
    const { context } = this.parts;
    const target = targetOf(message);
    this.requireLine(target);
    const role = context.conversations.member(this.key, context.own.accountId)?.role ?? "member";
    if (!context.isOwn(target.accountId) && role === "member")
      throw new UsageError("conversation/not-the-author");
    return this.deliver({ delete: { target } });
  }

  async pin(message: MessageTarget): Promise<SentMessage> {
    return this.setPinned(message, true);
  }

  async unpin(message: MessageTarget): Promise<SentMessage> {
    return this.setPinned(message, false);
  }

  private setPinned(message: MessageTarget, pinned: boolean): SentMessage {
    const { context } = this.parts;
    if (this.protocol !== "mls") throw new UsageError("conversation/not-a-community");
    const target = targetOf(message);
    if (this.requireLine(target).deleted) throw new UsageError("conversation/no-such-message");
    if ((context.conversations.member(this.key, context.own.accountId)?.role ?? "member") === "member")
      throw new UsageError("group/not-an-admin");
    return this.deliver({ pin: { target, pinned } });
  }

  pins(): readonly TextLine[] {
    const { context } = this.parts;
    return context.history
      .pinned(this.row.id)
      .map((row) => viewLine(context, row))
      .filter((line) => line.kind === "message");
  }

  async deleteHere(message: MessageTarget): Promise<void> {
    const target = targetOf(message);
    this.requireLine(target);
    const lines = this.parts.context.history.linesOf(target.accountId, target.messageId, this.key);
    this.parts.maintenance.removeLines(lines.filter(({ kind }) => kind === "message"));
  }

  private requireLine(target: Target) {
    const line = this.parts.context.history.find(this.key, target.accountId, target.messageId);
    if (line?.kind !== "message") throw new UsageError("conversation/no-such-message");
    return line;
  }

  async typing(started: boolean): Promise<void> {
    const { context, passing } = this.parts;
    // Among thousands nobody watches who types.
    if (!context.settings.typingNotices || this.row.state !== "active" || this.protocol === "mls") return;
    await passing.typing(this.row, started);
  }

  async markRead(throughHistoryId: number): Promise<void> {
    const { context, receipts, sender } = this.parts;
    const lines = context.history.unreadThrough(this.key, throughHistoryId);
    if (lines.length === 0) return;
    const atMs = context.now();
    const { state, protocol } = this.row;
    const confirm = context.settings.readReceipts && mayConfirm(state) && protocol === "pairwise";
    const members = this.memberCount;
    context.transaction(() => {
      for (const line of lines) {
        context.history.wasRead(line.id, atMs);
        if (confirm) receipts.due(line.author, line.messageId, true, members);
      }
      for (let at = 0; at < lines.length; at += SYNC_PAGE) {
        const messages = lines
          .slice(at, at + SYNC_PAGE)
          .map((line) => ({ accountId: line.author, messageId: line.messageId }));
        sender.sync({ read: { messages, readAtMs: atMs } });
      }
    });
    context.notifier.flush();
    receipts.gather();
    this.parts.wakeOwn();
    this.parts.maintenance.reschedule();
  }

  async setExpiry(seconds: number): Promise<SentMessage> {
    if (!Number.isInteger(seconds) || seconds < 0 || seconds > MAX_EXPIRY_SECONDS) {
      throw new UsageError("conversation/bad-expiry");
    }
    if (this.kind === "direct") return this.deliver({ expiry: { seconds } });
    if (this.protocol === "mls") {
      await this.parts.communities.governance.setExpiry(this.group, seconds);
      return { messageId: "", historyId: undefined };
    }
    await this.parts.groups.change(this.group, () => ({ kind: "expiry", seconds }));
    return { messageId: "", historyId: undefined };
  }

  // --------------------------------------------------------------------------------------------- history

  history(
    page: { readonly after?: number; readonly before?: number; readonly limit?: number } = {},
  ): readonly HistoryLine[] {
    const { context } = this.parts;
    const limit = page.limit ?? HISTORY_PAGE;
    const rows =
      page.before === undefined
        ? context.history.after(this.key, page.after ?? 0, limit)
        : context.history.before(this.key, page.before, limit);
    return rows.map((row) => viewLine(context, row));
  }

  message(target: MessageTarget): HistoryLine | undefined {
    const { accountId, messageId } = targetOf(target);
    const row = this.parts.context.history.find(this.key, accountId, messageId);
    return row === undefined ? undefined : viewLine(this.parts.context, row);
  }

  // -------------------------------------------------------------------------------------------- requests

  async accept(): Promise<void> {
    const { context, groups, receipts, sender } = this.parts;
    const row = this.row;
    if (row.state === "invited") {
      const profileKey = context.meta.require("profile-key");
      const name = context.meta.text("name");
      await groups.change(this.group, (state) =>
        state.members.get(formatId(context.own.accountId))?.invited === true &&
        !hasSwitched(state.migration.state)
          ? { kind: "join", profileKey, name }
          : undefined,
      );
      await this.parts.migrations.acceptBehindSwitch(this.group);
      return;
    }
    if (row.state !== "request") return;
    context.transaction(() => {
      context.conversations.setState(this.key, "active");
      if (this.kind === "direct") {
        context.contacts.setFlags(this.key as AccountId, { accepted: true, known: true });
        sender.shareProfile(this.key as AccountId);
      }
      const confirm = this.row.protocol === "pairwise";
      const members = this.memberCount;
      for (const line of confirm ? context.history.after(this.key, 0, -1) : []) {
        if (!line.outgoing && line.kind === "message")
          receipts.due(line.author, line.messageId, false, members);
      }
      sender.sync({ conversation: { conversationId: this.key, accepted: true } });
      context.events.append({ kind: "conversation-changed", conversation: this.key, atMs: context.now() });
    });
    context.notifier.flush();
    receipts.gather();
    if (this.kind === "group" && row.protocol === "mls") this.parts.communities.accepted(this.group);
    this.parts.wakeAll();
  }

  async decline(options: { readonly block?: boolean } = {}): Promise<void> {
    const { context, contacts, groups, sender } = this.parts;
    const row = this.row;
    const writer = context.history.after(this.key, 0, 1)[0]?.author;
    if (
      this.kind === "group" &&
      row.protocol === "mls" &&
      (row.state === "request" || row.state === "active")
    ) {
      await this.parts.communities.leave(this.group);
    } else if (
      this.kind === "group" &&
      (row.state === "invited" || row.state === "request" || row.state === "active")
    ) {
      await groups.change(this.group, (state) =>
        state.members.has(formatId(context.own.accountId)) ? { kind: "leave" } : undefined,
      );
    }
    if (options.block === true) {
      const account = this.kind === "direct" ? (this.key as AccountId) : writer;
      if (account !== undefined && !context.isOwn(account)) await contacts.block(formatId(account));
    }
    context.transaction(() => {
      if (row.state === "request")
        sender.sync({ conversation: { conversationId: this.key, accepted: false } });
      forgetConversation(context, this.key);
      if (this.kind === "direct" && options.block !== true) context.conversations.delete(this.key);
      context.events.append({ kind: "conversation-changed", conversation: this.key, atMs: context.now() });
    });
    context.notifier.flush();
    this.parts.wakeOwn();
  }

  // ---------------------------------------------------------------------------------------------- groups

  private get group(): GroupId {
    if (this.kind !== "group") throw new UsageError("conversation/not-a-group");
    return this.key as GroupId;
  }

  async add(members: readonly AccountRef[]): Promise<readonly LeftOutMember[]> {
    const { communities, context, groups } = this.parts;
    const group = this.group;
    const accounts = members.map(callersAccount);
    if (this.protocol === "mls") {
      this.requireActive();
      return describeLeftOut(await communities.changeMembers(group, accounts, "add"));
    }
    const protocol = decideProtocol({
      protocol: this.row.protocol,
      projectedMembers: context.conversations.members(group).length + accounts.length,
      mlsThreshold: context.settings.mlsThreshold,
    });
    if (protocol === "mls" || hasSwitched(context.migration.record(group).state)) {
      this.requireActive();
      const present = new Set(context.conversations.members(group).map((member) => formatId(member.account)));
      const open = accounts.filter((account) => !present.has(formatId(account)));
      if (open.length > 0) await this.parts.migrations.addLater(group, open);
      return [];
    }
    const added = await this.parts.newMembers(accounts);
    await groups.change(group, (state) => {
      const rest = added.filter((member: NewMember) => !state.members.has(formatId(member.account)));
      return rest.length === 0 ? undefined : { kind: "add", members: rest };
    });
    this.parts.migrations.startIfNear(group);
    return [];
  }

  get migration(): Migration | undefined {
    return this.kind === "group" ? this.parts.migrations.view(this.key as GroupId) : undefined;
  }

  async migrate(step: "start" | "abort" | "finish-now"): Promise<void> {
    const { migrations } = this.parts;
    const group = this.group;
    if (this.protocol === "mls") throw new UsageError("migration/already-switched");
    this.requireActive();
    if (step === "start") await migrations.start(group);
    else if (step === "abort") await migrations.abort(group);
    else migrations.finishNow(group);
  }

  get leftOut(): readonly LeftOutMember[] {
    return this.protocol === "mls" ? describeLeftOut(this.parts.communities.leftOut(this.group)) : [];
  }

  private requireActive(): void {
    if (this.row.state !== "active") throw new UsageError("conversation/not-active");
  }

  async remove(member: AccountRef): Promise<void> {
    const account = callersAccount(member);
    if (this.parts.context.isOwn(account)) throw new UsageError("group/leave-instead");
    // While a group recovers its record says who is in it: there is no MLS group that does.
    const isRecovering = this.parts.context.migration.record(this.group).state === "recovering";
    if (this.protocol === "mls" && !isRecovering) {
      this.requireActive();
      const [left] = await this.parts.communities.changeMembers(this.group, [account], "remove");
      if (left !== undefined) throw new RejectionError(left.code);
      return;
    }
    await this.parts.groups.change(this.group, (state) =>
      state.members.has(formatId(account)) ? { kind: "remove", account } : undefined,
    );
  }

  async leave(): Promise<void> {
    const { communities, context, groups } = this.parts;
    if (this.protocol === "mls") {
      if (this.row.state === "active" || this.row.state === "request") await communities.leave(this.group);
      return;
    }
    await groups.change(this.group, (state) =>
      state.members.has(formatId(context.own.accountId)) ? { kind: "leave" } : undefined,
    );
  }

  async setRole(member: AccountRef, role: Role): Promise<void> {
    const account = callersAccount(member);
    if (this.protocol === "mls") {
      this.requireActive();
      if (this.parts.context.conversations.member(this.group, account) === undefined)
        throw new UsageError("group/not-a-member");
      await this.parts.communities.governance.setRole(this.group, account, role);
      return;
    }
    await this.parts.groups.change(this.group, (state) =>
      state.members.get(formatId(account))?.role === role ? undefined : { kind: "role", account, role },
    );
  }

  async setTitle(title: string): Promise<void> {
    const short = shorten(title, MAX_TITLE_BYTES);
    if (this.protocol === "mls") {
      this.requireActive();
      await this.community.setTitle(short);
      return;
    }
    await this.parts.groups.change(this.group, (state) =>
      state.title === short ? undefined : { kind: "title", title: short },
    );
  }

  get community(): ClientCommunity {
    if (this.protocol !== "mls") throw new UsageError("conversation/not-a-community");
    return new ClientCommunity(this.parts, this.group);
  }
}

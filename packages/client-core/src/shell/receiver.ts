/**
 * Applies decrypted content to the database. Everything here runs inside the transaction that also holds the new
 * ratchet state and the cursor, so it is synchronous; what needs the network is put down as held and done after.
 */
import {
  type AccountId,
  type Bytes,
  type DeviceAddress,
  equalBytes,
  formatId,
  messageId,
  RejectionError,
} from "@murmuration/base";
import {
  type BodyKind,
  bodyKind,
  type Content,
  content as contentType,
  decodeContent,
  type Sync,
} from "../core/content.ts";
import { acceptsFormerMember, decideEntry, isConfirmed, mayConfirm } from "../core/delivery.ts";
import type { Seen } from "../store/history.ts";
import type { Approvals } from "./communities/approvals.ts";
import type { EpochReports } from "./communities/epoch-reports.ts";
import type { Context } from "./context.ts";
import { requireIdOfAccount } from "./founded-ids.ts";
import type { GroupLedger } from "./group-ledger.ts";
import type { Lines } from "./lines.ts";
import type { Migrations } from "./migration/migrations.ts";
import type { PassingEvent } from "./notifier.ts";
import type { Receipts } from "./receipts.ts";
import { SyncReceiver } from "./sync-receiver.ts";

/** A decrypted message with what the envelope said. */
export interface Received {
  readonly sender: DeviceAddress;
  readonly body: Bytes;
  readonly sentAtMs: number;
  readonly acceptedAtMs: number;
  /** Never stored by the service: only a typing notice may come this way. */
  readonly ephemeral: boolean;
}

/** What is said in communities only: over a pairwise session it opens no conversation. */
const COMMUNITY_KINDS: ReadonlySet<BodyKind> = new Set([
  "groupProfile",
  "profileRequest",
  "sharedHistory",
  "pin",
]);

/**
 * So much may be held of one device already where it sends an invite, a change, or a step of a group's move that has to wait
 * for the record: of one group that we are in, or of all that we do not know. A change that is not held is no loss, as the
 * record has it, and is read for what is; invites are taken up as they come.
 */
const MOST_HELD_FROM_ONE = 64;

/** What a group that moves to MLS hears over pairwise sessions. */
export type PairwiseSide = Pick<Migrations, "order" | "receiveSecret" | "receiveReady" | "release">;

export class Receiver {
  private readonly context: Context;
  private readonly groups: GroupLedger;
  private readonly receipts: Receipts;
  private readonly lines: Lines;
  private readonly reports: EpochReports;
  private readonly approvals: Approvals;
  private readonly migrations: PairwiseSide;
  private readonly sync: SyncReceiver;
  /** Told after the transaction. */
  private passing: PassingEvent[] = [];

  constructor(
    context: Context,
    groups: GroupLedger,
    receipts: Receipts,
    lines: Lines,
    reports: EpochReports,
    approvals: Approvals,
    migrations: PairwiseSide,
  ) {
    this.approvals = approvals;
    this.migrations = migrations;
    this.reports = reports;
    this.context = context;
    this.groups = groups;
    this.receipts = receipts;
    this.lines = lines;
    this.sync = new SyncReceiver(context, groups, this);
  }

  /** Takes what is to be told without being stored. */
  takePassing(): readonly PassingEvent[] {
    const { passing } = this;
    this.passing = [];
    return passing;
  }

  /** Applies one message. Content that breaks a rule changes nothing: returns its code. */
  receive(message: Received): string | undefined {
    const { heard, storage } = this.context;
    // Also where what it says is refused.
    heard.note(message.sender, message.acceptedAtMs, this.context.now());
    storage.run("SAVEPOINT content");
    try {
      this.apply(message, decodeContent(message.body));
      storage.run("RELEASE content");
      return undefined;
    } catch (error) {
      if (!(error instanceof RejectionError)) throw error;
      storage.run("ROLLBACK TO content");
      storage.run("RELEASE content");
      return error.code;
    }
  }

  private apply(message: Received, content: Content): void {
    const { context } = this;
    const { sender } = message;
    if (context.isOwn(sender.accountId)) {
      if (this.seenBefore(message, content)) return;
      this.applyOwn(message, content);
      return;
    }
    const contact = context.contacts.get(sender.accountId);
    if (contact?.blocked === true && content.group === undefined) return;
    requireIdOfAccount(context, sender.accountId);
    const kind = bodyKind(content);
    if (message.ephemeral && kind !== "typing") throw new RejectionError("content/not-ephemeral");
    for (const report of content.seenEpochs?.reports ?? []) this.reports.receive(sender.accountId, report);
    if (content.epochReport !== undefined) {
      this.reports.receive(sender.accountId, content.epochReport);
      return;
    }
    if (content.joinRequest !== undefined) {
      const isKept = this.approvals.receiveRequest(sender, content.joinRequest);
      if (isKept && content.profile !== undefined) this.applyProfile(sender.accountId, content.profile);
      return;
    }
    if (content.joinApproval !== undefined) {
      this.approvals.receiveAnswer(sender.accountId, content.joinApproval);
      return;
    }
    if (content.typing !== undefined) {
      this.applyTyping(message, content);
      return;
    }
    if (content.group !== undefined && this.mustWaitForGroup(message, content)) return;
    if (this.seenBefore(message, content)) {
      // Its receipt may have been lost with the service's mailboxes: say it again.
      if (isConfirmed(kind)) this.confirm(message, content);
      return;
    }
    if (content.profile !== undefined) this.applyProfile(sender.accountId, content.profile);
    if (kind === undefined) return;
    if (content.receipt !== undefined) {
      this.receipts.receive(sender, content.receipt, context.now());
      return;
    }
    if (content.sync !== undefined) throw new RejectionError("content/sync-of-another-account");
    if (COMMUNITY_KINDS.has(kind)) throw new RejectionError("content/not-a-community");
    if (content.group !== undefined) this.applyGroup(message, content);
    else this.applyDirect(message, content);
    if (isConfirmed(kind)) this.confirm(message, content);
  }

  private seenBefore(message: Received, content: Content): boolean {
    return !this.context.history.noteSeen(seenOf(message, content), this.context.now());
  }

  private confirm(message: Received, content: Content): void {
    const conversation = content.group?.groupId ?? message.sender.accountId;
    const state = this.context.conversations.get(conversation)?.state;
    // Keys and changes of a group are confirmed in any state: without them nobody could be reached again.
    const technical = content.groupKey !== undefined || content.groupChange !== undefined;
    if (technical || (state !== undefined && mayConfirm(state))) {
      const members = content.group === undefined ? 2 : this.context.conversations.countMembers(conversation);
      this.receipts.due(message.sender.accountId, content.messageId, false, members);
    }
  }

  private applyProfile(account: AccountId, profile: NonNullable<Content["profile"]>): void {
    const { contacts, events } = this.context;
    const news = contacts.setProfileKey(account, profile.profileKey);
    const before = contacts.get(account)?.name;
    contacts.setName(account, profile.name);
    if (!news && before === profile.name) return;
    events.append({ kind: "contact-changed", account, atMs: this.context.now() });
    if (this.context.conversations.get(account) !== undefined) {
      this.context.conversations.setTitle(account, contacts.get(account)?.name ?? "");
    }
  }

  private applyTyping(message: Received, content: Content): void {
    const { context } = this;
    const { accountId: account } = message.sender;
    const conversation = content.group?.groupId ?? account;
    if (content.group !== undefined && context.conversations.member(conversation, account) === undefined)
      return;
    if (!context.settings.typingNotices || context.conversations.get(conversation)?.state !== "active")
      return;
    this.passing.push({ kind: "typing", conversation, account, started: content.typing?.started === true });
  }

  // --------------------------------------------------------------------------------------------- direct

  private applyDirect(message: Received, content: Content): void {
    const { accountId: account, deviceId: device } = message.sender;
    if (
      content.groupInvite !== undefined ||
      content.groupKey !== undefined ||
      content.groupChange !== undefined
    ) {
      throw new RejectionError("content/group-missing");
    }
    this.openDirect(account);
    this.lines.apply(content, {
      conversation: account,
      author: account,
      authorDevice: device,
      outgoing: false,
      sentAtMs: message.sentAtMs,
    });
  }

  /** Makes sure that the conversation with an account exists. RejectionError `conversation/id-taken`. */
  openDirect(account: AccountId): void {
    const { context } = this;
    requireIdOfAccount(context, account);
    if (context.conversations.get(account) !== undefined) return;
    const contact = context.contacts.get(account);
    const { acceptUnknown } = context.settings;
    const state = decideEntry({ accepted: contact?.accepted === true, acceptUnknown });
    const title = contact?.givenName || contact?.name || "";
    context.contacts.setFlags(account, { known: true, ...(acceptUnknown ? { accepted: true } : {}) });
    context.conversations.insert(
      { id: account, kind: "direct", state, protocol: "pairwise", title, expireAfterSeconds: 0 },
      context.now(),
    );
    context.events.append({ kind: "conversation-changed", conversation: account, atMs: context.now() });
  }

  // --------------------------------------------------------------------------------------------- groups

  /** A group or member that is not known yet: the content is kept until the record has been read. */
  private mustWaitForGroup(message: Received, content: Content): boolean {
    const { context } = this;
    const group = content.group!.groupId;
    if (content.groupInvite !== undefined) return false;
    const known = context.conversations.group(group);
    // Who may say it is in the record, and the record has gone on.
    const isStep = content.migrationSecret !== undefined || content.migrationReady !== undefined;
    if (isStep && content.group!.revision > (known?.revision ?? 0)) {
      this.holdFew("group", message, group);
      return true;
    }
    if (content.groupChange !== undefined && known !== undefined) return false;
    const account = message.sender.accountId;
    if (known !== undefined) {
      if (context.conversations.member(group, account) !== undefined) return false;
      if (acceptsFormerMember(message.acceptedAtMs, context.conversations.removedAt(group, account)))
        return false;
      // The record was read since: whoever is not in it has nothing to say.
      if (content.group!.revision <= known.revision) throw new RejectionError("group/not-a-member");
    }
    if (content.groupChange !== undefined) this.holdFew("group", message, group);
    else this.hold("group", message, group);
    return true;
  }

  /** Anybody who can reach us can name a group that we do not know, or a revision that nobody has. */
  private holdFew(reason: "group" | "invite", message: Received, group: Bytes): void {
    const isKnown = reason === "group" && this.context.conversations.group(group) !== undefined;
    if (
      this.context.held.countFrom(reason, message.sender, isKnown ? group : undefined) >= MOST_HELD_FROM_ONE
    )
      throw new RejectionError("content/too-much-held");
    this.hold(reason, message, group);
  }

  private hold(reason: "group" | "invite", message: Received, group: Bytes): void {
    const { body: bytes, sender, sentAtMs, acceptedAtMs } = message;
    this.context.held.add(
      { reason, bytes, sender, subject: group, sentAtMs, acceptedAtMs },
      this.context.now(),
    );
  }

  private applyGroup(message: Received, content: Content): void {
    const group = content.group!.groupId;
    const { accountId: author, deviceId: authorDevice } = message.sender;
    if (content.groupInvite !== undefined) {
      this.holdFew("invite", message, group);
      return;
    }
    if (content.groupKey !== undefined) {
      this.groups.receiveKey(group, author, content.groupKey);
      return;
    }
    if (content.groupChange !== undefined) {
      if (this.groups.receiveChange(group, content.groupChange.change) === "behind")
        this.holdFew("group", message, group);
      return;
    }
    if (content.migrationSecret !== undefined) {
      this.migrations.receiveSecret(group, message.sender, content.migrationSecret);
      return;
    }
    if (content.migrationReady !== undefined) {
      this.migrations.receiveReady(group, message.sender, content.migrationReady);
      return;
    }
    if (!this.migrations.order.takePairwise(group, message.sender, content.group!.counter)) {
      // Its author says it again in the MLS group, under the same id.
      this.context.history.forgetSeen(seenOf(message, content));
      return;
    }
    this.lines.apply(content, {
      conversation: group,
      author,
      authorDevice,
      outgoing: false,
      sentAtMs: message.sentAtMs,
    });
    this.migrations.release(group);
  }

  // --------------------------------------------------------------------------------------- own devices

  private applyOwn(message: Received, content: Content): void {
    if (content.sync !== undefined) {
      this.sync.apply(message, content.sync);
      return;
    }
    // What goes to a whole group goes to the own other devices as it is.
    if (content.group !== undefined) this.applyGroup(message, content);
  }

  /** A copy of what another own device sent. In a group that is not known here yet it waits for the group's record. */
  applySentCopy(
    message: Received,
    { conversationId: conversation, content: bytes, sentAtMs }: NonNullable<Sync["sent"]>,
  ): void {
    const { context } = this;
    const { sender } = message;
    const content = contentType.decode(bytes);
    if (content.group !== undefined && context.conversations.get(conversation) === undefined) {
      this.hold("group", message, conversation);
      return;
    }
    const { accountId: author, deviceId: authorDevice } = sender;
    const seen = { conversation, author, device: authorDevice, message: content.messageId };
    if (!context.history.noteSeen(seen, context.now())) return;
    if (content.group !== undefined) {
      if (!equalBytes(content.group.groupId, conversation))
        throw new RejectionError("content/foreign-conversation");
      if (content.group.counter !== undefined)
        context.migration.noteSeen(conversation, sender, content.group.counter);
    } else {
      context.contacts.setFlags(conversation as AccountId, { accepted: true, known: true });
      this.openDirect(conversation as AccountId);
      if (context.conversations.get(conversation)?.state === "request") {
        context.conversations.setState(conversation, "active");
      }
    }
    this.lines.apply(content, { conversation, author, authorDevice, outgoing: true, sentAtMs });
    if (content.group !== undefined) this.migrations.release(content.group.groupId);
  }

  /** A message of this account is lost for good: says so where the user looks for it. */
  noteLost(sender: DeviceAddress, reference: number): void {
    const { context } = this;
    if (context.isOwn(sender.accountId) || context.contacts.get(sender.accountId)?.blocked === true) return;
    if (context.conversations.get(sender.accountId)?.kind === "group") return;
    this.openDirect(sender.accountId);
    const id = new Uint8Array(16);
    new DataView(id.buffer).setBigUint64(8, BigInt(reference));
    this.lines.appendNotice(
      messageId(id),
      {
        conversation: sender.accountId,
        author: sender.accountId,
        authorDevice: sender.deviceId,
        outgoing: false,
        sentAtMs: context.now(),
      },
      { code: "conversation/message-lost" },
    );
  }

  /** Inside a transaction: the user accepted another identity key of this account. */
  noteIdentityChanged(account: AccountId): void {
    const { context } = this;
    if (context.conversations.get(account)?.kind !== "direct") return;
    const { accountId: author, deviceId: authorDevice } = context.own;
    this.lines.appendNotice(
      context.newMessageId(),
      { conversation: account, author, authorDevice, outgoing: true, sentAtMs: context.now() },
      { code: "conversation/identity-changed", account: formatId(account) },
    );
  }

  /** Contents of a group that waited for its record, in order. */
  retryHeld(group: Bytes): void {
    const { context } = this;
    context.transaction(() => {
      for (const row of context.held.of("group", group)) {
        context.held.remove(row.id);
        if (row.sender === undefined) continue;
        const { sender, bytes: body, sentAtMs, acceptedAtMs } = row;
        const message = { sender, body, sentAtMs, acceptedAtMs, ephemeral: false };
        this.forgetSeen(message);
        this.receive(message);
      }
    });
  }

  /** A content that was noted as seen and then held has not been applied: it must not count as a duplicate. */
  private forgetSeen(message: Received): void {
    const content = decodeContent(message.body);
    if (content.groupChange === undefined && content.sync === undefined) return;
    this.context.history.forgetSeen(seenOf(message, content));
  }
}

function seenOf({ sender }: Received, { group, messageId: message }: Content): Seen {
  const { accountId: author, deviceId: device } = sender;
  return { conversation: group?.groupId ?? author, author, device, message };
}

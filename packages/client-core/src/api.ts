/**
 * What an application embeds. Open a client on a storage and a transport, and talk through conversations; which
 * protocol carries a conversation is for display only.
 *
 * Ids are text (unpadded base64url, 22 characters): fit for a map key, a URL, a screen and JSON. Times are
 * milliseconds since 1970. Every promise rejects with one of the errors of @murmuration/base: UsageError for a
 * broken rule, UnavailableError where a retry makes sense, RejectionError where another party's bytes or an
 * answer of the service refuse it.
 *
 * Guarantees. A message that `send` returned is in the history of this device and in its outbox; it leaves as
 * soon as the service can be reached, also after a restart. A message that was accepted is exactly once in the
 * history of every other device. Events come at least once, with rising ids; `events.acknowledge` moves the
 * application's cursor.
 */
import type { Bytes } from "@murmuration/base";
import type { PushKind } from "@murmuration/wire/push";
import type { WakeBy } from "./core/push.ts";
import type { PushGateways } from "./ports/push-gateway.ts";
import type { Storage } from "./ports/storage.ts";
import type { Transport } from "./ports/transport.ts";

/** An account's id as text. */
export type AccountRef = string;
/** A conversation's id as text: the other account's id, or the group's id. */
export type ConversationRef = string;
/** A message id as text; unique together with its author. */
export type MessageRef = string;

// ---------------------------------------------------------------------------------------------------- opening

export interface OpenOptions {
  /** An open, unlocked database: `openSqlcipher(...)`. The client closes it. */
  readonly storage: Storage;
  /** The way to the delivery service: `connectTo(url)`. */
  readonly transport: Transport;
  /** Clock, randomness and timers; the system's by default. */
  readonly environment?: Environment;
  readonly settings?: Partial<ClientSettings>;
  /**
   * Told once when the client cannot go on: the storage failed, or a bug was found (InvariantError). It does nothing
   * more after that; `close` it. Without it the error is thrown where nobody catches it and ends the process.
   */
  readonly onFailure?: (error: unknown) => void;
  /** The way to push gateways; HTTP by default. */
  readonly pushGateways?: PushGateways;
}

/** Everything that is not computed from state and input. */
export interface Environment {
  /** Milliseconds since 1970. */
  now(): number;
  /** Cryptographically secure random bytes. */
  random(length: number): Bytes;
  /** Resolves after this time, or as soon as the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** CPU time of this process, microseconds: only for {@link CommunityCosts}, which are 0 without it. Asking is not free. */
  cpuUs?(): number;
}

export interface ClientSettings {
  /** Members from which on a group is an MLS group; it never goes back. Default 256. */
  readonly mlsThreshold: number;
  /**
   * A pairwise group with this many members fewer than `mlsThreshold` moves by itself, so that nobody has to wait to be
   * added. Default 0: it moves when somebody is to be added whom it has no room for.
   */
  readonly migrationMargin: number;
  /** How long the move of a group that has not reached the threshold waits for devices that are not ready, ms. Default 24 hours. */
  readonly migrationDeadlineMs: number;
  /** The same, where somebody waits to be added, ms. Default 60,000. */
  readonly migrationUrgentDeadlineMs: number;
  /**
   * How long a device that follows a switch waits for its Welcome, or for the secret, before it comes in from outside, ms.
   * Default 90,000: both are brought to a mailbox that was full within a minute, and whoever comes in from outside misses
   * what was said before.
   */
  readonly migrationPatienceMs: number;
  /**
   * How long a change of a pairwise group that brings a new key waits for the key to be sent to all members before whoever asked
   * for it is told that it takes longer, ms; it goes on by itself. Default 60,000.
   */
  readonly keyPatienceMs: number;
  /**
   * Longest pause between two tries to reach an account whose mailbox was full, ms; the first one is a second, and each one
   * is twice the one before. Default 60,000.
   */
  readonly fullMailboxRetryMs: number;
  /** Messages of unknown accounts open a conversation at once instead of a message request. Default false. */
  readonly acceptUnknown: boolean;
  /** Send read receipts, and show those of others. Default true. */
  readonly readReceipts: boolean;
  /** Send and show typing notices. Default true. */
  readonly typingNotices: boolean;
  /** How long a message without a receipt can be sent again after the service lost it, ms. Default 30 days. */
  readonly resendMemoryMs: number;
  /**
   * Time in which receipts to one author are gathered into one, ms; in a group of more than 4 members longer, up to 250
   * times, and each member half up to one and a half times as long as others. Default 250.
   */
  readonly receiptDelayMs: number;
  /** Shortest and longest pause before connecting again, ms. Default 250 and 30,000, with full jitter. */
  readonly reconnectMinMs: number;
  readonly reconnectMaxMs: number;
  /** Time the service has for an answer before the connection is given up, ms. Default 15,000. */
  readonly requestTimeoutMs: number;
  /** Unacknowledged envelopes that the service may deliver, at most; at twice as many the connection is cut. Default 400. */
  readonly inboxLimit: number;
  /** Messages that wait in one conversation's outbox, at most: then `send` refuses. Default 10,000. */
  readonly outboxLimit: number;
  /**
   * One-time prekeys of each kind kept at the service, 1 to 100: each first message to this device takes one. Default 100. With
   * fewer than 25 the service does not say in time that they run out, and they are filled up with the next connection.
   */
  readonly preKeyStock: number;
  /** KeyPackages kept at the service, by which others add this device to communities. Default 50. */
  readonly keyPackageStock: number;
  /** How often this device renews its keys in each community, ms. Default 7 days. */
  readonly selfUpdateMs: number;
  /**
   * Longest pause between two push handles that are set at the service, ms; each pause is a random one below it. Handles that
   * come in one burst would say that they belong together. Default 20,000.
   */
  readonly pushSpreadMs: number;
}

export interface Client {
  /** This account and device; undefined before `register` or `linking.finish`. */
  readonly account: OwnAccount | undefined;
  readonly conversations: Conversations;
  readonly contacts: Contacts;
  readonly events: Events;
  readonly attachments: Attachments;
  readonly linking: Linking;
  readonly outbox: Outbox;
  readonly connection: Connection;
  readonly push: Push;
  readonly communityCosts: CommunityCosts;

  /** Creates an account with this as its first device. Sends again what was prepared, if interrupted. */
  register(options?: { readonly name?: string; readonly inviteCode?: Bytes }): Promise<OwnAccount>;
  /** Replaces the own profile name; contacts learn it with the next message. */
  setName(name: string): Promise<void>;
  /** Deletes the account at the service and everything in this database. */
  deleteAccount(): Promise<void>;
  /** Stops connections and timers, finishes what is being written, and closes the storage. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * What MLS groups have cost this client since it was opened: for benchmarks. Bytes are those of the MLS messages; CPU is
 * that of making or taking in a commit, the engine's and the database's, microseconds.
 */
export interface CommunityCosts {
  readonly commitsCreated: number;
  readonly commitBytes: number;
  readonly commitCreateCpuUs: number;
  readonly commitsReceived: number;
  readonly commitReceiveCpuUs: number;
  readonly welcomes: number;
  readonly welcomeBytes: number;
  /** Leaves whose signatures and credentials this client verified by itself when it joined. */
  readonly verifiedLeaves: number;
  /** Commits that lost a race, or had to wait for a turn. */
  readonly refusedSubmits: number;
  /** Application messages in a log that this device could not read. */
  readonly unreadable: number;
  /** Commits that it could not follow, and times it had to enter a group anew. */
  readonly refusedCommits: number;
  readonly rejoins: number;
}

/** `openClient(options)` loads the database; it reaches for the service only when `connection.start()` is called. */
export type OpenClient = (options: OpenOptions) => Promise<Client>;

export interface OwnAccount {
  readonly accountId: AccountRef;
  readonly deviceId: number;
  readonly name: string;
  /**
   * What to hand to others so that they can write without a message request: account id, profile key and the
   * fingerprint of the account identity key, as one line of text. Whoever holds it can send to this account.
   */
  readonly contactCard: string;
}

export interface Connection {
  /** `replaced`: the same device connected elsewhere. `removed`: the service does not know this device any more. */
  readonly state: "stopped" | "connecting" | "connected" | "waiting" | "replaced" | "removed";
  /** Connects, and connects again whenever the connection breaks, until `stop` or `close`. */
  start(): void;
  stop(): Promise<void>;
  /** Resolves once everything that waited at the service has been received. UnavailableError after the time. */
  caughtUp(timeoutMs?: number): Promise<void>;
}

/**
 * How this device is woken while it is not connected (docs/push-gateway.md). Everything here is this device's own, survives
 * restarts, and is brought to the gateway and the service while the client is connected; no message waits for it.
 */
export interface Push {
  readonly status: PushStatus;
  /**
   * From now on this device is woken through the gateway at this origin, by this token of a push service; also when the push
   * service gave it another token. Persisted when it resolves. What is equal to the present state changes nothing.
   * UsageError `push/bad-gateway`, `push/bad-token`.
   */
  on(options: PushOptions): Promise<void>;
  /** From now on nothing wakes it. Persisted when it resolves. */
  off(): Promise<void>;
  /** Resolves when the gateway and the service have what is wanted. UnavailableError `push/not-settled` after the time. */
  settled(timeoutMs?: number): Promise<void>;
  /**
   * What a gateway offers: push services, and the key that a browser is given when it subscribes. UsageError
   * `push/bad-gateway`, UnavailableError `push/gateway-unavailable`.
   */
  describeGateway(gateway: string): Promise<{
    readonly services: readonly string[];
    readonly vapidPublicKey: string | undefined;
  }>;
}

export interface PushOptions {
  /** Origin of the gateway, such as `https://push.example.org`. */
  readonly gateway: string;
  readonly kind: PushKind;
  /** The endpoint of a Web Push subscription, or the token that APNs or FCM gave to the application. */
  readonly address: string;
}

export interface PushStatus {
  readonly state: "off" | "on";
  readonly gateway: string | undefined;
  readonly kind: PushKind | undefined;
  /** The gateway has the token. */
  readonly registered: boolean;
  /** Why the gateway does not take the token: its code. */
  readonly failure: string | undefined;
  /** Handles that are still to be set at the service or taken back there: of the mailbox, and of each community. */
  readonly waitingHandles: number;
}

// ----------------------------------------------------------------------------------------------------- contacts

export interface Contact {
  readonly accountId: AccountRef;
  /** The name that the account gave itself, or the own name for it; empty when unknown. */
  readonly name: string;
  readonly blocked: boolean;
  /** The user compared safety numbers, or a contact card of that account carried the key's fingerprint. */
  readonly verified: boolean;
  /** The service shows another identity key: nothing is sent to this account until {@link Contacts.decideIdentity}. */
  readonly keyChanged: boolean;
  /** True once messages go sealed: this account accepted us, or gave us its card. */
  readonly reachable: boolean;
}

export interface Contacts {
  /**
   * Adds an account by its contact card, or by its bare id (then the first message is a message request). RejectionError
   * `contact/fingerprint-mismatch` where the card is of another key than the one that the service had shown.
   */
  add(cardOrAccountId: string, name?: string): Promise<Contact>;
  get(accountId: AccountRef): Contact | undefined;
  list(): readonly Contact[];
  /**
   * Blocks: nothing of this account is shown or answered any more, and the own access key is replaced, so
   * that the account can no longer send sealed. All others get the new one.
   */
  block(accountId: AccountRef): Promise<void>;
  unblock(accountId: AccountRef): Promise<void>;
  /** Asks the service for the account's device list when it is not known yet. 60 digits, equal on both sides. */
  safetyNumber(accountId: AccountRef): Promise<string>;
  /** The number that goes with the key of a `pairwise/identity-changed`; undefined where nothing is to be decided. */
  claimedSafetyNumber(accountId: AccountRef): string | undefined;
  setVerified(accountId: AccountRef, verified: boolean): Promise<void>;
  /**
   * Answers a `decision-needed` event with code `pairwise/identity-changed`. UsageError `contact/nothing-to-decide`, and
   * `contact/other-number` where the claimed key has another number than the one that was compared.
   */
  decideIdentity(accountId: AccountRef, choice: IdentityChoice): Promise<void>;
}

/**
 * Which of two identity keys is a contact's: the one that was known before, or the one that the service shows now. A service
 * may show one after the other, so a new one is named by the number that the user has compared.
 */
export type IdentityChoice =
  | { readonly keep: "known" }
  | { readonly keep: "claimed"; readonly safetyNumber: string };

// ------------------------------------------------------------------------------------------------ conversations

export interface Conversations {
  /** The 1:1 conversation with an account; created when it does not exist. UsageError for the own account. */
  direct(accountId: AccountRef): Conversation;
  /**
   * Creates a group with these members besides oneself. Accounts whose contact card we hold, or who accepted us,
   * become members at once; others are invited. Resolves when the group exists at the service. With `mlsThreshold`
   * members or more it is a community: everybody is added at once, and it resolves when that is done. If it is
   * interrupted, the group and what is left to do are kept and go on by themselves with the next connection; `progress`
   * events tell how far it is. Accounts that cannot be added are named by `conversation.leftOut`.
   */
  createGroup(options: {
    readonly title: string;
    readonly members: readonly AccountRef[];
    /** 0: messages stay. */
    readonly expireAfterSeconds?: number;
    /** A community from the start, whatever its size. */
    readonly protocol?: "mls";
  }): Promise<Conversation>;
  get(id: ConversationRef): Conversation | undefined;
  /** What a link says of the group it leads to, before anything is asked. RejectionError `link/malformed`. */
  describeLink(url: string): { readonly conversationId: ConversationRef; readonly title: string };
  /**
   * Joins a community by an invite link; resolves when this device is a member. Where the link asks for approval, the
   * account that made it is asked: UnavailableError `link/approval-pending` when nobody has answered after `timeoutMs`
   * (default 60,000). The request stays, and the join goes on by itself when it is approved, also after a restart; a
   * `conversation-changed` event tells. RejectionError `link/refused`, `group/link-expired`. To call it again is to ask
   * again.
   */
  join(url: string, options?: { readonly timeoutMs?: number }): Promise<Conversation>;
  /** Last active first. */
  list(): readonly Conversation[];
}

/**
 * `request`: somebody unknown wrote, or added us to a group: accept, decline or block.
 * `invited`: asked to join a group. `removed`, `left`: history stays, nothing can be sent.
 */
export type ConversationState = "active" | "request" | "invited" | "removed" | "left" | "blocked";

export type Role = "owner" | "admin" | "member";

export interface Member {
  readonly accountId: AccountRef;
  readonly role: Role;
  readonly name: string;
  /** Invited and has not accepted: gets no messages yet. */
  readonly invited: boolean;
}

export interface Conversation {
  readonly id: ConversationRef;
  readonly kind: "direct" | "group";
  /** What carries messages now; for display only. */
  readonly protocol: "pairwise" | "mls";
  readonly state: ConversationState;
  /** Title of a group, name of the other account. */
  readonly title: string;
  /** 0: messages stay. Otherwise they vanish this long after they were read (received: shown; sent: accepted). */
  readonly expireAfterSeconds: number;
  /**
   * Until when nobody is to be disturbed by what is said here; undefined while it is not muted. Lines and events come as
   * ever: whoever draws the user's attention asks here first.
   */
  readonly mutedUntilMs: number | undefined;
  /**
   * What wakes this device for this conversation while it is not connected; `messages` unless it was set. It has an effect in
   * communities: a mailbox does not show whose message is in it, so there every message wakes, and the application asks here
   * before it draws attention. A conversation that is muted for ever wakes by nothing.
   */
  readonly wakeBy: WakeBy;
  /** On this device only. UsageError `conversation/bad-wake`. */
  setWakeBy(wakeBy: WakeBy): Promise<void>;
  /** How many accounts are members, ourselves included. */
  readonly memberCount: number;
  /**
   * Members in the order of their account ids; at most `limit` (default 256) after the given account. With `search` only
   * those whose name has this text in it, whatever its case.
   */
  members(page?: {
    readonly after?: AccountRef;
    readonly limit?: number;
    readonly search?: string;
  }): readonly Member[];

  /**
   * Persists the message in history and outbox, then sends it. Resolves when it is persisted; see
   * {@link Outbox.settled} for what became of it. UsageError `conversation/not-active`,
   * `conversation/text-too-long`, `conversation/outbox-full`.
   */
  send(content: OutgoingContent): Promise<SentMessage>;
  /** Replaces the text of an own message. */
  edit(message: MessageRef, text: string): Promise<SentMessage>;
  /** Adds or changes (text), or withdraws (undefined) the own reaction to a message. */
  react(message: MessageTarget, emoji: string | undefined): Promise<SentMessage>;
  /** Deletes an own message everywhere; owners and admins of a group may delete any. */
  delete(message: MessageTarget): Promise<SentMessage>;
  /**
   * Communities only (UsageError `conversation/not-a-community`); by owners and admins (`group/not-an-admin`). At most 50
   * messages are pinned at a time: the oldest pin makes room. A deleted message loses its pin.
   */
  pin(message: MessageTarget): Promise<SentMessage>;
  unpin(message: MessageTarget): Promise<SentMessage>;
  /** Pinned messages, the newest pin first. */
  pins(): readonly TextLine[];
  /**
   * Deletes a message from this device only. Of an own one, what has not left is not sent any more, be it the message or an
   * edit; what is just being handed to the service still arrives.
   */
  deleteHere(message: MessageTarget): Promise<void>;
  /** Tells connected members that we type; never stored, dropped when offline. */
  typing(started: boolean): Promise<void>;
  /** Marks everything up to this history line as read; starts its timers, and tells the authors. */
  markRead(throughHistoryId: number): Promise<void>;
  setExpiry(seconds: number): Promise<SentMessage>;
  /** On all devices of this account. `Number.MAX_SAFE_INTEGER` for ever; undefined no longer. UsageError `conversation/bad-time`. */
  setMuted(untilMs: number | undefined): Promise<void>;

  /** Lines in order, oldest first: at most `limit` (default 100) after `after`, or the last ones before `before`. */
  history(page?: {
    readonly after?: number;
    readonly before?: number;
    readonly limit?: number;
  }): readonly HistoryLine[];
  message(target: MessageTarget): HistoryLine | undefined;

  /** Accepts a message request or an invite: the others learn our profile key, receipts go out. */
  accept(): Promise<void>;
  /** Deletes the conversation; a group is left, an invite declined. `block` also blocks who sent it. */
  decline(options?: { readonly block?: boolean }): Promise<void>;

  /**
   * Groups only (UsageError `conversation/not-a-group`). Roles are checked by every member. In a community thousands can
   * be added: `progress` events tell how far it is, and an interrupted call goes on by itself. Resolves with those who
   * could not be added, and why. Members that a pairwise group has no room for are written down: the group moves to MLS,
   * and they are added then, without a caller ({@link Migration.waitingMembers}).
   */
  add(members: readonly AccountRef[]): Promise<readonly LeftOutMember[]>;
  /** Who could not be added when a community was created, or by a call that was interrupted; until it is tried again. */
  readonly leftOut: readonly LeftOutMember[];
  remove(member: AccountRef): Promise<void>;
  leave(): Promise<void>;
  setRole(member: AccountRef, role: Role): Promise<void>;
  setTitle(title: string): Promise<void>;
  /** The side of a group that only communities have. */
  readonly community: Community;

  /** How far the group's move to MLS is; undefined for a group that never began to move. */
  readonly migration: Migration | undefined;
  /**
   * Owners and admins of a pairwise group (UsageError `group/not-an-admin`, `migration/already-switched`).
   * `start`: begins to move the group to MLS, whatever its size. It goes on by itself, also after a restart, and nobody
   * has to wait for it: messages go on.
   * `abort`: gives the attempt up, before the switch only.
   * `finish-now`: switches as soon as the MLS group stands, without waiting for those who are not ready; they are left
   * behind and come in by themselves when they are back. Only on the device that prepares it (`migration/not-the-creator`).
   */
  migrate(step: "start" | "abort" | "finish-now"): Promise<void>;
}

/** A pairwise group on its way to MLS (docs/migration.md). */
export interface Migration {
  readonly state: "pairwise" | "preparing" | "ready" | "switching" | "mls" | "recovering";
  /** Rises with each attempt. */
  readonly generation: number;
  /** The account whose device prepares the MLS group. */
  readonly creator: AccountRef | undefined;
  /** Whether it is this device; before the switch only it knows the numbers below. */
  readonly isCreator: boolean;
  readonly startedAtMs: number | undefined;
  /** When it switches even if not everybody is ready. */
  readonly deadlineAtMs: number | undefined;
  /** Accounts that are to move, and those of them all of whose devices are ready. */
  readonly accounts: number;
  readonly readyAccounts: number;
  /**
   * Who is not in the MLS group, and why: `key-packages/none`, `migration/not-joined`, `migration/invited`, and
   * `migration/away` for those whose devices have said nothing for 30 days, which are not waited for. After the switch,
   * who was left behind by it and has not come in since: `migration/left-behind` where this device does not know more.
   */
  readonly notReady: readonly LeftOutMember[];
  /** What comes next: `members` have to join, the `service`, the `switch`, `nothing`. */
  readonly waitsFor: "members" | "service" | "switch" | "nothing";
  /** Accounts that are added as soon as the group has moved. */
  readonly waitingMembers: number;
}

/** An account that could not be added, with the code that says why: `key-packages/none`, `accounts/unknown`. */
export interface LeftOutMember {
  readonly accountId: AccountRef;
  readonly code: string;
}

/** What a community is run by; admins change it. */
export interface CommunitySettings {
  /** The least role that may add members. */
  readonly addBy: Role;
  /** The least role that may change title, description and picture. */
  readonly profileBy: Role;
  /** Only admins and owners write. */
  readonly announcementOnly: boolean;
  /** Pause between two messages of one member, seconds; 0: none. */
  readonly slowModeSeconds: number;
  /** How many may join by link in a minute; 0: any number. */
  readonly joinsPerMinute: number;
}

export interface InviteLinkInfo {
  readonly linkId: string;
  /** Leaves that may come by it; 0: any number. */
  readonly maxUses: number;
  /** Whether an admin has to approve each who comes. */
  readonly approval: boolean;
  /** From when on it lets nobody in, ms since 1970; 0: it never expires. */
  readonly expiresAtMs: number;
  /** A secret: whoever has it can join. Undefined for links that another device made. */
  readonly url: string | undefined;
}

/** Somebody who has a link that asks for approval, and waits for it. */
export interface JoinRequest {
  readonly accountId: AccountRef;
  /** As the account names itself. */
  readonly name: string;
  readonly linkId: string;
  readonly requestedAtMs: number;
}

/** What only communities have. UsageError `conversation/not-a-community` in other conversations. */
export interface Community {
  settings(): CommunitySettings;
  setSettings(settings: Partial<CommunitySettings>): Promise<void>;
  /** Removes an account and keeps it out: by invitation, link, or a second device. Also for those who are not members. */
  ban(account: AccountRef): Promise<void>;
  unban(account: AccountRef): Promise<void>;
  isBanned(account: AccountRef): boolean;
  /**
   * Makes a link. `maxUses` 0 (default): for any number; `expiresInSeconds` from now by this device's clock, a year at
   * most (default: it never expires). Where there are 16 already, those that have expired make room. UsageError
   * `link/bad-uses`, `link/bad-expiry`. One commit.
   */
  createLink(options?: {
    readonly maxUses?: number;
    readonly approval?: boolean;
    readonly expiresInSeconds?: number | undefined;
  }): Promise<InviteLinkInfo>;
  /** Every link that was not revoked, also those that are used up or have expired. */
  links(): readonly InviteLinkInfo[];
  revokeLink(linkId: string): Promise<void>;
  /** Who asks to come by links of this account; `join-requested` events tell of new ones. */
  joinRequests(): readonly JoinRequest[];
  /**
   * Lets an account in that has asked: with every device that did. Resolves when the answer is in the outbox. UsageError
   * `group/no-such-request`, `group/not-an-admin`.
   */
  approveJoin(account: AccountRef): Promise<void>;
  /** Tells it no; for a day it is not shown again if it asks. */
  refuseJoin(account: AccountRef): Promise<void>;
  readonly description: string;
  setDescription(description: string): Promise<void>;
  /** To be loaded with `attachments.download`; an application takes none that is no picture by its bytes. */
  readonly picture: AttachmentPointer | undefined;
  /** From `attachments.upload`, at most 1 MiB (UsageError `attachment/too-large`); undefined: none. */
  setPicture(picture: AttachmentPointer | undefined): Promise<void>;
  /**
   * Owners and admins: shares the last messages, at most (and by default) 100, with everybody who came after they were
   * said. Resolves with their number once they are in the outbox. Left out: what disappears, what others shared, and what
   * is too large. Newcomers get lines of their own for them, marked by `sharedBy`; their `historyId` rises like that of
   * anything that comes later, so an application that wants them in their place orders by `sentAtMs`. UsageError
   * `group/not-an-admin`, `group/bad-count`.
   */
  shareHistory(count?: number): Promise<number>;
  readonly standing: CommunityStanding;
  /** Enters the group anew with fresh keys: for a device that lost its way. */
  heal(): Promise<void>;
}

/**
 * Where this device stands in a community. `following`: it takes the log in, and sends. `entering`: it is on its way in.
 * `set-aside`: something broke here (`group/unusable`), or it cannot follow; it enters anew by itself, at the latest with the
 * next connection. `forked`: it sends nothing until {@link Community.heal}. `over`: it is a member no more.
 */
export type CommunityStanding = "following" | "entering" | "set-aside" | "forked" | "over";

/** A message named by its author and id. */
export interface MessageTarget {
  readonly author: AccountRef;
  readonly messageId: MessageRef;
}

export interface OutgoingContent {
  readonly text?: string;
  readonly replyTo?: MessageTarget;
  /** From `attachments.upload`. At most 32. */
  readonly attachments?: readonly AttachmentPointer[];
  /**
   * Accounts that the text mentions, at most 32. Readers see them as {@link TextLine.mentions}; in a community whoever is
   * woken by mentions alone is woken by this, for which the service is told their leaves.
   */
  readonly mentions?: readonly AccountRef[];
}

export interface SentMessage {
  readonly messageId: MessageRef;
  /** Line in history; undefined for what changes another line (edit, reaction, delete, unpin). */
  readonly historyId: number | undefined;
}

// ------------------------------------------------------------------------------------------------------ history

/** `waiting`: in the outbox. `accepted`: durable at the service. `failed`: will not be sent; `failure` says why. */
export type SendState = "waiting" | "accepted" | "failed";

interface LineBase {
  /** Rises within the device; the order of the history. */
  readonly historyId: number;
  readonly conversationId: ConversationRef;
  readonly messageId: MessageRef;
  readonly author: AccountRef;
  /** 0 where a commit of a community, or a change of a group's record, says it and no device. */
  readonly authorDevice: number;
  readonly outgoing: boolean;
  /** By the author's clock. */
  readonly sentAtMs: number;
  /** When this device stored it. */
  readonly storedAtMs: number;
}

export interface TextLine extends LineBase {
  readonly kind: "message";
  readonly text: string;
  readonly replyTo: MessageTarget | undefined;
  readonly attachments: readonly AttachmentPointer[];
  /** Accounts that the text mentions, by its author's word. */
  readonly mentions: readonly AccountRef[];
  readonly reactions: readonly { readonly author: AccountRef; readonly emoji: string }[];
  readonly edited: boolean;
  readonly deleted: boolean;
  /** When it vanishes; undefined while the timer does not run. */
  readonly expiresAtMs: number | undefined;
  /** Outgoing only. */
  readonly sendState: SendState | undefined;
  readonly failure: string | undefined;
  /** Outgoing: accounts of which at least one device confirmed. Incoming: empty. */
  readonly deliveredTo: readonly AccountRef[];
  readonly readBy: readonly AccountRef[];
  /**
   * Outgoing: accounts that the service has not taken the message for, in a group while it has for the others: a full
   * mailbox, no keys, an identity to decide on. It is tried again, unless it was given up for good.
   */
  readonly notReached: readonly AccountRef[];
  /** Incoming: whether it was marked read. */
  readonly read: boolean;
  /**
   * The owner or admin who shared this message of the time before we came: author, time and text are that account's word,
   * and an application should show it so. Undefined for what came from its author.
   */
  readonly sharedBy: AccountRef | undefined;
}

/** What the conversation itself has to say. */
export interface NoticeLine extends LineBase {
  readonly kind: "notice";
  readonly notice: Notice;
}

export type Notice =
  | { readonly code: "group/created" }
  | { readonly code: "group/member-added"; readonly account: AccountRef }
  /** Several at once; `accounts` names the first of them. */
  | { readonly code: "group/members-added"; readonly count: number; readonly accounts: readonly AccountRef[] }
  | { readonly code: "group/member-invited"; readonly account: AccountRef }
  | { readonly code: "group/member-joined"; readonly account: AccountRef }
  | { readonly code: "group/member-removed"; readonly account: AccountRef }
  | { readonly code: "group/member-left"; readonly account: AccountRef }
  | { readonly code: "group/role-changed"; readonly account: AccountRef; readonly role: Role }
  | { readonly code: "group/title-changed"; readonly title: string }
  | { readonly code: "group/message-pinned"; readonly message: MessageTarget }
  /** The newest change could not be followed by everybody: the service took it back, and what was said of it is not so. */
  | { readonly code: "group/change-taken-back" }
  | { readonly code: "conversation/expiry-changed"; readonly seconds: number }
  /** A message of this author could not be decrypted after three retries: it is lost. */
  | { readonly code: "conversation/message-lost" }
  /** The author's identity key changed and was accepted. */
  | { readonly code: "conversation/identity-changed"; readonly account: AccountRef };

export type HistoryLine = TextLine | NoticeLine;

// ------------------------------------------------------------------------------------------------------- events

interface EventBase {
  /** Rises by at least one with every stored event; 0 for those that are not stored: `typing`, `connection`, `progress`, `migration`. */
  readonly eventId: number;
  readonly atMs: number;
}

/**
 * Two hashes for one epoch of one group are two groups under one name. Each is the SHA-256 of an epoch authenticator (RFC
 * 9420 8.7), in hex: whoever sits beside the other person can compare what both devices show. It convinces nobody else,
 * as any member could write down such a pair.
 */
export interface ForkEvidence {
  readonly epoch: number;
  /** What this device knows. */
  readonly ours: string;
  /** What the account of the event says over its pairwise session. */
  readonly theirs: string;
}

export type ClientEvent = EventBase &
  (
    | {
        /** A line came into being, by whomever: also own lines, sent here or on another own device. */
        readonly kind: "line-added";
        readonly conversationId: ConversationRef;
        readonly historyId: number;
        /** The line as it is now; undefined if it has vanished since. */
        readonly line: HistoryLine | undefined;
      }
    | {
        /** A line changed: send state (and whom it reached), receipts, edit, reaction, delete, pin. */
        readonly kind: "line-changed";
        readonly conversationId: ConversationRef;
        readonly historyId: number;
        readonly change:
          | "send-state"
          | "delivered"
          | "read"
          | "edited"
          | "reaction"
          | "deleted"
          | "pinned"
          | "unpinned";
        readonly line: HistoryLine | undefined;
      }
    | {
        /** A line vanished: its timer ran out, or it was deleted here. */
        readonly kind: "line-removed";
        readonly conversationId: ConversationRef;
        readonly historyId: number;
      }
    | {
        /** A conversation came into being, or its state, title, timer, members or muting changed. */
        readonly kind: "conversation-changed";
        readonly conversationId: ConversationRef;
        readonly state: ConversationState;
      }
    | { readonly kind: "contact-changed"; readonly accountId: AccountRef }
    | {
        /** Somebody asks to join by a link that wants approval: `community.approveJoin` or `refuseJoin`. */
        readonly kind: "join-requested";
        readonly conversationId: ConversationRef;
        readonly accountId: AccountRef;
        readonly linkId: string;
      }
    | {
        /**
         * Only a person can decide. `pairwise/identity-changed`: compare safety numbers, then decideIdentity.
         * `contact/fingerprint-mismatch`: another device of this account has a contact card of another identity key than the
         * service has shown this one, and one of the keys is not the contact's.
         * `group/forked`: the service shows another past of the group than it did before, or takes a removal or
         * ban back; sending has stopped until `community.heal`.
         * `group/disputed`: this account says that it is in another group of that name; a second one would be believed.
         * `group/other-identity`: somebody is in the group as this account, under another identity key than it is known by
         * here: it reads what is said there, and in a community nothing that it says is shown. Said once for each such key.
         * `group/unusable`: this device could not work with its state or log of the group, and tries to enter it anew.
         * `group/service-behind`: the service was set back to an older copy, and this device cannot bring it forward;
         * nothing is sent or received in the group until another member has, or {@link Community.heal} follows it.
         * `migration/roster-mismatch`: somebody is in the MLS group who is not in this one; nothing is said there, and a
         * new attempt is made. `migration/refused-without-notice`: the service refuses what is sent to the group, and the
         * group's record does not say why. `migration/state-mismatch`: the service says of a migration what the record does
         * not. `migration/switch-not-found`: the group is said to go on in MLS where this device does not find it; an owner or
         * admin whose other members do not find it either begins anew with `migrate("start")`. `migration/recovery-refused`: somebody
         * who is owner or admin in the record, and not over MLS, began the move anew there; this device stays in MLS, and whoever has
         * not gone over yet follows the record. `migration/too-many-role-holders`: a move was given up, because the group has
         * got more owners and admins than a group over MLS can; some have to give their roles back, or, where it recovers, be
         * removed. `group/rolled-back`: the service shows less of the group's record than it had
         * shown before. `certificate/refused`: the service's certificate for this
         * device is not valid by this device's clock, or not the service's; nothing is sent until it is.
         */
        readonly kind: "decision-needed";
        readonly code:
          | "pairwise/identity-changed"
          | "contact/fingerprint-mismatch"
          | "group/forked"
          | "group/disputed"
          | "group/other-identity"
          | "group/unusable"
          | "group/service-behind"
          | "migration/roster-mismatch"
          | "migration/refused-without-notice"
          | "migration/state-mismatch"
          | "migration/switch-not-found"
          | "migration/recovery-refused"
          | "migration/too-many-role-holders"
          | "group/rolled-back"
          | "certificate/refused";
        readonly accountId: AccountRef | undefined;
        readonly conversationId: ConversationRef | undefined;
        /** With `group/disputed`, and `group/forked` where another account said it: what contradicts what. */
        readonly evidence?: ForkEvidence;
        /** With `group/unusable`: the stable code of what broke. */
        readonly cause?: string;
      }
    | {
        readonly kind: "typing";
        readonly conversationId: ConversationRef;
        readonly accountId: AccountRef;
        readonly started: boolean;
      }
    | { readonly kind: "connection"; readonly state: Connection["state"] }
    | {
        /** From here on the conversation is carried by MLS. Nothing else of it changes. */
        readonly kind: "protocol-changed";
        readonly conversationId: ConversationRef;
      }
    | {
        /** A group is being moved to MLS: a step was done, or, before the switch, somebody became ready. Not stored. */
        readonly kind: "migration";
        readonly conversationId: ConversationRef;
        readonly state: Migration["state"];
        readonly readyAccounts: number;
        readonly accounts: number;
      }
    | {
        /** Members are being added to or removed from a community. */
        readonly kind: "progress";
        readonly conversationId: ConversationRef;
        readonly action: "add" | "remove";
        readonly done: number;
        readonly total: number;
      }
  );

export interface Events {
  /** Stored events after an id, oldest first, at most `limit` (default 100). */
  read(after?: number, limit?: number): readonly ClientEvent[];
  /** The id up to which the application has acknowledged. */
  readonly acknowledged: number;
  /**
   * The application has dealt with everything up to this id: it is not shown again, and deleted with what is stored next, a
   * second later at the latest. Where the process is killed before, it comes once more.
   */
  acknowledge(throughEventId: number): Promise<void>;
  /** Calls back for every event from now on, after it is persisted. Returns how to stop. */
  on(listener: (event: ClientEvent) => void): () => void;
  /** Every stored event after `after` (default: the acknowledged one), then new ones, until the signal aborts. */
  listen(options?: { readonly after?: number; readonly signal?: AbortSignal }): AsyncIterable<ClientEvent>;
}

export interface Outbox {
  /** Messages that wait for the service. */
  readonly waiting: number;
  /**
   * Resolves when every message of this call's moment (or this message) is accepted or failed.
   * UnavailableError `outbox/still-waiting` after the time; the messages stay in the outbox.
   */
  settled(options?: { readonly messageId?: MessageRef; readonly timeoutMs?: number }): Promise<void>;
}

// -------------------------------------------------------------------------------------------------- attachments

/** Names an encrypted blob at the service and how to open it. It is a secret: whoever has it can read the blob. */
export interface AttachmentPointer {
  readonly blobId: string;
  /** 64 bytes: 32 for AES-256-CTR, 32 for HMAC-SHA-256. */
  readonly key: Bytes;
  /** SHA-256 of the encrypted blob. */
  readonly digest: Bytes;
  /** Incremental MAC over the encrypted blob: one MAC for each chunk, so that a download is checked as it comes. */
  readonly incrementalMac: Bytes;
  readonly chunkBytes: number;
  /** Bytes of the plaintext. */
  readonly size: number;
  readonly contentType: string;
  readonly fileName: string;
}

export interface Attachments {
  /** Encrypts and uploads. The plaintext is read once. UsageError `attachment/too-large`. */
  upload(content: {
    readonly bytes: Uint8Array;
    readonly contentType?: string;
    readonly fileName?: string;
  }): Promise<AttachmentPointer>;
  /**
   * Downloads, checks and decrypts: yields a chunk only when its MAC was right, and throws RejectionError
   * `attachment/tampered` otherwise; the digest of the whole is checked before the last chunk is given out.
   */
  download(pointer: AttachmentPointer): AsyncIterable<Bytes>;
}

// ------------------------------------------------------------------------------------------------------ linking

/**
 * A second device of the account. Three texts travel over a channel that the user trusts (scanned codes):
 * the first device's offer, the new device's request, and the first device's answer, which is a secret.
 */
export interface Linking {
  /** On the first device. */
  offer(): string;
  /** On the new device, not registered yet. */
  request(offer: string): Promise<string>;
  /**
   * On the first device: publishes the device list with the new device, and sends it contacts and groups. UnavailableError: the
   * next connection publishes it, and the same call gives the answer then.
   */
  approve(request: string): Promise<string>;
  /** On the new device: from here on it is registered. */
  finish(answer: string): Promise<OwnAccount>;
  /** Ids of the account's devices. */
  devices(): readonly number[];
  /**
   * On the first device: deletes the device at the service; others stop sending to it. UnavailableError: it is removed here, and
   * the next connection removes it there.
   */
  remove(deviceId: number): Promise<void>;
}

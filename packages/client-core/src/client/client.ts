import { createHash } from "node:crypto";
import {
  type AccountId,
  accountId,
  type Bytes,
  formatId,
  parseMessageId,
  RejectionError,
  toBase64Url,
  UnavailableError,
  UsageError,
} from "@murmuration/base";
import { deriveRecipientAccessKey } from "@murmuration/pairwise";
import type { HelloReply } from "@murmuration/wire";
import { systemEnvironment } from "../adapters/system-environment.ts";
import type {
  Client,
  Connection as ConnectionApi,
  Conversation,
  ConversationRef,
  Conversations,
  OpenOptions,
  Outbox,
  OwnAccount,
} from "../api.ts";
import { decodeContent, MAX_NAME_BYTES, MAX_TITLE_BYTES, shorten } from "../core/content.ts";
import type { NewMember } from "../core/group-change.ts";
import { MAX_PAIRWISE_MEMBERS } from "../core/group-record.ts";
import { fingerprintOf, formatContactCard } from "../core/profile.ts";
import { isTemporary } from "../core/refusal.ts";
import { decideProtocol } from "../core/routing.ts";
import { Connection } from "../shell/connection.ts";
import { Context, defaultSettings } from "../shell/context.ts";
import { Directory, toWireUpload } from "../shell/directory.ts";
import { Groups } from "../shell/groups.ts";
import { Inbox } from "../shell/inbox.ts";
import { lanes } from "../shell/lanes.ts";
import { Maintenance } from "../shell/maintenance.ts";
import { OutboxWorker } from "../shell/outbox-worker.ts";
import { Passing } from "../shell/passing.ts";
import { Receipts } from "../shell/receipts.ts";
import { Receiver } from "../shell/receiver.ts";
import { Recovery } from "../shell/recovery.ts";
import { Sender } from "../shell/sender.ts";
import { prepareSchema } from "../store/schema.ts";
import { ClientAttachments } from "./attachments.ts";
import { ClientContacts } from "./contacts.ts";
import { ClientConversation } from "./conversation.ts";
import { ClientEvents } from "./events.ts";
import { ClientLinking } from "./linking.ts";
import type { ClientParts } from "./parts.ts";
import { callersAccount, callersId } from "./view.ts";

const TOKEN_BYTES = 32;
const PROFILE_KEY_BYTES = 32;
const SETTLE_TIMEOUT_MS = 30_000;

/** Opens a client on a database; see {@link Client}. RejectionError `storage/newer-version`. */
export async function openClient(options: OpenOptions): Promise<Client> {
  prepareSchema(options.storage);
  const environment = options.environment ?? systemEnvironment;
  const settings = { ...defaultSettings, ...options.settings };
  const context = new Context(options.storage, options.transport, environment, settings, options.onFailure);
  return new MurmurationClient(context, options);
}

/** Builds the parts and ties them together; what they do is theirs. */
class MurmurationClient implements Client {
  readonly conversations: Conversations;
  readonly contacts: ClientContacts;
  readonly events: ClientEvents;
  readonly attachments: ClientAttachments;
  readonly linking: ClientLinking;
  readonly outbox: Outbox;
  readonly connection: ConnectionApi;
  private readonly context: Context;
  private readonly options: OpenOptions;
  private readonly link: Connection;
  private readonly directory: Directory;
  private readonly worker: OutboxWorker;
  private readonly inbox: Inbox;
  private readonly groups: Groups;
  private readonly receiver: Receiver;
  private readonly receipts: Receipts;
  private readonly sender: Sender;
  private readonly recovery: Recovery;
  private readonly maintenance: Maintenance;
  private readonly parts: ClientParts;
  /** Work that goes on behind: awaited by close. */
  private readonly background = new Set<Promise<void>>();
  private wanted = false;
  private closed = false;

  constructor(context: Context, options: OpenOptions) {
    this.context = context;
    this.options = options;
    const wake = (lane: string) => this.worker.wake(lane);
    this.link = new Connection(context, options.transport, {
      connecting: () => this.inbox.reset(),
      connected: (reply) => this.connected(reply),
      delivered: (deliver) => this.inbox.deliver(deliver),
      queueEmpty: () => this.inbox.queueEmpty(),
      preKeysLow: () => this.behind(() => this.directory.replenish()),
    });
    this.directory = new Directory(context);
    this.groups = new Groups(context, {
      wakeAll: () => this.worker.wakeAll(),
      whenSettled: (row) => this.whenSettled(row),
    });
    this.worker = new OutboxWorker(context, this.link, this.directory, this.groups);
    this.receipts = new Receipts(context, wake);
    this.receiver = new Receiver(context, this.groups, this.receipts);
    this.sender = new Sender(context, this.receiver, wake);
    this.inbox = new Inbox(context, this.directory, this.receiver, {
      acknowledge: (through) => this.link.acknowledge(through),
      received: () => this.received(),
    });
    this.recovery = new Recovery(context, this.directory, wake);
    this.maintenance = new Maintenance(context);
    this.contacts = new ClientContacts(context, this.directory, this.groups, this.sender, {
      wake,
      decided: (account) => this.decided(account),
      identityChanged: (account) => this.receiver.noteIdentityChanged(account),
    });
    this.events = new ClientEvents(context);
    this.attachments = new ClientAttachments(context);
    this.linking = new ClientLinking(context, this.directory, this.groups, this.sender, {
      registered: () => this.afterRegistration(),
      wakeOwn: () => this.worker.wake(lanes.own),
    });
    this.parts = this.createParts();
    this.conversations = this.createConversations();
    this.outbox = this.createOutbox();
    this.connection = this.createConnection();
  }

  private createParts(): ClientParts {
    return {
      context: this.context,
      contacts: this.contacts,
      groups: this.groups,
      maintenance: this.maintenance,
      passing: new Passing(this.context, this.link),
      receipts: this.receipts,
      sender: this.sender,
      wakeAll: () => this.worker.wakeAll(),
      wakeOwn: () => this.worker.wake(lanes.own),
      newMembers: (accounts) => this.newMembers(accounts),
    };
  }

  // ------------------------------------------------------------------------------------------- account

  get account(): OwnAccount | undefined {
    const { context } = this;
    if (!context.registered) return undefined;
    const local = context.engine.local()!;
    const name = context.meta.text("name");
    return {
      accountId: formatId(local.address.accountId),
      deviceId: local.address.deviceId,
      name,
      contactCard: formatContactCard({
        accountId: local.address.accountId,
        profileKey: context.meta.require("profile-key"),
        fingerprint: fingerprintOf(local.accountIdentityKey),
        name,
      }),
    };
  }

  async register(options: { readonly name?: string; readonly inviteCode?: Bytes } = {}): Promise<OwnAccount> {
    const { context } = this;
    if (context.registered) throw new UsageError("client/already-registered");
    const info = await context.api.call("info");
    context.trust(info.certificateTrustRoot);
    if (context.engine.local() === undefined)
      await this.generateAccount(info.certificateTrustRoot, options.name ?? "");
    const local = context.engine.local()!;
    const upload = await context.engine.preparePreKeys(
      { preKeys: 0, kyberPreKeys: 0 },
      ({ writeSet, output }) =>
        context.transaction(() => {
          context.pairwiseRows.applyWriteSet(writeSet);
          return output;
        }),
    );
    if (upload === undefined) throw new UnavailableError("client/no-prekeys");
    const token = context.meta.require("token");
    const reply = await context.api.call("register", undefined, {
      accountId: local.address.accountId,
      accountIdentityKey: local.accountIdentityKey,
      deviceList: local.deviceList,
      device: {
        deviceId: local.address.deviceId,
        registrationId: local.registrationId,
        identityKey: local.identityKey,
        tokenHash: new Uint8Array(createHash("sha256").update(token).digest()),
      },
      accessKey: deriveRecipientAccessKey(context.meta.require("profile-key")),
      preKeys: toWireUpload(upload),
      ...(options.inviteCode === undefined ? {} : { inviteCode: options.inviteCode }),
    });
    await this.directory.confirmUpload(upload.uploadId);
    context.transaction(() => {
      context.meta.setBytes("store-id", reply.storeId);
      context.meta.setNumber("access-published", 1);
      context.meta.setNumber("registered", 1);
    });
    return this.afterRegistration();
  }

  private async generateAccount(trustRoot: Bytes, name: string): Promise<void> {
    const { context } = this;
    const { environment, meta } = context;
    await context.engine.generateAccount(accountId(environment.random(16)), ({ writeSet }) =>
      context.transaction(() => {
        context.pairwiseRows.applyWriteSet(writeSet);
        meta.setBytes("trust-root", trustRoot);
        meta.setBytes("token", environment.random(TOKEN_BYTES));
        meta.setBytes("profile-key", environment.random(PROFILE_KEY_BYTES));
        meta.setText("name", shorten(name, MAX_NAME_BYTES));
      }),
    );
  }

  private afterRegistration(): OwnAccount {
    this.context.readOwn();
    if (this.wanted) this.link.start();
    return this.account!;
  }

  async setName(name: string): Promise<void> {
    const { context } = this;
    const woken = context.transaction(() => {
      context.meta.setText("name", shorten(name, MAX_NAME_BYTES));
      context.contacts.unshareAll();
      return context.contacts.sharedWith().map((contact) => this.sender.shareProfile(contact.account));
    });
    for (const lane of woken) this.worker.wake(lane);
  }

  async deleteAccount(): Promise<void> {
    const { context } = this;
    await context.api.call("deleteAccount", context.deviceAuthorisation);
    await this.link.stop();
    const tables = context.storage
      .all("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
      .map((row) => row["name"] as string);
    context.transaction(() => {
      context.eraseAfterwards();
      // The names are those of our own schema.
      for (const table of tables) context.storage.run(`DELETE FROM ${table}`);
    });
    await this.close();
  }

  async close(): Promise<void> {
    const { closing, queue, storage } = this.context;
    if (this.closed) return;
    this.closed = true;
    closing.abort();
    await this.link.stop();
    await this.worker.stop();
    await this.inbox.idle();
    await Promise.allSettled([...this.background]);
    await queue.idle();
    await this.maintenance.stop();
    this.options.transport.close();
    storage.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // ---------------------------------------------------------------------------------------- connection

  private createConnection(): ConnectionApi {
    const { context, inbox, link } = this;
    const client = this;
    return {
      get state() {
        return link.state;
      },
      start() {
        client.wanted = true;
        if (context.registered) link.start();
      },
      async stop() {
        client.wanted = false;
        await link.stop();
      },
      async caughtUp(timeoutMs = SETTLE_TIMEOUT_MS) {
        const done = new AbortController();
        const abort = AbortSignal.any([done.signal, context.closing.signal]);
        const timeout = context.environment.sleep(timeoutMs, abort).then(() => "timeout" as const);
        try {
          while (!(link.state === "connected" && inbox.caughtUp)) {
            const change = Promise.race([link.wait(abort), inbox.changed.wait(abort)]);
            if ((await Promise.race([change, timeout])) === "timeout") {
              throw new UnavailableError("connection/not-caught-up");
            }
          }
        } finally {
          done.abort();
        }
      },
    };
  }

  /** The connection is greeted: nothing is sent before it is clear that both sides have the newest state. */
  private async connected(reply: HelloReply): Promise<void> {
    await this.recovery.atHello(reply, this.inbox);
    this.behind(async () => {
      await this.directory.replenish();
      await this.directory.refreshDeviceList(this.context.own.accountId);
      await this.contacts.publishProfile();
      await this.inbox.openHeld();
      await this.received();
      await this.groups.resume();
    });
    this.receipts.gather();
    this.worker.wakeAll();
  }

  /** Runs work that nobody waits for; what is temporary is tried again with the next connection. */
  private behind(work: () => Promise<void>): void {
    const running = work()
      .catch((error: unknown) => {
        if (!isTemporary(error) && !(error instanceof RejectionError)) this.context.failed(error);
      })
      .then(() => void this.background.delete(running));
    this.background.add(running);
  }

  /** After a batch was persisted: receipts, invites, groups to read, retries to send. */
  private async received(): Promise<void> {
    for (const lane of this.inbox.takeWoken()) this.worker.wake(lane);
    this.receipts.gather();
    this.maintenance.reschedule();
    await this.openInvites();
    await this.readGroups();
  }

  private async openInvites(): Promise<void> {
    const { held } = this.context;
    for (const row of held.of("invite")) {
      const { group, groupInvite } = decodeContent(row.bytes);
      if (group === undefined || groupInvite === undefined || row.sender === undefined) continue;
      try {
        await this.groups.acceptInvite(group.groupId, row.sender.accountId, groupInvite);
      } catch (error) {
        if (isTemporary(error)) return;
        if (!(error instanceof RejectionError)) throw error;
        // An invite that does not fit its record is worth nothing.
      }
      this.context.transaction(() => held.remove(row.id));
      this.receiver.retryHeld(group.groupId);
      this.context.notifier.flush();
    }
  }

  /** Contents that wait for a group's record. */
  private async readGroups(): Promise<void> {
    const { conversations, held } = this.context;
    const groups = new Map(held.of("group").map((row) => [toBase64Url(row.subject!), row.subject!]));
    for (const group of groups.values()) {
      if (conversations.group(group) === undefined) continue;
      try {
        if (!(await this.groups.refresh(group))) continue;
      } catch (error) {
        if (isTemporary(error)) return;
        throw error;
      }
      this.receiver.retryHeld(group);
      this.context.notifier.flush();
    }
    for (const group of conversations.groups()) {
      const row = conversations.group(group);
      if (row !== undefined && row.rotateAfter > 0) this.behind(() => this.rotate(group));
    }
  }

  private async rotate(group: Bytes): Promise<void> {
    await this.groups.rotateIfDue(group as Parameters<Groups["rotateIfDue"]>[0]);
  }

  private async decided(account: AccountId): Promise<void> {
    await this.inbox.openDecided(account);
    this.worker.wakeAll();
  }

  // ------------------------------------------------------------------------------------- conversations

  private createConversations(): Conversations {
    const { context, receiver } = this;
    const client = this;
    const handle = (id: Bytes): Conversation | undefined => {
      const row = context.conversations.get(id);
      return row === undefined ? undefined : new ClientConversation(client.parts, row);
    };
    return {
      direct(account) {
        const id = callersAccount(account);
        if (context.isOwn(id)) throw new UsageError("conversation/own-account");
        if (context.conversations.get(id) === undefined) {
          context.transaction(() => {
            context.contacts.setFlags(id, { known: true, accepted: true });
            receiver.openDirect(id);
          });
          context.notifier.flush();
        }
        return handle(id)!;
      },
      createGroup: (options) => client.createGroup(options),
      get(id: ConversationRef) {
        return handle(callersAccount(id));
      },
      list() {
        return context.conversations.list().map((row) => new ClientConversation(client.parts, row));
      },
    };
  }

  private async newMembers(accounts: readonly AccountId[]): Promise<readonly NewMember[]> {
    const { contacts, engine } = this.context;
    const failed = await this.directory.ensureAccounts(accounts);
    for (const why of failed.values()) {
      if (why.kind === "later") throw new UnavailableError("group/member-not-reachable");
      throw new RejectionError(why.kind === "refused" ? why.code : "accounts/unknown");
    }
    return accounts.map((account) => {
      const contact = contacts.get(account);
      return {
        account,
        identityKey: engine.identityOf(account)!.accountIdentityKey,
        profileKey: contact?.profileKey,
        name: contact?.name ?? "",
      };
    });
  }

  private async createGroup(options: {
    readonly title: string;
    readonly members: readonly string[];
    readonly expireAfterSeconds?: number;
  }): Promise<Conversation> {
    const { context } = this;
    const accounts = options.members.map(callersAccount);
    const projectedMembers = accounts.length + 1;
    const { mlsThreshold } = context.settings;
    const protocol = decideProtocol({ protocol: "pairwise", projectedMembers, mlsThreshold });
    if (protocol === "mls" || projectedMembers > MAX_PAIRWISE_MEMBERS)
      throw new UsageError("group/too-many-members");
    const others = await this.newMembers(accounts);
    const local = context.engine.local()!;
    const self: NewMember = {
      account: context.own.accountId,
      identityKey: local.accountIdentityKey,
      profileKey: context.meta.require("profile-key"),
      name: context.meta.text("name"),
    };
    const id = context.environment.random(16) as Parameters<Groups["change"]>[0];
    const title = shorten(options.title, MAX_TITLE_BYTES);
    const expireAfterSeconds = options.expireAfterSeconds ?? 0;
    context.transaction(() => {
      const row = {
        id,
        kind: "group" as const,
        state: "active" as const,
        protocol,
        title,
        expireAfterSeconds,
      };
      context.conversations.insert(row, context.now());
    });
    await this.groups.change(id, (state) =>
      state.revision > 0
        ? undefined
        : { kind: "create", title, expireAfterSeconds, members: [self, ...others] },
    );
    return new ClientConversation(this.parts, context.conversations.get(id)!);
  }

  // -------------------------------------------------------------------------------------------- outbox

  private createOutbox(): Outbox {
    const { context, worker } = this;
    return {
      get waiting() {
        return context.outbox.waiting();
      },
      async settled(options = {}) {
        const message =
          options.messageId === undefined ? undefined : callersId(parseMessageId, options.messageId);
        const ids = context.outbox.waitingIds(message);
        const done = new AbortController();
        const abort = AbortSignal.any([done.signal, context.closing.signal]);
        const sleep = context.environment.sleep(options.timeoutMs ?? SETTLE_TIMEOUT_MS, abort);
        const timeout = sleep.then(() => "timeout" as const);
        try {
          while (ids.some((id) => isWaiting(context, id))) {
            if ((await Promise.race([worker.settled.wait(abort), timeout])) === "timeout") {
              throw new UnavailableError("outbox/still-waiting");
            }
          }
        } finally {
          done.abort();
        }
      },
    };
  }

  private async whenSettled(rowId: number): Promise<void> {
    const { signal } = this.context.closing;
    while (isWaiting(this.context, rowId)) {
      if (signal.aborted) throw new UnavailableError("client/closing");
      await this.worker.settled.wait(signal);
    }
  }
}

function isWaiting(context: Context, rowId: number): boolean {
  if (context.closing.signal.aborted) return false;
  const state = context.outbox.get(rowId)?.state;
  return state === "new" || state === "ready";
}

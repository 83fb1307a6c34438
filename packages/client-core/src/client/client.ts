import { type AccountId, type Bytes, RejectionError, UnavailableError } from "@murmuration/base";
import type { HelloReply } from "@murmuration/wire";
import { httpPushGateways } from "../adapters/push-gateway.ts";
import { systemEnvironment } from "../adapters/system-environment.ts";
import type { Client, CommunityCosts, OpenOptions, OwnAccount } from "../api.ts";
import { MAX_NAME_BYTES, shorten } from "../core/content.ts";
import { isTemporary } from "../core/refusal.ts";
import { Communities } from "../shell/communities/communities.ts";
import { EpochReports } from "../shell/communities/epoch-reports.ts";
import { Connection } from "../shell/connection.ts";
import { Context, defaultSettings } from "../shell/context.ts";
import { Directory } from "../shell/directory.ts";
import { FollowUp } from "../shell/follow-up.ts";
import { GroupLedger } from "../shell/group-ledger.ts";
import { GroupMessages } from "../shell/group-messages.ts";
import { Groups } from "../shell/groups.ts";
import { Inbox } from "../shell/inbox.ts";
import { KeptMark } from "../shell/kept-mark.ts";
import { lanes } from "../shell/lanes.ts";
import { Lines } from "../shell/lines.ts";
import { Maintenance } from "../shell/maintenance.ts";
import { Migrations } from "../shell/migration/migrations.ts";
import { OutboxWorker } from "../shell/outbox-worker.ts";
import { Passing } from "../shell/passing.ts";
import { Push } from "../shell/push/push.ts";
import { Receipts } from "../shell/receipts.ts";
import { Receiver } from "../shell/receiver.ts";
import { Recovery } from "../shell/recovery.ts";
import { Sender } from "../shell/sender.ts";
import { prepareSchema } from "../store/schema.ts";
import { ClientAttachments } from "./attachments.ts";
import { ClientConnection } from "./connection.ts";
import { ClientContacts } from "./contacts.ts";
import { ClientConversations, describeMembers } from "./conversations.ts";
import { ClientEvents } from "./events.ts";
import { ClientLinking } from "./linking.ts";
import { ClientOutbox } from "./outbox.ts";
import { ClientPush } from "./push.ts";
import { ownAccount, register } from "./registration.ts";

/** Opens a client on a database; see {@link Client}. RejectionError `storage/newer-version`. */
export async function openClient(options: OpenOptions): Promise<Client> {
  prepareSchema(options.storage);
  const environment = options.environment ?? systemEnvironment;
  const settings = { ...defaultSettings, ...options.settings };
  const context = new Context(options.storage, options.transport, environment, settings, options.onFailure);
  context.erasure.takeUp();
  return new MurmurationClient(context, options);
}

/** Builds the parts and ties them together; what they do is theirs. */
class MurmurationClient implements Client {
  readonly conversations: ClientConversations;
  readonly contacts: ClientContacts;
  readonly events: ClientEvents;
  readonly attachments: ClientAttachments;
  readonly linking: ClientLinking;
  readonly outbox: ClientOutbox;
  readonly connection: ClientConnection;
  readonly push: ClientPush;
  private readonly context: Context;
  private readonly options: OpenOptions;
  private readonly link: Connection;
  private readonly directory: Directory;
  private readonly worker: OutboxWorker;
  private readonly inbox: Inbox;
  private readonly groups: Groups;
  private readonly communities: Communities;
  private readonly migrations: Migrations;
  private readonly receipts: Receipts;
  private readonly sender: Sender;
  private readonly followUp: FollowUp;
  private readonly recovery: Recovery;
  private readonly mark: KeptMark;
  private readonly maintenance: Maintenance;
  private readonly pushing: Push;
  /** Work that goes on behind: awaited by close. */
  private readonly background = new Set<Promise<void>>();
  private closed = false;

  constructor(context: Context, options: OpenOptions) {
    this.context = context;
    this.options = options;
    const wake = (lane: string) => this.worker.wake(lane);
    this.link = this.createLink();
    this.directory = new Directory(context);
    const groupMessages = new GroupMessages(context);
    const ledger = new GroupLedger(context, groupMessages, {
      adopted: (...change) => this.migrations.adopted(...change),
      expected: (id) => this.communities.expected(id),
    });
    this.groups = new Groups(context, ledger, groupMessages, {
      wakeAll: () => this.worker.wakeAll(),
      whenSettled: (...given) => this.outbox.whenSettled(...given),
      behind: (work) => this.behind(work),
    });
    const lines = new Lines(context);
    const reports = new EpochReports(context);
    this.communities = new Communities(context, this.link, lines, reports, {
      wake,
      isConnected: () => this.link.state === "connected",
      shown: (id) => this.worker.settleShown(id),
      settled: (ids) => this.worker.shown(ids),
      committed: () => this.maintenance.reschedule(),
      patienceMs: (id) => this.migrations.patienceMs(id),
      opened: () => this.pushing.wake(),
      restored: () => {
        this.recovery.noteRestored();
        this.link.interrupt();
      },
      serviceSetBack: () => {
        context.transaction(() => this.groups.noteServiceLost());
        this.behind(() => this.checkRecords());
      },
      behind: (work) => this.behind(work),
      mayTakeMore: (id) => this.migrations.mayTakeMore(id),
      merged: (...commit) => this.migrations.committed(...commit),
      takenBack: (...epoch) => this.migrations.takenBack(...epoch),
      entered: (id, group) => this.migrations.entered(id, group),
      admits: (id, group) => this.migrations.admits(id, group),
      spoken: (...said) => this.migrations.spoken(...said),
      expects: (wireId) => this.migrations.expects(wireId),
      awaited: (id) => this.migrations.readRecord(id),
      pskMissing: (id, at) => this.migrations.lacksKey(id, at),
      refreshDeviceList: async (account) => {
        const why = await this.directory.refreshDeviceList(account);
        if (why?.kind === "later") throw new UnavailableError("service/busy");
      },
    });
    this.worker = new OutboxWorker(
      context,
      this.link,
      this.directory,
      this.groups,
      this.communities.outgoing,
      reports,
    );
    this.outbox = new ClientOutbox(context, this.worker);
    this.receipts = new Receipts(context, wake);
    this.migrations = new Migrations(context, this.groups, ledger, this.communities, {
      wake,
      behind: (work) => this.behind(work),
      isCaughtUp: () => this.inbox.caughtUp,
      caughtUp: () => this.inbox.untilCaughtUp(),
    });
    const receiver = new Receiver(
      context,
      ledger,
      this.receipts,
      lines,
      reports,
      this.communities.approvals,
      this.migrations,
    );
    this.sender = new Sender(context, lines, wake, this.communities.outgoing);
    this.followUp = new FollowUp(context, this.groups, receiver);
    this.mark = new KeptMark(context);
    this.inbox = new Inbox(context, this.mark, this.directory, receiver, {
      acknowledge: (through) => this.link.acknowledge(through),
      overflow: () => this.link.interrupt(),
      received: () => this.received(),
    });
    this.recovery = new Recovery(context, this.mark, this.directory, this.communities, this.groups, wake);
    this.maintenance = new Maintenance(context, this.communities);
    const gateways = options.pushGateways ?? httpPushGateways;
    this.pushing = new Push(context, gateways, () => this.link.state === "connected", this.communities);
    this.push = new ClientPush(context, this.pushing, gateways);
    context.notifier.on(
      (event) => event,
      (event) => {
        if (event.kind === "connection" && event.state === "connected") this.pushing.connected();
        if (event.kind === "conversation-changed" || event.kind === "protocol-changed") this.pushing.wake();
      },
    );
    this.connection = new ClientConnection(context, this.link, this.inbox, this.communities);
    this.contacts = new ClientContacts(context, this.directory, this.groups, this.sender, {
      wake,
      decided: (account, accepted) => this.decided(account, accepted),
      identityChanged: (account) => receiver.noteIdentityChanged(account),
    });
    this.events = new ClientEvents(context);
    this.attachments = new ClientAttachments(context);
    this.linking = new ClientLinking(context, this.directory, ledger, this.sender, {
      registered: () => this.afterRegistration(),
      wakeOwn: () => this.worker.wake(lanes.own),
      devicesChanged: () => {
        this.behind(() => this.communities.devicesChanged());
        this.behind(() => this.contacts.publishProfile());
        this.behind(() => this.followUp.rotate());
      },
      deviceGone: () => {
        this.contacts.renewProfileKey();
        context.conversations.rotateAll(context.own.accountId);
      },
    });
    this.conversations = this.createConversations(receiver);
  }

  private createLink(): Connection {
    return new Connection(this.context, this.options.transport, {
      connecting: () => {
        this.inbox.reset();
        this.communities.disconnected();
      },
      connected: (reply) => this.connected(reply),
      delivered: (deliver) => this.inbox.deliver(deliver),
      queueEmpty: () => this.inbox.queueEmpty(),
      storeMark: () => this.mark.newest(),
      marked: (storeMark) => {
        this.noteHere();
        this.mark.hearAlone(storeMark);
      },
      preKeysLow: () => this.behind(() => this.directory.replenish()),
      keyPackagesLow: () => this.behind(() => this.communities.keyPackages.replenish()),
      group: (body) => this.communities.frame(body),
    });
  }

  private createConversations(receiver: Receiver): ClientConversations {
    return new ClientConversations({
      context: this.context,
      contacts: this.contacts,
      groups: this.groups,
      communities: this.communities,
      maintenance: this.maintenance,
      migrations: this.migrations,
      passing: new Passing(this.context, this.link),
      receipts: this.receipts,
      receiver,
      sender: this.sender,
      wakeAll: () => this.worker.wakeAll(),
      wakeOwn: () => this.worker.wake(lanes.own),
      newMembers: (accounts) => describeMembers(this.context, this.directory, accounts),
    });
  }

  // ------------------------------------------------------------------------------------------- account

  get account(): OwnAccount | undefined {
    return ownAccount(this.context);
  }

  get communityCosts(): CommunityCosts {
    return this.context.meter;
  }

  async register(options: { readonly name?: string; readonly inviteCode?: Bytes } = {}): Promise<OwnAccount> {
    await register(this.context, this.directory, options);
    return this.afterRegistration();
  }

  private afterRegistration(): OwnAccount {
    this.context.readOwn();
    this.connection.startIfRegistered();
    return this.account!;
  }

  async setName(name: string): Promise<void> {
    const { context } = this;
    const woken = context.transaction(() => {
      context.meta.setText("name", shorten(name, MAX_NAME_BYTES));
      context.contacts.unshareAll();
      if (context.registered) {
        const own = { accountId: context.own.accountId, name: context.meta.text("name") };
        this.sender.sync({ contacts: { contacts: [{ ...own, accepted: true, blocked: false }] } });
      }
      return context.contacts.sharedWith().map((contact) => this.sender.shareProfile(contact.account));
    });
    for (const lane of [lanes.own, ...woken]) this.worker.wake(lane);
  }

  async deleteAccount(): Promise<void> {
    const { context } = this;
    await context.api.call("deleteAccount", context.deviceAuthorisation);
    await this.pushing.end();
    await this.shutDown();
    const tables = context.storage
      .all("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
      .map((row) => row["name"] as string);
    context.transaction(() => {
      // The names are those of our own schema.
      for (const table of tables) context.storage.run(`DELETE FROM ${table}`);
      context.eraseAfterwards();
    });
    context.storage.close();
  }

  async close(): Promise<void> {
    await this.shutDown();
    this.context.storage.close();
  }

  /** Everything but the storage. What is being written is finished first. */
  private async shutDown(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    this.context.closing.abort();
    await this.link.stop();
    await this.worker.stop();
    await this.inbox.idle();
    while (this.background.size > 0) await Promise.allSettled(this.background);
    await this.context.queue.idle();
    await this.maintenance.stop();
    await this.pushing.stop();
    this.mark.keep();
    this.context.eventCursor.keep();
    this.options.transport.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // ---------------------------------------------------------------------------------------- connection

  /** The connection is greeted: nothing is sent before it is clear that both sides have the newest state. */
  private async connected(reply: HelloReply): Promise<void> {
    await this.recovery.atHello(reply, this.inbox);
    this.noteHere();
    this.communities.connected();
    this.groups.connected();
    this.followUp.connected();
    this.behind(() => this.checkRecords());
    this.behind(async () => {
      await this.directory.replenish();
      await this.directory.refreshDeviceList(this.context.own.accountId);
      this.behind(async () => void (await this.linking.publish()));
      await this.contacts.publishToContacts();
      this.behind(() => this.contacts.publishToGroups());
      await this.inbox.openHeld();
      await this.received();
      // A group whose key cannot be announced keeps no other from moving.
      this.behind(() => this.groups.resume());
      this.migrations.connected();
    });
    this.worker.wakeAll();
  }

  /** Once a day, while the service is heard. */
  private noteHere(): void {
    const { heard } = this.context;
    const nowMs = this.context.now();
    if (heard.isNewDay(nowMs)) this.context.transaction(() => heard.here(nowMs), "with-the-next");
  }

  private checkRecords(): Promise<void> {
    return this.groups.checkRecords((id) => this.migrations.serviceWasSetBack(id));
  }

  /** Runs work that nobody waits for; what is temporary is tried again with the next connection. */
  private behind(work: () => Promise<void>): void {
    const running = work()
      .catch((error: unknown) => {
        if (!isTemporary(error) && !(error instanceof RejectionError)) this.context.failed(error);
      })
      .finally(() => void this.background.delete(running));
    this.background.add(running);
  }

  /** After a batch was persisted. */
  private async received(): Promise<void> {
    for (const lane of this.inbox.takeWoken()) this.worker.wake(lane);
    this.receipts.gather();
    this.maintenance.reschedule();
    this.behind(() => this.communities.welcomesCame());
    this.communities.joinsAnswered();
    await this.followUp.run();
    this.behind(() => this.followUp.rotate());
  }

  private async decided(account: AccountId, accepted: boolean): Promise<void> {
    if (accepted) await this.inbox.openDecided(account);
    this.worker.wakeAll();
  }
}

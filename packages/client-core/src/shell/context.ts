import { setMaxListeners } from "node:events";
import {
  type AccountId,
  type Bytes,
  type DeviceAddress,
  equalBytes,
  type MessageId,
  messageId,
  UsageError,
} from "@murmuration/base";
import { openPairwiseEngine, type PairwiseEngine } from "@murmuration/pairwise";
import { type DeviceAuth, limits } from "@murmuration/wire";
import type { ClientSettings, Environment } from "../api.ts";
import type { Durability, Storage } from "../ports/storage.ts";
import type { Transport } from "../ports/transport.ts";
import { ContactStore } from "../store/contacts.ts";
import { ConversationStore } from "../store/conversations.ts";
import { EventStore } from "../store/events.ts";
import { HeardStore } from "../store/heard.ts";
import { HeldStore } from "../store/held.ts";
import { HistoryStore } from "../store/history.ts";
import { KeptStorage } from "../store/kept-storage.ts";
import { MetaStore } from "../store/meta.ts";
import { MigrationStore } from "../store/migration.ts";
import { MlsStore } from "../store/mls.ts";
import { OutboxStore } from "../store/outbox.ts";
import { PairwiseRows } from "../store/pairwise-rows.ts";
import { PushStore } from "../store/push.ts";
import { Meter } from "./communities/meter.ts";
import { Erasure } from "./erasure.ts";
import { EventCursor } from "./event-cursor.ts";
import { KnownIdentities } from "./known-identities.ts";
import { Notifier } from "./notifier.ts";
import { SerialQueue } from "./serial-queue.ts";
import { ServiceApi } from "./service-api.ts";

const LONGEST_QUIET_MS = 15_000;

export const defaultSettings: ClientSettings = {
  mlsThreshold: 256,
  migrationMargin: 0,
  migrationDeadlineMs: 86_400_000,
  migrationUrgentDeadlineMs: 60_000,
  migrationPatienceMs: 90_000,
  keyPatienceMs: 60_000,
  fullMailboxRetryMs: 60_000,
  acceptUnknown: false,
  readReceipts: true,
  typingNotices: true,
  resendMemoryMs: 30 * 86_400_000,
  receiptDelayMs: 250,
  reconnectMinMs: 250,
  reconnectMaxMs: 30_000,
  requestTimeoutMs: 15_000,
  inboxLimit: limits.unacknowledgedEnvelopes,
  outboxLimit: 10_000,
  preKeyStock: 100,
  keyPackageStock: 50,
  selfUpdateMs: 7 * 86_400_000,
  pushSpreadMs: 20_000,
};

/** What every part of the shell works with. Only this file builds stores and the engine. */
export class Context {
  readonly storage: Storage;
  readonly environment: Environment;
  readonly settings: ClientSettings;
  readonly api: ServiceApi;
  readonly meta: MetaStore;
  readonly contacts: ContactStore;
  readonly conversations: ConversationStore;
  readonly history: HistoryStore;
  readonly events: EventStore;
  readonly outbox: OutboxStore;
  readonly held: HeldStore;
  readonly heard: HeardStore;
  readonly mls: MlsStore;
  readonly migration: MigrationStore;
  readonly push: PushStore;
  readonly meter: Meter;
  readonly pairwiseRows: PairwiseRows;
  readonly notifier: Notifier;
  readonly queue: SerialQueue;
  /** Aborted when the client closes: ends every pause. */
  readonly closing = new AbortController();
  private quietUntilMs = 0;
  readonly erasure = new Erasure(this);
  readonly eventCursor = new EventCursor(this);
  readonly identities = new KnownIdentities(this);
  private pairwise: PairwiseEngine | undefined;
  private address: DeviceAddress | undefined;

  private readonly onFailure: ((error: unknown) => void) | undefined;

  constructor(
    database: Storage,
    transport: Transport,
    environment: Environment,
    settings: ClientSettings,
    onFailure?: (error: unknown) => void,
  ) {
    this.onFailure = onFailure;
    const storage = new KeptStorage(database);
    this.storage = storage;
    this.environment = environment;
    this.settings = settings;
    this.api = new ServiceApi(transport, settings.requestTimeoutMs);
    this.meta = new MetaStore(storage);
    this.contacts = new ContactStore(storage);
    this.conversations = new ConversationStore(storage);
    this.history = new HistoryStore(storage);
    this.events = new EventStore(storage);
    this.outbox = new OutboxStore(storage);
    this.held = new HeldStore(storage);
    this.heard = new HeardStore(storage, this.meta);
    this.mls = new MlsStore(storage);
    this.migration = new MigrationStore(storage);
    this.push = new PushStore(storage);
    this.meter = new Meter(environment);
    this.pairwiseRows = new PairwiseRows(storage);
    this.notifier = new Notifier((id, limit) => this.events.after(id, limit), this.events.lastId());
    this.queue = new SerialQueue(settings.outboxLimit);
    // Each lane and each waiting caller listens for the end.
    setMaxListeners(0, this.closing.signal);
    const root = this.meta.bytes("trust-root");
    if (root !== undefined) this.trust(root);
    if (this.registered) this.readOwn();
  }

  /**
   * What can wait does so for some time: something is under way that takes all that this device, or the service, can do. In
   * memory, since nothing depends on it.
   */
  quieten(ms: number): void {
    this.quietUntilMs = Math.max(this.quietUntilMs, this.now() + Math.min(ms, LONGEST_QUIET_MS));
  }

  /** For how long what can wait does, ms; 0 for not at all, also once the clock was set back. */
  get quietMs(): number {
    const leftMs = this.quietUntilMs - this.now();
    if (leftMs > LONGEST_QUIET_MS) this.quietUntilMs = 0;
    return leftMs > LONGEST_QUIET_MS ? 0 : Math.max(0, leftMs);
  }

  get registered(): boolean {
    return this.meta.number("registered") === 1;
  }

  /** Opens the engine on the trust root of the service that this account is registered with. */
  trust(root: Bytes): void {
    this.pairwise = openPairwiseEngine({
      store: this.pairwiseRows,
      trustRoots: [root],
      now: () => this.environment.now(),
      random: (length) => this.environment.random(length),
      preKeyStock: this.settings.preKeyStock,
    });
  }

  get engine(): PairwiseEngine {
    if (this.pairwise === undefined) throw new UsageError("client/not-registered");
    return this.pairwise;
  }

  /** To be called when registration or linking is complete. */
  readOwn(): void {
    this.address = this.engine.local()?.address;
  }

  /** This device. UsageError `client/not-registered`. */
  get own(): DeviceAddress {
    if (this.address === undefined) throw new UsageError("client/not-registered");
    return this.address;
  }

  isOwn(account: AccountId): boolean {
    return this.address !== undefined && equalBytes(this.address.accountId, account);
  }

  get auth(): DeviceAuth {
    return { ...this.own, token: this.meta.require("token") };
  }

  get deviceAuthorisation(): { readonly kind: "device"; readonly auth: DeviceAuth } {
    return { kind: "device", auth: this.auth };
  }

  now(): number {
    return this.environment.now();
  }

  newMessageId(): MessageId {
    return messageId(this.environment.random(16));
  }

  /**
   * For work that nobody awaits: an error there means that the storage failed or that there is a bug. The client
   * stops where it is; what was persisted is taken up by the next one.
   */
  readonly failed = (error: unknown): void => {
    if (this.closing.signal.aborted) return;
    this.closing.abort();
    if (this.onFailure !== undefined) {
      this.onFailure(error);
      return;
    }
    queueMicrotask(() => {
      throw error;
    });
  };

  /** One transaction, durable at once if not said otherwise; whoever calls it tells the listeners afterwards. */
  transaction<T>(body: () => T, durability?: Durability): T {
    const whole = (): T => {
      const result = body();
      this.eventCursor.write();
      return result;
    };
    const result = this.orUndone(() => this.storage.transaction(whole, durability));
    this.eventCursor.written();
    this.erasure.transactionEnded();
    return result;
  }

  private orUndone<T>(transaction: () => T): T {
    try {
      return transaction();
    } catch (error) {
      this.mls.undone();
      throw error;
    }
  }

  /** Inside a transaction: content was deleted that must not lie in the write-ahead log either. */
  eraseAfterwards(): void {
    this.erasure.want("at-once");
  }

  /** The same, soon: all members of a group have just deleted theirs. */
  eraseWhenQuiet(): void {
    this.erasure.want("when-quiet");
  }
}

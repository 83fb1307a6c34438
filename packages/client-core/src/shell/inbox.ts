/**
 * From the socket to the history, in mailbox order:
 *
 *   decrypt a page of envelopes
 *   PERSIST ratchet state, content, receipts that are due, and the cursor, in one transaction
 *   acknowledge
 *   tell the listeners
 *
 * An envelope that cannot be opened yet is put down as held in the same transaction, so that it neither blocks
 * the ones behind it nor gets lost.
 */
import {
  type AccountId,
  accountId,
  type DeviceAddress,
  type EnvelopeId,
  submitId,
  UnavailableError,
} from "@murmuration/base";
import type { DecryptOutcome, IncomingEnvelope, Staged } from "@murmuration/pairwise";
import type { Deliver, Envelope } from "@murmuration/wire";
import { emptyContent } from "../core/content.ts";
import { isTemporary } from "../core/refusal.ts";
import type { HeldReason, HeldRow } from "../store/held.ts";
import type { Context } from "./context.ts";
import type { Directory } from "./directory.ts";
import type { KeptMark } from "./kept-mark.ts";
import { lanes } from "./lanes.ts";
import type { Receiver } from "./receiver.ts";
import { Signal } from "./signal.ts";

/** What the inbox sets off once everything is persisted. */
export interface InboxEffects {
  acknowledge(through: EnvelopeId): void;
  /** The service delivers more than was agreed: the connection is given up, and comes again. */
  overflow(): void;
  /** Something may have come into the outbox, be due as a receipt, or be held for a group. */
  received(): Promise<void>;
}

const BATCH = 32;

/** One envelope with where it came from, and what became of it. */
interface Item {
  readonly envelope: IncomingEnvelope;
  /** 0 for an ephemeral one. */
  readonly envelopeId: number;
}

export class Inbox {
  readonly changed = new Signal();
  private readonly context: Context;
  private readonly mark: KeptMark;
  private readonly directory: Directory;
  private readonly receiver: Receiver;
  private readonly effects: InboxEffects;
  private queue: Envelope[] = [];
  private working: Promise<void> | undefined;
  private emptied = false;
  /** Held back until it is clear that this device was not restored from an old copy. */
  private released = false;
  /** Lanes that the last batch gave something to send. */
  private woken = new Set<string>();

  constructor(
    context: Context,
    mark: KeptMark,
    directory: Directory,
    receiver: Receiver,
    effects: InboxEffects,
  ) {
    this.context = context;
    this.mark = mark;
    this.directory = directory;
    this.receiver = receiver;
    this.effects = effects;
  }

  /** Everything that waited at the service when we connected has been received and persisted. */
  get caughtUp(): boolean {
    return this.emptied && this.queue.length === 0 && this.working === undefined;
  }

  /** Resolves when {@link caughtUp}, or when the client closes. */
  async untilCaughtUp(): Promise<void> {
    const { signal } = this.context.closing;
    while (!this.caughtUp && !signal.aborted) await this.changed.wait(signal);
  }

  /** The connection is new: what was delivered and not worked on comes again. */
  reset(): void {
    this.queue = [];
    this.emptied = false;
    this.released = false;
  }

  /** Waits for the first delivery and looks at it. Undefined when the mailbox turned out to be empty. */
  async firstDelivered(): Promise<number | undefined> {
    const { closing, environment, settings } = this.context;
    const done = new AbortController();
    const timeout = environment.sleep(
      settings.requestTimeoutMs,
      AbortSignal.any([done.signal, closing.signal]),
    );
    let waiting = true;
    void timeout.then(() => {
      waiting = false;
      this.changed.notify();
    });
    const first = () => this.queue.find((envelope) => envelope.envelopeId > 0)?.envelopeId;
    while (first() === undefined && !this.emptied && waiting) await this.changed.wait(closing.signal);
    done.abort();
    if (first() === undefined && !this.emptied) throw new UnavailableError("connection/silent");
    return first();
  }

  /** From here on envelopes are worked on. */
  release(): void {
    this.released = true;
    this.work();
  }

  deliver(deliver: Deliver): void {
    // A service keeps to the number of unacknowledged envelopes; what is not taken here comes again.
    if (this.queue.length + deliver.envelopes.length > 2 * this.context.settings.inboxLimit) {
      this.effects.overflow();
      return;
    }
    this.queue.push(...deliver.envelopes);
    this.mark.hear(deliver.storeMark);
    this.changed.notify();
    this.work();
  }

  queueEmpty(): void {
    this.emptied = true;
    this.changed.notify();
  }

  takeWoken(): readonly string[] {
    const woken = [...this.woken];
    this.woken.clear();
    return woken;
  }

  private work(): void {
    if (!this.released || this.queue.length === 0) return;
    if (this.working !== undefined) return;
    this.working = this.drain()
      .catch(this.context.failed)
      .then(() => {
        this.working = undefined;
        this.changed.notify();
        // What came while the loop was ending.
        if (!this.context.closing.signal.aborted) this.work();
      });
  }

  async idle(): Promise<void> {
    await this.working;
  }

  private async drain(): Promise<void> {
    // Not past a reset: whether this device or the service was set back is found out before anything new is opened.
    while (this.released && this.queue.length > 0 && !this.context.closing.signal.aborted) {
      const batch = this.queue.splice(0, BATCH);
      await this.process(batch);
    }
  }

  private async process(batch: readonly Envelope[]): Promise<void> {
    const { context } = this;
    const cursor = context.meta.number("cursor");
    const fresh = batch.filter((e) => e.envelopeId === 0 || e.envelopeId > cursor);
    const items = fresh.filter((envelope) => envelope.welcome === undefined).map(itemOf);
    const last = Math.max(0, ...batch.map((envelope) => envelope.envelopeId));
    // Welcomes first: were the process to end in between, they would come again with the others.
    this.keepWelcomes(fresh, items.length === 0 ? Math.max(cursor, last) : cursor);
    if (items.length > 0) await this.open(items, Math.max(cursor, last));
    // On a new connection the number may be that of another envelope; this one comes again, and is known then.
    if (last > 0 && this.released) this.effects.acknowledge(last as EnvelopeId);
    await this.afterwards();
  }

  /** An invitation into a community is put down; taking it up needs the network. */
  private keepWelcomes(envelopes: readonly Envelope[], cursor: number): void {
    const { context } = this;
    const welcomes = envelopes.flatMap(({ welcome }) => (welcome === undefined ? [] : [welcome]));
    if (welcomes.length === 0) return;
    context.transaction(() => {
      for (const welcome of welcomes) context.mls.addWelcome(welcome, context.now());
      context.meta.setNumber("cursor", cursor);
      this.mark.write();
    });
  }

  private async open(items: readonly Item[], cursor: number): Promise<void> {
    const { context } = this;
    await context.engine.decrypt({ envelopes: items.map((item) => item.envelope) }, (staged) =>
      context.transaction(() => {
        this.store(items, staged);
        context.meta.setNumber("cursor", cursor);
        this.mark.write();
      }),
    );
  }

  /** Tells, then opens what was held, then lets the rest of the client go on. */
  private async afterwards(): Promise<void> {
    this.tell();
    await this.openHeld();
    await this.effects.received();
  }

  private tell(): void {
    this.context.notifier.flush();
    for (const event of this.receiver.takePassing()) this.context.notifier.tell(event);
  }

  /** Inside the transaction. */
  private store(items: readonly Item[], { writeSet, output }: Staged<readonly DecryptOutcome[]>): void {
    this.context.pairwiseRows.applyWriteSet(writeSet);
    output.forEach((outcome, index) => {
      const item = items[index]!;
      const reason = this.apply(item, outcome);
      if (reason !== undefined && item.envelopeId !== 0) this.hold(item, reason, outcome);
    });
  }

  /** Applies one outcome; the reason to hold the envelope, if it has to wait. */
  private apply(item: Item, outcome: DecryptOutcome): HeldReason | undefined {
    switch (outcome.kind) {
      case "message":
        this.receiver.receive({
          sender: outcome.sender as DeviceAddress,
          body: outcome.body,
          sentAtMs: outcome.sentAtMs,
          acceptedAtMs: item.envelope.acceptedAtMs,
          ephemeral: item.envelopeId === 0,
        });
        return undefined;
      case "retry":
        // A lost typing notice is not worth a second one.
        if (item.envelopeId !== 0) this.askAgain(outcome);
        return undefined;
      case "lost":
        this.receiver.noteLost(outcome.sender as DeviceAddress, outcome.reference);
        return undefined;
      case "retry-requested":
        this.sendAgain(outcome.sender as DeviceAddress, outcome.reference);
        return undefined;
      case "certificate-needed":
        return "certificate";
      case "device-list-needed":
        return "device-list";
      case "decision-needed":
        return "identity";
      case "duplicate":
      case "rejected":
        return undefined;
    }
  }

  private hold(item: Item, reason: HeldReason, outcome: DecryptOutcome): void {
    const account = outcome.kind === "decision-needed" ? outcome.accountId : senderOf(outcome)?.accountId;
    const { context } = this;
    const { ciphertext: bytes, identifiedSender, acceptedAtMs } = item.envelope;
    context.held.add(
      {
        reason,
        bytes,
        sender: identifiedSender as DeviceAddress | undefined,
        subject: account,
        sentAtMs: 0,
        acceptedAtMs,
      },
      context.now(),
    );
    if (outcome.kind === "decision-needed" && account !== undefined) {
      context.events.append({
        kind: "decision-needed",
        account: accountId(account),
        detail: outcome.code,
        atMs: context.now(),
      });
    }
  }

  /**
   * A message that cannot be decrypted: its sender is asked to send it again. The row's content is the request unsealed, since it
   * cannot be encrypted anew where nobody takes the sealed one.
   */
  private askAgain(outcome: Extract<DecryptOutcome, { kind: "retry" }>): void {
    const { context } = this;
    const { deviceId, accountId: account } = outcome.sender as DeviceAddress;
    const lane = lanes.repair(account);
    const id = context.newMessageId();
    const row = context.outbox.append({
      lane,
      target: { kind: "device", account, device: deviceId },
      messageId: id,
      content: outcome.identified,
      confirm: false,
      createdAtMs: context.now(),
    });
    const { ciphertext, registrationId } = outcome.request;
    context.outbox.addPart(row, {
      submitId: submitId(context.environment.random(16)),
      mode: outcome.mode,
      recipients: [{ account, devices: [{ deviceId, registrationId, ciphertext }] }],
      group: undefined,
      fence: undefined,
      certificateUntilMs: context.engine.certificateExpiresAtMs() ?? 0,
    });
    this.woken.add(lane);
  }

  /** A peer could not decrypt what we sent it: the same content under the same reference, for that device only. */
  private sendAgain(sender: DeviceAddress, reference: number): void {
    const { context } = this;
    const row = context.outbox.byReference(reference);
    const wasFor = row?.accounts?.some((account) => isSame(account, sender.accountId)) ?? false;
    // Nothing that was meant for others; and what has vanished here is not shown there.
    const id = context.newMessageId();
    const again = row !== undefined && wasFor ? row : { messageId: id, content: emptyContent(id) };
    const lane = lanes.repair(sender.accountId);
    context.outbox.append({
      lane,
      target: { kind: "device", account: sender.accountId, device: sender.deviceId },
      messageId: again.messageId,
      content: again.content,
      reference,
      confirm: false,
      createdAtMs: context.now(),
    });
    this.woken.add(lane);
  }

  // ----------------------------------------------------------------------------------------------- held

  /** Fetches what held envelopes lack and opens them, in the order they came. */
  async openHeld(): Promise<void> {
    const { held } = this.context;
    const byList = held.of("device-list");
    const byCertificate = held.of("certificate");
    if (byList.length === 0 && byCertificate.length === 0) return;
    try {
      const accounts = new Map<string, AccountId>();
      for (const { subject } of byList) {
        if (subject !== undefined) accounts.set(Buffer.from(subject).toString("hex"), accountId(subject));
      }
      const refreshed: AccountId[] = [];
      for (const account of accounts.values()) {
        const why = await this.directory.refreshDeviceList(account);
        if (why?.kind !== "later") refreshed.push(account);
      }
      await this.openRows(byList, refreshed);
      if (byCertificate.length === 0) return;
      await this.directory.ensureCertificate(true);
      await this.openRows(byCertificate, []);
    } catch (error) {
      // They stay held, and are looked at again with the next delivery or connection.
      if (!isTemporary(error)) throw error;
    }
  }

  /** Envelopes of an account whose identity was decided. */
  async openDecided(account: AccountId): Promise<void> {
    await this.openRows(this.context.held.of("identity", account), [account]);
    await this.afterwards();
  }

  private async openRows(rows: readonly HeldRow[], refreshed: readonly AccountId[]): Promise<void> {
    if (rows.length === 0) return;
    const { context } = this;
    const sorted = [...rows].sort((a, b) => a.id - b.id);
    const items = sorted.map((row) => ({
      envelope: { ciphertext: row.bytes, identifiedSender: row.sender, acceptedAtMs: row.acceptedAtMs },
      envelopeId: row.id,
    }));
    const request = { envelopes: items.map((item) => item.envelope), refreshedAccounts: refreshed };
    await context.engine.decrypt(request, ({ writeSet, output }) =>
      context.transaction(() => {
        context.pairwiseRows.applyWriteSet(writeSet);
        output.forEach((outcome, index) => {
          const row = sorted[index]!;
          const reason = this.apply(items[index]!, outcome);
          if (reason === row.reason) return;
          context.held.remove(row.id);
          if (reason !== undefined) this.hold(items[index]!, reason, outcome);
        });
      }),
    );
    this.tell();
  }
}

const isSame = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

function senderOf(outcome: DecryptOutcome): { readonly accountId: AccountId } | undefined {
  return "sender" in outcome ? (outcome.sender as DeviceAddress | undefined) : undefined;
}

function itemOf({ envelopeId, serverTimeMs, sealed, identified }: Envelope): Item {
  const content = sealed ?? identified;
  return {
    envelopeId,
    envelope: {
      ciphertext: content?.ciphertext ?? new Uint8Array(0),
      identifiedSender:
        identified === undefined
          ? undefined
          : { accountId: identified.senderAccountId, deviceId: identified.senderDeviceId },
      acceptedAtMs: serverTimeMs,
    },
  };
}

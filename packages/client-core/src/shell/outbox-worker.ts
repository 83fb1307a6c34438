/**
 * Moves messages from the outbox to the service. Each step is persisted before the next begins, so a message can
 * be taken up again at any of them:
 *
 *   new      encrypt for whoever has no ciphertext yet    -> PERSIST sessions and parts
 *   ready    submit each part, always the same bytes      -> PERSIST that it was accepted
 *   accepted tell the listeners
 *
 * Rows of one lane go one after the other. A lane that cannot go on waits for what it lacks: a connection, a
 * pause, a decision of the user, a group key.
 */
import { type AccountId, equalBytes, formatId, InvariantError } from "@murmuration/base";
import { hasSwitched, type ServiceBody } from "@murmuration/wire";
import { decodeContent, emptyContent } from "../core/content.ts";
import {
  decideOnAnswer,
  decideOnFailure,
  type Repair,
  type SubmitDecision,
} from "../core/outbox-decision.ts";
import { isTemporary, ServiceRefusal } from "../core/refusal.ts";
import type { OutboxPart, OutboxRow } from "../store/outbox.ts";
import type { EpochReports } from "./communities/epoch-reports.ts";
import type { OutgoingStep } from "./communities/outgoing.ts";
import type { Connection } from "./connection.ts";
import type { Context } from "./context.ts";
import type { Directory } from "./directory.ts";
import { Encryptor, type EncryptProgress } from "./encryptor.ts";
import { lanes } from "./lanes.ts";
import { LONGEST_REST_MS } from "./migration/gentle.ts";
import { Signal } from "./signal.ts";

/** Why a lane stops for now. */
type Pause =
  | { readonly kind: "after"; readonly ms: number }
  /** Nothing is wrong. */
  | { readonly kind: "rest"; readonly ms: number }
  /** Until `wake`: a decision or a key has to come first. */
  | { readonly kind: "woken" };

/** What the worker needs to know of groups. */
export interface GroupRefresh {
  /** Reads the record with whatever keys are known. True when this device knows the present generation. */
  refresh(group: Uint8Array): Promise<boolean>;
  /** The service has refused a submit to this group with this fence, and the record that it shows does not say why. */
  refusedWithoutNotice(group: Uint8Array): void;
}

/** How messages to communities leave. */
export interface CommunityOutbox {
  encrypt(row: OutboxRow): OutgoingStep;
  submit(row: OutboxRow): Promise<OutgoingStep>;
}

/** A community's message that was handed to the service. */
interface Submitted {
  readonly row: OutboxRow;
  /** Once the service has taken it: by when the log has to show it, and what goes on then. */
  readonly deadlineMs: number | undefined;
  readonly done: (() => void) | undefined;
}

/** Lanes that work at a time; one that waits for something does not count. */
const PARALLEL_LANES = 16;
/** A lane that waits for something looks again by itself after this time. */
const LOOK_AGAIN_MS = 60_000;
/** Time in which a log shows what its service has taken. */
const SHOWN_WITHIN_MS = 2_000;
/** Repairs of one row that follow each other without a pause. */
const FREE_REPAIRS = 3;
/** Pause before the first try to reach an account again whose mailbox was full; {@link ClientSettings.fullMailboxRetryMs}. */
const FULL_MIN_MS = 1_000;
/** Pause before the first and between later tries where the service refuses a fence that the record says is the present one. */
const UNEXPLAINED_MIN_MS = 500;
const UNEXPLAINED_MAX_MS = 60_000;
/** Before what has failed is tried again, ms: at first, and at the most. */
const AGAIN_MS = { first: 100, most: 30_000 };
/** The same at the most where the service names a time: it is overloaded, or has a rate. */
const ASKED_AGAIN_MOST_MS = 5_000;

export class OutboxWorker {
  /** Notified when a row was accepted or failed. */
  readonly settled = new Signal();
  private readonly context: Context;
  private readonly connection: Connection;
  private readonly directory: Directory;
  private readonly encryptor: Encryptor;
  private readonly groups: GroupRefresh;
  private readonly communities: CommunityOutbox;
  private readonly lanes = new Map<string, Promise<void>>();
  private readonly waiting: string[] = [];
  private readonly wakes = new Map<string, Signal>();
  /** Repairs of one row since it was last accepted: a service that asks for the same one for ever is slowed down. */
  private readonly repairs = new Map<number, number>();
  /** Lanes that were woken while they worked: they look once more before they end. */
  private readonly again = new Set<string>();
  /** Rows of communities that were handed to the service and not shown by the log, the oldest first. */
  private readonly submitted = new Map<number, Submitted>();
  private watching = false;
  private stopped = false;
  private pausing = 0;

  constructor(
    context: Context,
    connection: Connection,
    directory: Directory,
    groups: GroupRefresh,
    communities: CommunityOutbox,
    reports: EpochReports,
  ) {
    this.communities = communities;
    this.context = context;
    this.connection = connection;
    this.directory = directory;
    this.groups = groups;
    this.encryptor = new Encryptor(context, directory, reports);
  }

  /** Takes up every lane that has something to send. */
  wakeAll(): void {
    for (const lane of this.context.outbox.busyLanes()) this.wake(lane);
  }

  /** Starts a lane, or lets it look again if it waits. */
  wake(lane: string): void {
    if (this.stopped || this.connection.state === "stopped") return;
    this.wakes.get(lane)?.notify();
    if (this.lanes.has(lane)) this.again.add(lane);
    if (this.lanes.has(lane) || this.waiting.includes(lane)) return;
    this.waiting.push(lane);
    this.startLanes();
  }

  private startLanes(): void {
    while (this.lanes.size - this.pausing < PARALLEL_LANES && !this.aborted) {
      const lane = this.waiting.shift();
      if (lane === undefined) return;
      const done = this.runLane(lane)
        .then(() => this.laneEnded(lane))
        .catch(this.context.failed);
      this.lanes.set(lane, done);
    }
  }

  private laneEnded(lane: string): void {
    this.lanes.delete(lane);
    this.wakes.delete(lane);
    if (this.aborted) return;
    // A row that came in while the lane was ending must not wait for the next one.
    if (this.again.delete(lane) && this.connection.state === "connected") this.waiting.push(lane);
    this.startLanes();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.waiting.length = 0;
    for (const signal of this.wakes.values()) signal.notify();
    await Promise.all(this.lanes.values());
  }

  private get aborted(): boolean {
    return this.stopped || this.context.closing.signal.aborted;
  }

  private async runLane(lane: string): Promise<void> {
    const wake = new Signal();
    this.wakes.set(lane, wake);
    let failures = 0;
    /** How often the service has refused this row. What it was encrypted anew for says nothing yet about how that is taken. */
    let refused = 0;
    let last: number | undefined;
    while (!this.aborted) {
      this.again.delete(lane);
      const row = this.context.outbox.next(lane);
      if (row === undefined) return;
      if (row.id !== last) refused = 0;
      last = row.id;
      if (this.connection.state !== "connected") {
        if (this.connection.state === "stopped" || this.connection.state === "removed") return;
        await this.connection.wait(this.context.closing.signal);
        // Submits that broke off with their connections say nothing about the next one.
        failures = 0;
        refused = 0;
        continue;
      }
      const pause = await this.step(row, failures, refused);
      const wasSubmitted = row.state === "ready";
      if (pause === undefined) {
        failures = 0;
        if (wasSubmitted) refused = 0;
        continue;
      }
      if (pause.kind === "after") {
        failures++;
        if (wasSubmitted) refused++;
      }
      await this.pause(pause, wake);
    }
  }

  private async pause(pause: Pause, wake: Signal): Promise<void> {
    const done = new AbortController();
    const abort = AbortSignal.any([done.signal, this.context.closing.signal]);
    const ms = pause.kind === "woken" ? LOOK_AGAIN_MS : pause.ms;
    const ends = [this.context.environment.sleep(ms, abort), wake.wait(abort)];
    this.pausing++;
    this.startLanes();
    await Promise.race(ends);
    this.pausing--;
    done.abort();
  }

  /** One step of one row. Undefined to go on at once. */
  private async step(row: OutboxRow, failures: number, refused: number): Promise<Pause | undefined> {
    try {
      if (this.isOfCommunity(row)) return await this.stepOfCommunity(row);
      if (this.waitsForSwitch(row)) return { kind: "woken" };
      const restMs = this.restMs(row);
      if (restMs > 0) return { kind: "rest", ms: restMs };
      return row.state === "new" ? await this.encrypt(row) : await this.submit(row, refused);
    } catch (error) {
      if (this.aborted || !isTemporary(error)) throw error;
      const retryMs = error instanceof ServiceRefusal ? (error.retryAfterMs ?? 0) : 0;
      return { kind: "after", ms: Math.max(retryMs, againMs(failures + 1)) };
    }
  }

  /**
   * For how long a step of a migration over the pairwise sessions lets others go first. Before the switch some members hear of
   * it later than others. From then on whoever is in the MLS group hears it there, and whoever is left behind does not wait for
   * a moment.
   */
  private restMs({ createdAtMs, lane, state, target }: OutboxRow): number {
    if (target.kind !== "group" || lane !== lanes.migration(target.group)) return 0;
    const { migration, quietMs } = this.context;
    const earlyMs = state === "new" ? createdAtMs - this.context.now() : 0;
    // Of a clock that was set back it says nothing.
    const untilDueMs = earlyMs > LONGEST_REST_MS ? 0 : earlyMs;
    return Math.max(untilDueMs, migration.own(target.group).switchedAtMs === 0 ? 0 : quietMs);
  }

  private isOfCommunity({ lane, target }: OutboxRow): boolean {
    if (target.kind !== "group" || lane === lanes.migration(target.group)) return false;
    return this.context.conversations.get(target.group)?.protocol === "mls";
  }

  private async stepOfCommunity(row: OutboxRow): Promise<Pause | undefined> {
    if (row.state === "ready") this.submitted.set(row.id, { row, deadlineMs: undefined, done: undefined });
    const step = row.state === "new" ? this.communities.encrypt(row) : await this.communities.submit(row);
    if (step.kind !== "accepted") this.submitted.delete(row.id);
    switch (step.kind) {
      case "ready":
        return undefined;
      case "accepted":
        await this.untilShown(row);
        return undefined;
      case "failed":
        this.context.transaction(() => this.context.mls.deletePart(row.id));
        this.failed(row, step.code);
        return undefined;
      case "later":
        return { kind: "after", ms: step.afterMs };
    }
  }

  /** Inside a transaction: a community's log shows this message, which is accepted, whether or not the answer came. */
  settleShown(id: number): void {
    const row = this.submitted.get(id)?.row ?? this.context.outbox.get(id);
    const atMs = this.context.now();
    if (row !== undefined && this.context.outbox.accept(id, atMs)) this.settleLine(row, "accepted", atMs);
  }

  /** After the transaction: the log has shown these. */
  shown(ids: readonly number[]): void {
    for (const id of ids) {
      const submitted = this.submitted.get(id);
      this.submitted.delete(id);
      submitted?.done?.();
    }
    this.settled.notify();
  }

  /**
   * The service has taken a message: a moment later the log shows it and settles it in the transaction that moves the
   * cursor. Only where that does not come (the connection broke) is it settled by the answer alone.
   */
  private async untilShown(row: OutboxRow): Promise<void> {
    // The log was quicker than the answer.
    if (!this.submitted.has(row.id)) return;
    await new Promise<void>((done) => {
      this.submitted.set(row.id, { row, deadlineMs: this.context.now() + SHOWN_WITHIN_MS, done });
      if (!this.watching) void this.watchSubmitted();
    });
    if (!this.submitted.delete(row.id) || this.aborted) return;
    // Put back meanwhile, it was taken in a group that is given up, and is said again.
    if (this.context.outbox.state(row.id) === "ready") this.accepted(row);
  }

  /** One timer for all rows that the log has to show: one for each would cost as much as the message. */
  private async watchSubmitted(): Promise<void> {
    this.watching = true;
    const { closing, environment } = this.context;
    const due = () =>
      Array.from(this.submitted.values(), ({ deadlineMs = Number.POSITIVE_INFINITY }) => deadlineMs);
    for (let next = Math.min(...due()); next < Number.POSITIVE_INFINITY; next = Math.min(...due())) {
      // Never longer than a row's time, should the clock have been set back meanwhile.
      const ms = Math.min(SHOWN_WITHIN_MS, Math.max(1, next - this.context.now()));
      await environment.sleep(ms, closing.signal);
      const nowMs = this.context.now();
      for (const { deadlineMs, done } of this.submitted.values())
        if (deadlineMs !== undefined && (this.aborted || nowMs >= deadlineMs)) done?.();
      // Whoever was late takes its row out.
      await Promise.resolve();
    }
    this.watching = false;
  }

  private async encrypt(row: OutboxRow): Promise<Pause | undefined> {
    const progress: EncryptProgress = await this.encryptor.encrypt(row);
    switch (progress.kind) {
      case "ready":
        for (const lane of progress.splitLanes) this.wake(lane);
        return undefined;
      case "nobody":
        this.accepted(row);
        return undefined;
      case "failed":
        this.failed(row, progress.code);
        return undefined;
      case "later":
        return { kind: "after", ms: progress.retryAfterMs };
      case "decision":
        return { kind: "woken" };
    }
  }

  private async submit(row: OutboxRow, refused: number): Promise<Pause | undefined> {
    const [part] = this.context.outbox.parts(row.id);
    if (part === undefined) {
      this.accepted(row);
      return undefined;
    }
    if (this.encryptor.isSealOver(part)) {
      this.takeBack(row, part, undefined);
      return undefined;
    }
    const decision = await this.ask(part);
    // The group has moved to MLS meanwhile, and all that waited for it was begun anew: this answer is about nothing any more.
    if (this.isOfCommunity(row)) return undefined;
    return this.act(row, part, decision, refused);
  }

  private async ask(part: OutboxPart): Promise<SubmitDecision> {
    const body = this.encryptor.submitBody(part);
    if (body === undefined)
      return { kind: "repair", repairs: this.encryptor.withoutAccess(part).map(accessDenied) };
    let answer: ServiceBody;
    try {
      answer = await this.connection.submit(body);
    } catch (error) {
      return decideOnFailure(error);
    }
    return decideOnAnswer(answer);
  }

  private async act(
    row: OutboxRow,
    part: OutboxPart,
    decision: SubmitDecision,
    refused: number,
  ): Promise<Pause | undefined> {
    // The group went over to MLS while the service was asked: the row has begun anew, and this was its past.
    if (this.isOfCommunity(row)) return undefined;
    switch (decision.kind) {
      case "accepted":
        this.partAccepted(row, part);
        return undefined;
      case "repair":
        return this.repair(row, part, decision.repairs, refused);
      case "refresh-group":
        return this.refreshGroup(row, part, refused);
      case "again":
        return {
          kind: "after",
          ms: Math.max(decision.afterMs, Math.min(againMs(refused), ASKED_AGAIN_MOST_MS)),
        };
      case "reconnect":
        return { kind: "after", ms: Math.max(50, againMs(refused)) };
      case "failed":
        this.failed(row, decision.code);
        return undefined;
    }
  }

  private async repair(
    row: OutboxRow,
    part: OutboxPart,
    repairs: readonly Repair[],
    refused: number,
  ): Promise<Pause | undefined> {
    const full = repairs.filter(({ kind }) => kind === "mailbox-full").map(({ account }) => account);
    if (full.length > 0) return this.leaveOut(row, part, full, refused);
    for (const repair of repairs) {
      if (repair.kind !== "devices") continue;
      const addresses = repair.forget.map((deviceId) => ({ accountId: repair.account, deviceId }));
      if (addresses.length > 0) await this.directory.forgetSessions(addresses);
      // What stands in the way is found out again, and dealt with, where it is encrypted.
      await this.directory.fetchBundles(repair.account, repair.fetch);
    }
    this.context.transaction(() => {
      for (const repair of repairs) {
        if (repair.kind === "access-denied") this.context.contacts.demoteProfileKey(repair.account);
      }
    });
    const gone = repairs.filter((repair) => repair.kind === "gone").map((repair) => repair.account);
    this.takeBack(
      row,
      part,
      repairs.map((repair) => repair.account),
      gone,
    );
    if (gone.length > 0 && row.target.kind === "account") this.failed(row, "accounts/unknown");
    const count = (this.repairs.get(row.id) ?? 0) + 1;
    this.repairs.set(row.id, count);
    return count <= FREE_REPAIRS ? undefined : { kind: "after", ms: Math.min(60_000, 100 * 2 ** count) };
  }

  /**
   * The service stored nothing, because these accounts have no room. The others of a group get the message now; each
   * of these gets the same ciphertext later, from a row in its own lane. Whatever else does not fit is said again.
   */
  private leaveOut(
    row: OutboxRow,
    part: OutboxPart,
    accounts: readonly AccountId[],
    refused: number,
  ): Pause | undefined {
    const { fullMailboxRetryMs } = this.context.settings;
    const later: Pause = { kind: "after", ms: Math.min(fullMailboxRetryMs, FULL_MIN_MS * 2 ** refused) };
    for (const account of accounts) this.encryptor.full.add(formatId(account));
    if (row.target.kind !== "group") return later;
    const woken = this.encryptor.leaveOut(row.id, part, accounts);
    this.context.notifier.flush();
    for (const lane of woken) this.wake(lane);
    return woken.length > 0 ? undefined : later;
  }

  /** Only the record says that a group goes on elsewhere: a service that refuses without a reason in it is slowed down, and reported. */
  private async refreshGroup(row: OutboxRow, part: OutboxPart, refused: number): Promise<Pause | undefined> {
    const { group, fence } = part;
    if (group === undefined || fence === undefined) throw new InvariantError("outbox/fence-without-group");
    const known = await this.groups.refresh(group);
    if (this.isOfCommunity(row)) return undefined;
    if (!known) return { kind: "woken" };
    // It goes over MLS as soon as this device does.
    if (this.waitsForSwitch(row)) return { kind: "woken" };
    this.encryptor.fitToGroup(row.id);
    const now = this.context.conversations.group(group)?.fence;
    if (now === undefined || !equalBytes(now, fence)) return undefined;
    this.groups.refusedWithoutNotice(group);
    return { kind: "after", ms: Math.min(UNEXPLAINED_MAX_MS, UNEXPLAINED_MIN_MS * 2 ** refused) };
  }

  /** The record says that the group takes nothing pairwise any more, and this device has not come into the MLS group. */
  private waitsForSwitch({ lane, target }: OutboxRow): boolean {
    const { conversations, migration } = this.context;
    if (target.kind !== "group" || lane !== lanes.group(target.group)) return false;
    const isPairwise = conversations.get(target.group)?.protocol === "pairwise";
    return isPairwise && hasSwitched(migration.record(target.group).state);
  }

  /**
   * Takes recipients (all, if undefined) out of a part, and lets them be encrypted for again; `gone` ones are
   * left out for good. The rest is a new submit with the same ciphertexts.
   */
  private takeBack(
    row: OutboxRow,
    part: OutboxPart,
    accounts: readonly AccountId[] | undefined,
    gone: readonly AccountId[] = [],
  ): void {
    this.context.transaction(() => this.encryptor.takeBack(row.id, part, accounts, gone));
  }

  private partAccepted(row: OutboxRow, part: OutboxPart): void {
    const last = this.context.outbox.countParts(row.id) === 1;
    // What nobody is told of may be forgotten: the same submit is answered once more then, by its id. The number of an event
    // that was told must not come to mean another.
    this.context.transaction(
      () => {
        this.context.outbox.deletePart(part.id);
        if (last) this.settle(row, "accepted");
      },
      isReceipt(row) ? "with-the-next" : "at-once",
    );
    this.afterwards(last);
  }

  private accepted(row: OutboxRow): void {
    this.context.transaction(() => this.settle(row, "accepted"));
    this.afterwards(true);
  }

  private failed(row: OutboxRow, code: string): void {
    this.context.transaction(() => {
      for (const part of this.context.outbox.parts(row.id)) this.context.outbox.deletePart(part.id);
      this.settle(row, "failed", code);
    });
    this.afterwards(true);
  }

  private afterwards(settled: boolean): void {
    this.context.notifier.flush();
    if (settled) this.settled.notify();
  }

  /** The secret of a switch that is over has reached the last who waited for it, and must not be found here. */
  private forgetSecret({ confirm, content, historyId, id, target }: OutboxRow): void {
    if (confirm || historyId !== undefined || target.kind !== "account") return;
    const { group, migrationSecret } = decodeContent(content);
    if (group === undefined || migrationSecret === undefined) return;
    if (this.context.migration.own(group.groupId).switchedAtMs === 0) return;
    this.context.outbox.setContent(id, emptyContent(this.context.newMessageId()));
    this.context.eraseAfterwards();
  }

  private settle(row: OutboxRow, state: "accepted" | "failed", code?: string): void {
    const atMs = this.context.now();
    this.context.outbox.setState(row.id, state, atMs, code);
    this.forgetSecret(row);
    this.settleLine(row, state, atMs, code);
  }

  /** What a row that was settled means for its line. */
  private settleLine(row: OutboxRow, state: "accepted" | "failed", atMs: number, code?: string): void {
    this.repairs.delete(row.id);
    if (row.target.kind === "account") this.encryptor.full.delete(formatId(row.target.account));
    if (row.historyId === undefined) {
      // One of the members that were left out was reached now, or never will be.
      if (row.target.kind === "account" && !isReceipt(row)) this.encryptor.noteReach(row.messageId);
      return;
    }
    const line = this.context.history.settle(row.historyId, state, code, atMs);
    if (line !== undefined) this.encryptor.noteReach(row.messageId, line);
  }
}

const isReceipt = ({ lane, target }: OutboxRow): boolean =>
  target.kind === "account" && lane === lanes.receipts(target.account);

/** A pause that doubles with each failure; the first try comes without one. */
const againMs = (failures: number): number =>
  failures === 0 ? 0 : Math.min(AGAIN_MS.most, AGAIN_MS.first * 2 ** (failures - 1));

const accessDenied = (account: AccountId): Repair => ({
  account,
  kind: "access-denied",
  fetch: [],
  forget: [],
});

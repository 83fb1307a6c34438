/**
 * Moves pairwise groups to MLS while people talk (docs/migration.md, ADR 9). The group's record says how far a move is;
 * this ties what the record says to what is done about it:
 *
 *   Preparer      the one device that makes the MLS group       Switcher      the moment of the switch, on every device
 *   SpokenOrder   what one device says over both protocols      here          steps of the record, events, take-overs
 */

import {
  type AccountId,
  type Bytes,
  type DeviceAddress,
  equalBytes,
  formatId,
  type GroupId,
  groupId,
  MurmurationError,
  RejectionError,
  UsageError,
} from "@murmuration/base";
import { communityContextOf, type Group } from "@murmuration/mls-groups";
import { hasLease, hasSwitched } from "@murmuration/wire";
import type { Migration } from "../../api.ts";
import { type Content, encodeContent } from "../../core/content.ts";
import { migrationChangeOf, type VerifiedChange, verifyChange } from "../../core/group-change.ts";
import type { GroupState } from "../../core/group-record.ts";
import {
  decideFollow,
  mayFinish,
  mayTakeOver,
  patienceMs,
  reachesThreshold,
  requireFewRoleHolders,
} from "../../core/migration/decisions.ts";
import { migrationGroupId } from "../../core/migration/keys.ts";
import { placeWelcome } from "../../core/migration/welcomes.ts";
import { isTemporary } from "../../core/refusal.ts";
import { sha256 } from "../../core/sha256.ts";
import type { Communities } from "../communities/communities.ts";
import { leavesOf } from "../communities/leaves.ts";
import type { Context } from "../context.ts";
import type { GroupLedger } from "../group-ledger.ts";
import type { Groups } from "../groups.ts";
import { lanes } from "../lanes.ts";
import { Pauses } from "../pauses.ts";
import { Signal } from "../signal.ts";
import {
  NEWCOMERS_AT_A_TIME,
  newcomerPauseMs,
  REST_MS_PER_MEMBER,
  restAfterSwitchMs,
  SPREAD_MS_PER_MEMBER,
} from "./gentle.ts";
import { Lulls } from "./lulls.ts";
import { Preparer } from "./preparer.ts";
import { type Readiness, readinessAfter, readinessBefore } from "./readiness.ts";
import { accountsOf, strangersAmong } from "./roster.ts";
import { type SpokenMessage, SpokenOrder } from "./spoken-order.ts";
import { Switcher } from "./switcher.ts";

export interface MigrationEffects {
  wake(lane: string): void;
  behind(work: () => Promise<void>): void;
  /** Whether everything that waited in the mailbox is here. */
  isCaughtUp(): boolean;
  /** Resolves when it is, or the client closes. */
  caughtUp(): Promise<void>;
}

/** How often something is looked at that no event announces, ms. */
const LOOK_MS = 5_000;
/** Secrets of a generation that are kept: one for each removal on the way, so that nobody fills a disk with them. */
const MAX_SECRETS = 300;
/** How long the log may stay behind what the record says of the switch before a person is told, ms. */
const BEHIND_MS = 60_000;
/** How often the record is read by a device that has the switching commit and was told of no switch, ms. */
const ASK_AGAIN_MS = 30_000;
/** Before a group that expects nobody of this account is asked again, ms: at first, and at the most. */
const ENTER_AGAIN_MS = { first: 2_000, most: 60_000 };
/** Before a record is read again for the sake of a Welcome, ms. */
const READ_AGAIN_MS = { first: 1_000, most: 300_000 };
/** So long all moves wait for those that wait for the service or for other members, ms. */
const PATIENCE_WITH_ONE_MS = 1_000;
/** How long a lease may have run out before another device looks whether it has, ms; twice as long at the most. */
const TAKE_OVER_LOOK_MS = 45_000;

export class Migrations {
  readonly order: SpokenOrder;
  private readonly context: Context;
  private readonly groups: Groups;
  private readonly records: GroupLedger;
  private readonly communities: Communities;
  private readonly effects: MigrationEffects;
  private readonly lulls: Lulls;
  private readonly preparer: Preparer;
  private readonly switcher: Switcher;
  private readonly changed = new Signal();
  /** Conversations of whose move something is to be told. */
  private readonly toTell = new Set<string>();
  /** When the lease of another device is looked at next, by conversation. */
  private readonly lookAtMs = new Map<string, number>();
  /** How many secrets were here when the log last stood still for want of another one, by conversation. */
  private readonly lackedWith = new Map<string, number>();
  /** Since when a secret or a Welcome is waited for, by conversation. */
  private readonly standsStillSinceMs = new Map<string, number>();
  /** Conversations whose record is being read for the sake of a Welcome. */
  private readonly reading = new Set<string>();
  /** Before a group that has let nobody in is asked again, by conversation. */
  private readonly enterAgain: Pauses;
  /** The same, of a record that could not be read for the sake of a Welcome: the group may have let this device go. */
  private readonly readAgain: Pauses;
  /** Conversations on whose move this device is at work. */
  private readonly busy = new Set<string>();
  /** When the next of those who waited for a switch may be added, ms. */
  private nextAddAtMs = Number.POSITIVE_INFINITY;
  private running = false;
  private again = false;
  /** How often this was woken. */
  private wakes = 0;
  private waitsForMailbox = false;

  constructor(
    context: Context,
    groups: Groups,
    records: GroupLedger,
    communities: Communities,
    effects: MigrationEffects,
  ) {
    this.context = context;
    this.groups = groups;
    this.records = records;
    this.communities = communities;
    this.effects = effects;
    this.enterAgain = new Pauses(() => context.now(), ENTER_AGAIN_MS);
    this.readAgain = new Pauses(() => context.now(), READ_AGAIN_MS);
    this.order = new SpokenOrder(context, (conversation, device) => this.tellOf(conversation, device));
    this.lulls = new Lulls(context);
    this.preparer = new Preparer(context, groups, records, communities, this.lulls, (lane) =>
      effects.wake(lane),
    );
    this.switcher = new Switcher(context, communities, (id) => {
      this.release(id);
      this.afterwards(() => this.readOnBehindSwitch(id));
    });
  }

  // ---------------------------------------------------------------------------------- what a person wants

  /** How far a group is; undefined where it never began to move. O(members) on the device that prepares. */
  view(id: GroupId): Migration | undefined {
    const { migration } = this.context;
    const { state, generation, creator } = migration.record(id);
    const waitingMembers = migration.waiting(id).length;
    if (generation === 0 && waitingMembers === 0) return undefined;
    const own = migration.own(id);
    const isCreator = this.preparer.isCreator(id);
    const { accounts, awaited, notReady, ready } = this.readiness(id);
    return {
      state,
      generation,
      creator: creator && formatId(creator.accountId),
      isCreator,
      startedAtMs: own.startedAtMs === 0 ? undefined : own.startedAtMs,
      deadlineAtMs: own.deadlineAtMs === 0 ? undefined : own.deadlineAtMs,
      accounts,
      readyAccounts: ready,
      notReady: notReady.map(({ account, code }) => ({ accountId: formatId(account), code })),
      waitsFor: waitsFor(state, awaited > 0 && !own.finishNow),
      waitingMembers,
    };
  }

  /** As far as this device knows it. O(members). */
  private readiness(id: GroupId): Readiness {
    const { conversations, migration, mls } = this.context;
    const { state } = migration.record(id);
    const isIn = mls.group(id)?.state === "active";
    if (migration.own(id).switchedAtMs > 0 && isIn)
      return readinessAfter(this.context, id, this.communities.registry.load(id).group);
    const isOpen = state !== "pairwise" && !hasSwitched(state);
    if ((isOpen || state === "recovering") && this.preparer.isCreator(id))
      return readinessBefore(this.context, id);
    const accounts = conversations.countMembers(id);
    const ready = hasSwitched(state) ? accounts : 0;
    return { accounts, ready, awaited: accounts - ready, notReady: [] };
  }

  /**
   * Begins to move a group; nothing where it has begun. Where the record says that it has switched and this device could
   * not follow, a new generation begins. Resolves when the record says so. UsageError `group/not-an-admin`,
   * `migration/already-switched`; RejectionError `migration/too-many-role-holders`; UnavailableError.
   */
  async start(id: GroupId): Promise<void> {
    this.requireRole(id);
    await this.lulls.come(id);
    await this.begin(id);
  }

  private async begin(id: GroupId): Promise<void> {
    await this.groups.change(id, (state) => {
      const { state: now, generation } = state.migration;
      if (this.isLeftBehind(id)) return { kind: "migrate-recover", generation: generation + 1 };
      if (now !== "pairwise") return undefined;
      requireFewRoleHolders(state);
      return { kind: "migrate-prepare", generation: state.migration.generation + 1 };
    });
    this.wake();
  }

  /**
   * A service that was set back may have lost Welcomes that nobody sends again, and the MLS group with them. What this device
   * prepares is not in use yet: it begins again, so that nobody has to come in from outside. UnavailableError.
   */
  async serviceWasSetBack(id: GroupId): Promise<void> {
    const { conversations, migration } = this.context;
    const isActive = conversations.get(id)?.state === "active";
    if (!this.preparer.isCreator(id) || !this.isRoleHolder(id) || !isActive) return;
    const { generation } = migration.record(id);
    await this.groups.change(id, ({ migration: { state, generation: present } }) =>
      (state === "preparing" || state === "ready") && present === generation
        ? { kind: "migrate-prepare", generation: generation + 1 }
        : undefined,
    );
    this.wake();
  }

  /** Gives an attempt up. UsageError `migration/already-switched`, `migration/not-started`. */
  async abort(id: GroupId): Promise<void> {
    this.requireRole(id);
    if (this.context.migration.record(id).state === "pairwise") throw new UsageError("migration/not-started");
    await this.groups.change(id, (state) => {
      const { state: now, generation } = state.migration;
      return now === "preparing" || now === "ready" ? { kind: "migrate-abort", generation } : undefined;
    });
  }

  /** Does not wait for those who are not ready. UsageError `migration/not-the-creator`, `migration/not-started`. */
  finishNow(id: GroupId): void {
    this.requireRole(id);
    if (this.context.migration.record(id).state === "pairwise") throw new UsageError("migration/not-started");
    if (!this.preparer.isCreator(id)) throw new UsageError("migration/not-the-creator");
    this.context.transaction(() => this.context.migration.setOwn(id, { finishNow: true }));
    this.wake();
  }

  private requireRole(id: GroupId): void {
    this.requireAdmin(id);
    if (hasSwitched(this.context.migration.record(id).state) && !this.isLeftBehind(id))
      throw new UsageError("migration/already-switched");
  }

  private requireAdmin(id: GroupId): void {
    if (!this.isRoleHolder(id)) throw new UsageError("group/not-an-admin");
  }

  /** A person was told that this device does not find the switch. */
  private isLeftBehind(id: GroupId): boolean {
    const { migration } = this.context;
    const { state } = migration.record(id);
    const isTold = this.lookAtMs.get(`behind ${formatId(id)}`) === Number.POSITIVE_INFINITY;
    return isTold && (state === "switching" || state === "mls") && migration.own(id).switchedAtMs === 0;
  }

  /**
   * Members for whom a pairwise group has no room. PERSIST them, then the move begins; they are added when it is over, by
   * this device. UsageError `group/not-an-admin`.
   */
  async addLater(id: GroupId, accounts: readonly AccountId[]): Promise<void> {
    this.requireAdmin(id);
    const { context } = this;
    // Not behind the transaction: whoever waits, waits for a move that begins.
    await this.lulls.come(id);
    context.transaction(() => {
      context.migration.addWaiting(id, accounts);
      if (this.preparer.isCreator(id)) this.hurry(id);
    });
    // Also where the record has switched, and this device is about to.
    await this.begin(id).catch((error: unknown) => {
      if (!(error instanceof RejectionError) || isTemporary(error)) throw error;
      // Whoever asked is told that it cannot be: it must not be done some day all the same.
      context.transaction(() => context.migration.deleteWaiting(id, accounts));
      throw error;
    });
  }

  /** Somebody waits for the switch. */
  private hurry(id: GroupId): void {
    const { migration, settings } = this.context;
    const { deadlineAtMs } = migration.own(id);
    const soon = this.context.now() + settings.migrationUrgentDeadlineMs;
    if (deadlineAtMs > soon) migration.setOwn(id, { deadlineAtMs: soon });
  }

  /**
   * After members were added here, and with a connection: a group near the threshold moves before it has to, and one that
   * somebody waits for, as its move was asked for and then this device was killed, or could not reach the service.
   */
  startIfNear(id: GroupId): void {
    const { conversations, migration, settings } = this.context;
    const row = conversations.get(id);
    if (!this.isRoleHolder(id) || row?.protocol !== "pairwise" || row.state !== "active") return;
    const { generation, state } = migration.record(id);
    const members = conversations.members(id).length;
    // Where somebody has given a move up, those who wait for one wait for a person.
    const isWaitedFor = generation === 0 && migration.waiting(id).length > 0;
    const isWanted = isWaitedFor || reachesThreshold({ members, ...settings });
    if (state !== "pairwise" || !isWanted) return;
    this.afterwards(() => this.start(id));
  }

  // ------------------------------------------------------------------------------------ what the record says

  /** Inside the transaction that adopts a change of a record, `after` being its state then. */
  adopted(
    id: GroupId,
    before: GroupState,
    after: GroupState,
    change: VerifiedChange,
    present: GroupState,
  ): void {
    const { context } = this;
    const step = migrationChangeOf(change.action);
    if (step === undefined) {
      this.rosterChanged(id, before, after);
      return;
    }
    context.migration.saveRecord(id, after.migration);
    switch (step) {
      case "prepare":
      case "recover":
        this.begun(id, after);
        break;
      case "abort":
        context.migration.beginGeneration(id);
        context.mls.delete(id);
        this.communities.abandon(id);
        // As in a generation that begins: all members do it in the same moment, while people talk.
        context.eraseWhenQuiet();
        break;
      case "switch":
        // Nobody goes over, behind the others, to a group that was given up since: what it has made of members and roles is over.
        if (present.migration.generation > after.migration.generation) break;
        this.switcher.switchIfReached(id);
        this.afterwards(async () => this.communities.hurry(id));
        break;
      default:
    }
    this.tellAfterwards(id);
    this.wake();
  }

  /**
   * However many steps a transaction brings, those who look on are told once how far the move is; whoever only follows it
   * counts when all have gone over.
   */
  private tellAfterwards(id: GroupId): void {
    const key = formatId(id);
    if (this.toTell.has(key)) return;
    this.toTell.add(key);
    this.afterwards(async () => {
      const { closing, environment, quietMs } = this.context;
      if (quietMs > 0 && !this.preparer.isCreator(id)) await environment.sleep(quietMs, closing.signal);
      this.toTell.delete(key);
      if (closing.signal.aborted) return;
      try {
        this.tell(id);
      } catch (error) {
        // A group that this device cannot work with is set aside where it is worked with.
        if (!(error instanceof MurmurationError)) throw error;
      }
    });
  }

  /** A generation begins. What was made for the one before is worth nothing any more. */
  private begun(id: GroupId, { migration: { generation, state } }: GroupState): void {
    const { context } = this;
    const { migration, mls, outbox, settings } = context;
    const wireId = migrationGroupId(id, generation);
    const { switchedAtMs } = migration.own(id);
    migration.beginGeneration(id);
    this.forgetWaits(formatId(id));
    // Whoever has not followed the switch before has heard nothing of what was said since.
    if (switchedAtMs > 0) outbox.sayAgainSince(lanes.group(id), switchedAtMs);
    if (this.isOurs(id, wireId)) {
      this.adoptNamesake(id, wireId);
      return;
    }
    this.giveNameTo(id, wireId);
    // In the first generation there is nothing to erase.
    if (generation > 1 || mls.group(id) !== undefined) context.eraseWhenQuiet();
    mls.expectGroup(id, wireId);
    this.communities.abandon(id);
    if (!this.preparer.isCreator(id)) {
      // Its Welcome may have come first.
      this.afterwards(() => this.communities.welcomesCame());
      return;
    }
    const lease = migration.wantedLease(id);
    migration.dropLease(id);
    const nowMs = context.now();
    const membersWait = migration.waiting(id).length > 0;
    const deadlineAtMs = nowMs + patienceMs({ state, membersWait, ...settings });
    migration.setOwn(id, { lease, startedAtMs: nowMs, deadlineAtMs });
  }

  /** What was waited for in one generation says nothing of the next one. */
  private forgetWaits(key: string): void {
    for (const waits of [this.lackedWith, this.standsStillSinceMs, this.enterAgain, this.readAgain])
      waits.delete(key);
    for (const what of ["behind", "switch", "full"]) this.lookAtMs.delete(`${what} ${key}`);
  }

  /** A community under the name that belongs to this conversation's move: somebody has guessed it, and it is left. */
  private giveNameTo(id: GroupId, wireId: GroupId): void {
    const { context } = this;
    const { conversations, events, mls } = context;
    const isTaken = mls.group(wireId) !== undefined && equalBytes(mls.conversationOf(wireId), wireId);
    if (!isTaken || equalBytes(id, wireId)) return;
    this.communities.abandon(wireId);
    mls.delete(wireId);
    context.eraseAfterwards();
    if (conversations.get(wireId) === undefined) return;
    conversations.setState(wireId, "removed");
    events.append({ kind: "conversation-changed", conversation: wireId, atMs: context.now() });
  }

  /**
   * Whether this device is in the group of a move and knows it by the group's own name, with another device of its account
   * and with nobody who is not in the record: anybody in the conversation can guess that name.
   */
  private isOurs(id: GroupId, wireId: GroupId): boolean {
    const { conversations, mls, own } = this.context;
    if (!equalBytes(mls.conversationOf(wireId), wireId) || mls.group(wireId)?.state !== "active")
      return false;
    const roster = accountsOf(leavesOf(this.communities.registry.load(wireId).group));
    return (
      mls.leavesOf(wireId, own.accountId).length > 1 &&
      strangersAmong(roster, conversations.members(id)).length === 0
    );
  }

  /**
   * This device was let into the MLS group before it was told of the conversation: another one of its account had been
   * faster than the one that tells. What has come so far is the conversation's.
   */
  private adoptNamesake(id: GroupId, wireId: GroupId): void {
    const { context } = this;
    const { conversations, history, mls, outbox } = context;
    mls.giveTo(id, wireId);
    history.moveConversation(wireId, id);
    outbox.readdress(wireId, lanes.group(wireId), id, lanes.group(id));
    const { mutedUntilMs, wakeBy } = conversations.wakeTerms(wireId);
    if (mutedUntilMs > 0) conversations.setMuted(id, mutedUntilMs);
    if (wakeBy !== "messages") conversations.setWakeBy(id, wakeBy);
    conversations.delete(wireId);
    for (const name of [wireId, id]) this.communities.abandon(name);
    context.events.append({ kind: "conversation-changed", conversation: wireId, atMs: context.now() });
    this.entered(id, this.communities.registry.load(id).group);
    this.afterwards(() => this.communities.reopen(id));
  }

  /** Whoever is removed knows the secret; whoever comes does not. */
  private rosterChanged(id: GroupId, before: GroupState, after: GroupState): void {
    const { state } = after.migration;
    if (!hasLease(state) || !this.preparer.isCreator(id)) return;
    const gone = [...before.members.keys()].some((key) => !after.members.has(key));
    const fresh = [...after.members.values()].filter(
      ({ account, invited }) => !invited && before.members.get(formatId(account))?.invited !== false,
    );
    if (gone) this.context.migration.setOwn(id, { secretDue: true });
    else
      this.preparer.tellNewcomers(
        id,
        fresh.map(({ account }) => account),
      );
    this.wake();
  }

  // ------------------------------------------------------------------------------------ what the log says

  /** Within how many ms what comes for a conversation's MLS group has to be taken. Nobody waits for one that is prepared. */
  patienceMs(id: GroupId): number {
    const { conversations, migration } = this.context;
    const { state } = migration.record(id);
    if ((state !== "preparing" && state !== "ready") || this.preparer.isCreator(id)) return 0;
    return SPREAD_MS_PER_MEMBER * conversations.countMembers(id);
  }

  /** Inside the transaction that merges a commit of a conversation's MLS group. */
  committed(id: GroupId, group: Group, proposals: Parameters<Switcher["committed"]>[2]): void {
    this.switcher.committed(id, group, proposals);
    // The log goes on: what it may lack next is waited for as long as the first.
    this.standsStillSinceMs.delete(formatId(id));
    const epoch = Number(group.epoch);
    const ours = this.context.mls.epochHash(id, epoch);
    if (ours !== undefined) this.context.migration.settleClaims(id, epoch, ours);
    this.wake();
  }

  /** Inside the transaction: the newest commit of a conversation's MLS group was taken back. */
  takenBack(id: GroupId, epoch: number): void {
    this.switcher.takenBack(id, epoch);
    this.wake();
  }

  /** Inside the transaction that enters the MLS group of a conversation: the device that prepares it is told. */
  entered(id: GroupId, group: Group): void {
    const { context } = this;
    const { state, creator, generation } = context.migration.record(id);
    context.migration.setOwn(id, { enteredEpoch: Number(group.epoch) });
    // What its log lacked is behind it.
    for (const waits of [this.lackedWith, this.standsStillSinceMs]) waits.delete(formatId(id));
    const community = communityContextOf(group.context.extensions);
    if (creator === undefined || !context.migration.isMoving(id)) {
      if (hasSwitched(state)) this.switcher.switchIfReached(id);
      return;
    }
    this.switcher.switchIfReached(id);
    if (!community.preparing || this.preparer.isCreator(id)) return;
    const messageId = context.newMessageId();
    const own = context.isOwn(creator.accountId);
    context.outbox.append({
      lane: own ? lanes.own : lanes.account(creator.accountId),
      target: { kind: own ? "own" : "account", account: creator.accountId },
      messageId,
      content: encodeContent({
        messageId,
        group: { groupId: id, revision: context.conversations.group(id)?.revision ?? 0 },
        migrationReady: { generation, epoch: Number(group.epoch), authenticator: authenticatorHash(group) },
      }),
      confirm: false,
      createdAtMs: context.now(),
    });
    this.afterwards(async () => this.effects.wake(own ? lanes.own : lanes.account(creator.accountId)));
  }

  /** The log of a conversation's MLS group stands still before a commit whose key is not here. */
  lacksKey(id: GroupId, { adds }: { readonly adds: boolean }): void {
    this.lackedWith.set(formatId(id), this.context.migration.countSecrets(id));
    if (adds) this.switcher.refuseNewcomers(id);
    this.wake();
  }

  /** Before this device enters a group from outside, which would be `group`: whether it may. */
  admits(id: GroupId, group: Group): boolean {
    const isAdmitted = this.switcher.admits(id, group);
    if (!isAdmitted) this.wake();
    return isAdmitted;
  }

  /**
   * What a Welcome is for whose group is not known: for a conversation whose record has gone on without us, or for an
   * attempt that is over. Undefined for any other, and where the group is known: also once a record has named it that was
   * read for its Welcome. Into a group that this device itself makes nobody lets it in: somebody has guessed its name.
   * O(pairwise groups).
   */
  expects(wireId: Bytes): { readonly conversation: GroupId; readonly place: "early" | "over" } | undefined {
    const { conversations, migration, mls } = this.context;
    const known = mls.conversationOf(wireId);
    if (mls.group(known) !== undefined)
      return this.isMadeHere(known) ? { conversation: known, place: "over" } : undefined;
    for (const id of conversations.groups()) {
      const conversation = groupId(id);
      const place = placeWelcome(conversation, migration.record(id).generation, wireId);
      if (place !== undefined) return { conversation, place };
    }
    return undefined;
  }

  private isMadeHere(id: GroupId): boolean {
    const { migration, mls } = this.context;
    const isOut = mls.group(id)?.state === "over";
    return this.preparer.isCreator(id) && migration.isMoving(id) && !isOut;
  }

  /**
   * Such a Welcome has come: the record says whether it is one. Its creator had written so before it made the group, so
   * that a Welcome which the record does not explain then is nobody's: whoever was ever in the conversation can make one.
   * Where it cannot be read it is tried again with whatever comes next, ever less often.
   */
  readRecord(id: GroupId): void {
    const key = formatId(id);
    if (this.reading.has(key) || this.readAgain.has(key)) return;
    this.reading.add(key);
    this.afterwards(async () => {
      const { mls } = this.context;
      const before = mls.welcomes().map((row) => row.id);
      let isRead = false;
      try {
        isRead = await this.groups.refresh(id);
      } finally {
        this.reading.delete(key);
        if (!isRead) this.readAgain.lengthen(key);
      }
      if (!isRead) return;
      this.readAgain.delete(key);
      this.context.transaction(() => {
        for (const { id: row, groupId: wireId } of mls.welcomes())
          if (before.includes(row) && this.expects(wireId) !== undefined) mls.deleteWelcome(row);
      });
      await this.communities.welcomesCame();
    });
  }

  /** Inside a transaction. True: dealt with, or held until its turn. */
  spoken(id: GroupId, message: SpokenMessage, content: Content): boolean {
    if (this.context.migration.record(id).generation === 0) return false;
    if (content.groupChange !== undefined) {
      this.noticed(id, content.groupChange.change);
      return true;
    }
    return this.order.holds(id, message, content);
  }

  /** The change that switches, or one behind it, said in the MLS group. */
  private noticed(id: GroupId, change: Bytes): void {
    if (this.records.receiveChange(id, change) !== "behind") return;
    this.afterwards(async () => void (await this.groups.refresh(id)));
  }

  // ------------------------------------------------------------------------------------- what peers say

  /**
   * Whether more may be taken of a log now. Nobody who keeps the rules speaks in a group that its conversation does not go by
   * yet: where one device has said much there, the record has the switch, and is read first. Otherwise that one does not keep
   * them, and keeps nobody from going on.
   */
  mayTakeMore(id: GroupId): boolean {
    const key = `full ${formatId(id)}`;
    const nowMs = this.context.now();
    const isRead = nowMs < (this.lookAtMs.get(key) ?? 0);
    if (isRead || !this.context.migration.isMoving(id) || !this.order.isAlmostFull(id)) return true;
    this.lookAtMs.set(key, nowMs + ASK_AGAIN_MS);
    this.afterwards(() => this.readOnBehindRecord(id, key));
    return false;
  }

  private async readOnBehindRecord(id: GroupId, key: string): Promise<void> {
    const { closing, environment } = this.context;
    try {
      await this.groups.refresh(id);
    } catch (error) {
      if (!isTemporary(error)) throw error;
      this.lookAtMs.delete(key);
      await environment.sleep(LOOK_MS, closing.signal);
    }
    if (!closing.signal.aborted && this.communities.isStandingStill(id)) await this.communities.reopen(id);
  }

  /** Inside a transaction: the secret of the switch, from the device that prepares it. */
  receiveSecret(id: GroupId, sender: DeviceAddress, body: NonNullable<Content["migrationSecret"]>): void {
    const { migration } = this.context;
    const { generation, round, secret } = body;
    const record = migration.record(id);
    const isCreator =
      record.creator !== undefined &&
      equalBytes(record.creator.accountId, sender.accountId) &&
      record.creator.deviceId === sender.deviceId;
    if (!isCreator || record.generation !== generation) throw new RejectionError("migration/not-the-creator");
    if (migration.countSecrets(id) >= MAX_SECRETS) throw new RejectionError("migration/too-many-secrets");
    migration.putSecret(id, generation, round, secret);
    this.afterwards(() => this.readOnWithKey(id));
  }

  /** Inside a transaction: a device is ready. Its epoch has to be ours, or the service shows it another group. */
  receiveReady(id: GroupId, sender: DeviceAddress, body: NonNullable<Content["migrationReady"]>): void {
    const { migration, mls } = this.context;
    if (!this.preparer.isCreator(id) || migration.record(id).generation !== body.generation) return;
    // The mailbox may be faster than the log of the group.
    if (body.epoch > (mls.newestEpoch(id)?.epoch ?? -1)) {
      migration.claimReady(id, sender, body);
      return;
    }
    const ours = mls.epochHash(id, body.epoch);
    if (ours === undefined || !equalBytes(ours, body.authenticator)) return;
    migration.setReady(id, sender);
    // It may have been linked after the others were told the secret.
    if (mls.leavesOf(id, sender.accountId).length > 1) {
      this.preparer.tellNewcomers(id, [sender.accountId]);
      const own = this.context.isOwn(sender.accountId);
      this.afterwards(async () => this.effects.wake(own ? lanes.own : lanes.account(sender.accountId)));
    }
    this.wake();
  }

  /** Inside a transaction: a device speaks pairwise, and we have switched. The signed change says so, over its own session. */
  private tellOf(conversation: Bytes, device: DeviceAddress): void {
    const { context } = this;
    const revision = context.conversations.group(conversation)?.revision ?? 0;
    const change = this.newestSwitch(conversation);
    if (change === undefined || context.isOwn(device.accountId)) return;
    const messageId = context.newMessageId();
    context.outbox.append({
      lane: lanes.account(device.accountId),
      target: { kind: "account", account: device.accountId },
      messageId,
      content: encodeContent({
        messageId,
        group: { groupId: groupId(conversation), revision },
        groupChange: { change },
      }),
      confirm: false,
      createdAtMs: context.now(),
    });
    this.afterwards(async () => this.effects.wake(lanes.account(device.accountId)));
  }

  /** The change of the record by which the conversation has switched: one of the last. */
  private newestSwitch(conversation: Bytes): Bytes | undefined {
    return this.context.conversations
      .changes(conversation)
      .toReversed()
      .find((change) => verifyChange(change).action.kind === "migrate-switch");
  }

  /** Inside a transaction: what was held may have its turn now. */
  release(id: GroupId): void {
    this.order.release(id, (message) => this.communities.show(id, message));
  }

  // ------------------------------------------------------------------------------------------------ work

  /** Not before the transaction in which it is called has ended. */
  private afterwards(work: () => Promise<void>): void {
    this.effects.behind(async () => {
      await Promise.resolve();
      await work();
    });
  }

  /** Something happened that may let a move go on. */
  wake(): void {
    this.wakes++;
    this.look();
  }

  private look(): void {
    this.again = true;
    this.changed.notify();
    if (this.running) return;
    this.running = true;
    this.afterwards(() => this.run());
  }

  /** With a connection: takes up whatever was begun. */
  connected(): void {
    const { conversations, migration } = this.context;
    this.readAgain.clear();
    for (const id of conversations.groups()) {
      if (migration.record(id).generation === 0) this.startIfNear(groupId(id));
    }
    this.wake();
  }

  /** One loop for all conversations, as long as there is something to do. However many of them wait, it does not for long. */
  private async run(): Promise<void> {
    try {
      while (!this.context.closing.signal.aborted && this.hasWork()) {
        this.again = false;
        const went = await Promise.all(this.open().map((id) => this.attend(groupId(id))));
        if (went.includes(true)) this.again = true;
        if (!this.again) await this.pause();
      }
    } finally {
      this.running = false;
    }
  }

  private hasWork(): boolean {
    return this.open().length > 0;
  }

  private open(): readonly Bytes[] {
    const { conversations, held, migration } = this.context;
    const open = new Map<string, Bytes>();
    for (const id of [...migration.open(), ...migration.withWaiting(), ...held.subjects("mls")]) {
      // Whoever is out, or not in yet, has nothing to do with the move.
      const state = conversations.get(id)?.state;
      if (state === "active" || state === "request") open.set(formatId(groupId(id)), id);
    }
    return [...open.values()];
  }

  private async pause(): Promise<void> {
    const done = new AbortController();
    const abort = AbortSignal.any([done.signal, this.context.closing.signal]);
    const { environment } = this.context;
    const nextAtMs = Math.min(this.preparer.nextStepAtMs, this.nextAddAtMs, this.lulls.takeNextAtMs());
    this.nextAddAtMs = Number.POSITIVE_INFINITY;
    const untilRested = Math.max(1, nextAtMs - this.context.now());
    await Promise.race([this.changed.wait(abort), environment.sleep(Math.min(LOOK_MS, untilRested), abort)]);
    done.abort();
  }

  /**
   * True when something was done, and it is worth to look again. What waits for long, for the service or for members who
   * keep something back, goes on by itself: the leases of other moves would run out over it.
   */
  private async attend(id: GroupId): Promise<boolean> {
    const key = formatId(id);
    if (this.busy.has(key)) return false;
    this.busy.add(key);
    const { wakes } = this;
    const attempt = this.attempt(id).finally(() => this.busy.delete(key));
    const { closing, environment } = this.context;
    const isOver = new AbortController();
    const abort = AbortSignal.any([isOver.signal, closing.signal]);
    const late = environment.sleep(PATIENCE_WITH_ONE_MS, abort).then(() => "late" as const);
    const first = await Promise.race([attempt, late]).finally(() => isOver.abort());
    if (first !== "late") return first;
    this.effects.behind(async () => {
      // What came meanwhile has found it busy. That it is over is nothing new for others: two would wake each other for ever.
      if ((await attempt) || this.wakes !== wakes) this.look();
    });
    return false;
  }

  private async attempt(id: GroupId): Promise<boolean> {
    try {
      return await this.advance(id);
    } catch (error) {
      // The record or the service decides otherwise; it is looked at again, and says what to do now. So where the record
      // has given up, meanwhile, the very group that was worked on.
      const isGone = error instanceof UsageError && error.code.startsWith("group/");
      if (error instanceof RejectionError || isTemporary(error) || isGone) return false;
      throw error;
    }
  }

  private async advance(id: GroupId): Promise<boolean> {
    const { context } = this;
    this.context.transaction(() => this.release(id));
    context.notifier.flush();
    const { state } = context.migration.record(id);
    const { refusal, switchedAtMs } = context.migration.own(id);
    if (hasSwitched(state) && state !== "recovering" && switchedAtMs > 0) {
      // The commit by which it has gone over was taken back.
      if (refusal !== "") return this.beginAnew(id);
      this.effects.wake(lanes.group(id));
      await this.addWaiting(id);
    }
    if (hasSwitched(state) && state !== "recovering" && switchedAtMs === 0) return this.follow(id);
    await this.askWhetherSwitched(id);
    if (this.preparer.isCreator(id)) {
      const went = await this.preparer.advance(id);
      // Behind the switch nobody counts who is ready, but where a step was taken.
      if (went || hasLease(state)) this.tell(id);
      return went;
    }
    return (await this.finishInPlace(id)) || this.takeOver(id);
  }

  /**
   * The group has its switching commit, and nobody has told what the record says of it: whoever should have may not want
   * to, or is gone, or the service keeps it back.
   */
  private async askWhetherSwitched(id: GroupId): Promise<void> {
    const { migration } = this.context;
    const hasCommit = migration.own(id).reached !== undefined || this.communities.isStandingStill(id);
    if (!hasLease(migration.record(id).state) || !hasCommit || this.preparer.isCreator(id)) return;
    const key = `switch ${formatId(id)}`;
    const nowMs = this.context.now();
    const dueMs = this.lookAtMs.get(key);
    if (dueMs === undefined || nowMs < dueMs) {
      const members = this.context.conversations.countMembers(id);
      if (dueMs === undefined) this.lookAtMs.set(key, nowMs + LOOK_MS + REST_MS_PER_MEMBER * members);
      return;
    }
    this.lookAtMs.set(key, nowMs + ASK_AGAIN_MS);
    await this.groups.refresh(id);
  }

  /** Somebody else has switched: by the log, or from outside. Where the roster does not fit, a role holder begins anew. */
  private async follow(id: GroupId): Promise<boolean> {
    const { context } = this;
    const isDue = this.switcher.decide(id).decision.kind === "switch";
    if (isDue && context.transaction(() => this.switcher.switchIfReached(id))) {
      context.notifier.flush();
      return true;
    }
    if (this.effects.isCaughtUp()) await this.takeUpWhatCame(id);
    else this.wakeWhenCaughtUp();
    if (context.migration.own(id).switchedAtMs > 0) return true;
    const { state, generation } = context.migration.record(id);
    const step = decideFollow({
      state,
      hasSwitched: false,
      isRefused: this.isRefused(id),
      isRoleHolder: this.isRoleHolder(id),
      place: this.placeIn(id),
      isStandingStill: this.communities.isStandingStill(id),
      isMailboxEmpty: this.effects.isCaughtUp(),
    });
    if (step === "recover") return this.beginAnew(id);
    if (step === "wait" && context.mls.group(id)?.state === "active") this.noteBehind(id);
    if (step !== "enter" || this.enterAgain.has(formatId(id))) return false;
    if (!(await this.mustComeFromOutside(id))) return false;
    await this.enter(id, generation);
    context.transaction(() => this.switcher.switchIfReached(id));
    context.notifier.flush();
    return true;
  }

  /** An owner or admin begins the next generation in the place of a switch that this device refuses. */
  private async beginAnew(id: GroupId): Promise<boolean> {
    if (!this.isRoleHolder(id)) return false;
    const { generation } = this.context.migration.record(id);
    await this.groups.change(id, ({ migration }) =>
      migration.generation === generation && (migration.state === "switching" || migration.state === "mls")
        ? { kind: "migrate-recover", generation: generation + 1 }
        : undefined,
    );
    return true;
  }

  private isRoleHolder(id: GroupId): boolean {
    const { conversations, own } = this.context;
    return (conversations.member(id, own.accountId)?.role ?? "member") !== "member";
  }

  /**
   * Whether a Welcome or the secret will not come any more. Both were sent before the switch: they are in the mailbox, or
   * were kept out of it because it was full. Who comes in from outside has not got what was said before.
   */
  private async mustComeFromOutside(id: GroupId): Promise<boolean> {
    const { mls } = this.context;
    const { joiner } = this.communities;
    const wireId = mls.wireIdOf(id);
    // One that waits for a log which stands still is waited for no longer than what the log lacks.
    if (joiner.dueWelcomes().some(({ groupId: named }) => equalBytes(named, wireId))) return false;
    const key = formatId(id);
    const isIn = mls.group(id)?.state === "active";
    if (!isIn && !(await joiner.isAdded(id))) return true;
    const sinceMs = this.standsStillSinceMs.get(key) ?? this.context.now();
    this.standsStillSinceMs.set(key, sinceMs);
    return this.context.now() >= sinceMs + this.context.settings.migrationPatienceMs;
  }

  private placeIn(id: GroupId): "in" | "outside" | "out" {
    const { conversations, mls } = this.context;
    const state = mls.group(id)?.state;
    if (state === "active") return "in";
    const isMember = conversations.get(id)?.state === "active";
    return state === undefined || state === "creating" || !isMember ? "out" : "outside";
  }

  private async enter(id: GroupId, generation: number): Promise<void> {
    const { mls } = this.context;
    // Removed, and added again: the leaf is gone, and the group is the same.
    if (mls.group(id)?.state === "over")
      this.context.transaction(() => mls.expectGroup(id, migrationGroupId(id, generation)));
    try {
      await this.communities.joinExpected(id);
    } catch (error) {
      // The group expects nobody of this account, or has not got so far at a service that was set back.
      if (!isTemporary(error)) this.enterAgain.lengthen(formatId(id));
      throw error;
    }
  }

  /** At the door, or by what this device has seen: not what was noted of a commit that was made anew since. */
  private isRefused(id: GroupId): boolean {
    const { reached, refusal } = this.context.migration.own(id);
    const isAtTheDoor = reached === undefined && refusal !== "";
    return isAtTheDoor || this.switcher.decide(id).decision.kind === "refuse";
  }

  /** A Welcome or a secret may have come, and the work on it not begun. A Welcome of another group that fails is no matter of this one. */
  private async takeUpWhatCame(id: GroupId): Promise<void> {
    if (this.context.mls.group(id)?.state !== "active") await this.communities.welcomesCame();
    else await this.readOnWithKey(id);
  }

  /**
   * Reads the log on that stands still, once for each secret that has come since. Whoever looked for it whenever something
   * happens would see it stand still again, which is something that happens.
   */
  private async readOnWithKey(id: GroupId): Promise<void> {
    const key = formatId(id);
    const before = this.lackedWith.get(key);
    if (before === undefined || !this.communities.isStandingStill(id)) return;
    if (this.context.migration.countSecrets(id) <= before) return;
    this.lackedWith.delete(key);
    await this.communities.reopen(id);
  }

  /**
   * The log stood still before the word of the switch came: no key is waited for any more. Where this device does not get so
   * far, its next start or connection reads the log all the same.
   */
  private async readOnBehindSwitch(id: GroupId): Promise<void> {
    if (this.lackedWith.delete(formatId(id)) && this.communities.isStandingStill(id))
      await this.communities.reopen(id);
  }

  private wakeWhenCaughtUp(): void {
    if (this.waitsForMailbox) return;
    this.waitsForMailbox = true;
    this.effects.behind(async () => {
      await this.effects.caughtUp();
      this.waitsForMailbox = false;
      this.wake();
    });
  }

  /**
   * An invited account accepts. Behind the switch the record takes nothing more, and the group expects it; nothing to do
   * where the record has not switched. Throws like {@link Communities.joinExpected}.
   */
  async acceptBehindSwitch(id: GroupId): Promise<void> {
    const { migration } = this.context;
    if (!hasSwitched(migration.record(id).state) || migration.own(id).switchedAtMs > 0) return;
    await this.communities.joinExpected(id);
  }

  /**
   * The log does not come to where the record says that the group goes on. Its creator may have named an epoch that there
   * is not, or the service keeps the log back: only a person can tell, and a role holder then begins anew ({@link start}).
   */
  private noteBehind(id: GroupId): void {
    const { context } = this;
    const key = `behind ${formatId(id)}`;
    const nowMs = context.now();
    const dueMs = this.lookAtMs.get(key);
    if (dueMs === undefined) this.lookAtMs.set(key, nowMs + BEHIND_MS);
    if (dueMs === undefined || nowMs < dueMs) return;
    this.lookAtMs.set(key, Number.POSITIVE_INFINITY);
    context.transaction(() =>
      context.events.append({
        kind: "decision-needed",
        conversation: id,
        detail: "migration/switch-not-found",
        atMs: nowMs,
      }),
    );
    context.notifier.flush();
  }

  /** Some of the members that waited for the switch. They go through the same work as any that are added to a community. */
  private async addWaiting(id: GroupId): Promise<void> {
    const { migration } = this.context;
    const key = `add ${formatId(id)}`;
    const accounts = migration.waiting(id).slice(0, NEWCOMERS_AT_A_TIME);
    if (accounts.length === 0) return;
    const members = this.context.conversations.countMembers(id);
    const restsUntilMs = migration.own(id).switchedAtMs + restAfterSwitchMs(members);
    const dueAtMs = Math.max(restsUntilMs, this.lookAtMs.get(key) ?? 0);
    if (this.context.now() < dueAtMs) {
      this.nextAddAtMs = Math.min(this.nextAddAtMs, dueAtMs);
      return;
    }
    if (this.lulls.mustWait(id)) return;
    this.context.transaction(() => {
      this.communities.planMembers(id, accounts);
      migration.deleteWaiting(id, accounts);
    });
    await this.communities.runMembers(id);
    this.lookAtMs.set(key, this.context.now() + newcomerPauseMs(members));
  }

  /** The creator may have vanished. */
  private async takeOver(id: GroupId): Promise<boolean> {
    const { api, conversations, migration } = this.context;
    const { state } = migration.record(id);
    const facts = { state, isCreator: false, isRoleHolder: this.isRoleHolder(id), leaseLeftMs: 0 };
    const group = conversations.group(id);
    if (!mayTakeOver(facts) || group === undefined || !this.isMyMoment(formatId(id))) return false;
    const { migration: now } = await api.readGroup(id, group.groupKey);
    if (now === undefined || !mayTakeOver({ ...facts, leaseLeftMs: now.leaseLeftMs })) return false;
    await this.groups.change(id, (latest) => {
      const { state: present, generation } = latest.migration;
      if (present === "preparing" || present === "ready")
        return { kind: "migrate-prepare", generation: generation + 1 };
      return present === "recovering" ? { kind: "migrate-recover", generation: generation + 1 } : undefined;
    });
    return true;
  }

  /** The creator may have been removed since the switch, or be lost: the record is to say that the move is done all the same. */
  private async finishInPlace(id: GroupId): Promise<boolean> {
    const { migration, mls } = this.context;
    const { creator, generation, state } = migration.record(id);
    const leaves = creator === undefined ? [] : mls.leavesOf(id, creator.accountId);
    const facts = {
      state,
      isRoleHolder: this.isRoleHolder(id),
      isCreatorIn: leaves.some(({ device }) => device === creator?.deviceId),
      switchedAtMs: migration.own(id).switchedAtMs,
      nowMs: this.context.now(),
    };
    if (!mayFinish(facts) || !this.isMyMoment(`finish ${generation} ${formatId(id)}`)) return false;
    await this.groups.change(id, ({ migration: present }) =>
      present.state === "switching" && present.generation === generation
        ? { kind: "migrate-done", generation }
        : undefined,
    );
    return true;
  }

  /** Several may do in the creator's place what one has to: the one whose moment comes first. Asked again, there is a next one. */
  private isMyMoment(key: string): boolean {
    const { environment } = this.context;
    const dueMs = this.lookAtMs.get(key);
    const nowMs = this.context.now();
    if (dueMs !== undefined && nowMs >= dueMs) {
      this.lookAtMs.delete(key);
      return true;
    }
    const spread = (new DataView(environment.random(4).buffer).getUint32(0) / 2 ** 32) * TAKE_OVER_LOOK_MS;
    // A clock that was set back makes no wait longer.
    if (dueMs === undefined || dueMs > nowMs + 2 * TAKE_OVER_LOOK_MS)
      this.lookAtMs.set(key, nowMs + TAKE_OVER_LOOK_MS + spread);
    return false;
  }

  /** Progress, for those who look on. */
  private tell(id: GroupId): void {
    const { migration, notifier } = this.context;
    const { state } = migration.record(id);
    const { accounts, ready } = this.readiness(id);
    notifier.tell({ kind: "migration", conversation: id, state, readyAccounts: ready, accounts });
  }
}

function authenticatorHash(group: Group): Bytes {
  const authenticator = group.epochAuthenticator();
  const hash = sha256(authenticator);
  authenticator.fill(0);
  return hash;
}

function waitsFor(state: Migration["state"], membersMissing: boolean): Migration["waitsFor"] {
  if (state === "pairwise" || state === "mls") return "nothing";
  if (state === "preparing" || state === "recovering") return membersMissing ? "members" : "service";
  return state === "ready" ? "switch" : "service";
}

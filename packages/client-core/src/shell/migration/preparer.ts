/**
 * The device that prepares a group's move to MLS. Each step is one that {@link decidePreparation} names; it is taken up
 * again where it stopped, after a crash or a lost connection, and each of them may be done twice.
 *
 *   create       PERSIST the MLS group under its derived id -> the service hears of it
 *   draw-secret  PERSIST 32 random bytes and the message that brings them to every member over its pairwise sessions
 *   add, remove  commits, until the leaves are the devices of the record
 *   mark-ready   the record says so
 *   switch       one commit (path, PSK, roles of the record) -> PERSIST what it led to -> members take it, and talk on
 *                -> the record says so
 *   finish       everybody was told -> the record says so; members that waited are added
 */
import {
  type AccountId,
  type Bytes,
  compareBytes,
  equalBytes,
  formatId,
  type GroupId,
  groupId,
  type MessageId,
  UnavailableError,
} from "@murmuration/base";
import {
  type CommunityContext,
  communityContextOf,
  communityExtensions,
  type Group,
  type Proposal,
} from "@murmuration/mls-groups";
import { hasLease } from "@murmuration/wire";
import { encodeContent, MIGRATION_SECRET_BYTES } from "../../core/content.ts";
import type { GroupAction } from "../../core/group-change.ts";
import type { GroupState } from "../../core/group-record.ts";
import {
  deadlineAfterAdding,
  decidePreparation,
  decideSwitchWrite,
  fitsContext,
  mustCommitSwitch,
  type PreparationFacts,
  type PreparationStep,
  requireFewRoleHolders,
  TOO_MANY_ROLE_HOLDERS,
} from "../../core/migration/decisions.ts";
import { migrationGroupId } from "../../core/migration/keys.ts";
import { encodeMigrationPskId } from "../../core/migration/psk-id.ts";
import { fingerprintOf } from "../../core/profile.ts";
import { ServiceRefusal } from "../../core/refusal.ts";
import type { OutboxTarget } from "../../store/outbox.ts";
import type { CommitPlan } from "../communities/committer.ts";
import type { Communities } from "../communities/communities.ts";
import { type LeafOfRoster, leavesOf } from "../communities/leaves.ts";
import { encodeProfile, hashOfProfile } from "../communities/profile.ts";
import type { Context } from "../context.ts";
import type { GroupLedger } from "../group-ledger.ts";
import type { Groups } from "../groups.ts";
import { lanes } from "../lanes.ts";
import { Pauses } from "../pauses.ts";
import { Suspicions } from "../suspicions.ts";
import {
  GENTLE_ADDS,
  GENTLE_PATIENCE,
  GENTLE_PAUSE_MS_PER_MEMBER,
  LONGEST_REST_MS,
  REST_MS_PER_MEMBER,
} from "./gentle.ts";
import type { Lulls } from "./lulls.ts";
import { readinessBefore } from "./readiness.ts";
import { hashOfRoster } from "./roster.ts";

/** Before an account that could not be added is tried again, ms. */
const ADD_AGAIN_MS = 15_000;
/** How often a lease of 60 s is renewed, ms. */
const RENEW_EVERY_MS = 20_000;
/** What a service says to whoever it takes no commit from for an hour. */
const NOT_ALLOWED = "group/not-allowed";
/** Before the next generation is begun where the last one came to nothing as well, ms. */
const BEGIN_ANEW_MS = { first: 60_000, most: 3_600_000 };
/** KDF.Nh of the cipher suite (RFC 9420 section 8.4). */
const PSK_NONCE_BYTES = 32;

export class Preparer {
  private readonly context: Context;
  private readonly groups: Groups;
  private readonly records: GroupLedger;
  private readonly communities: Communities;
  private readonly lulls: Lulls;
  private readonly wake: (lane: string) => void;
  private readonly suspicions: Suspicions;
  /** When an account that could not be added was last tried, by conversation. */
  private readonly triedAtMs = new Map<string, number>();
  /** Until when members rest from what was done last, by conversation. */
  private readonly restsUntilMs = new Map<string, number>();
  /** Whom the last commit has brought and who may be here, and until when they are waited for, by conversation. */
  private readonly broughtLast = new Map<
    string,
    { readonly accounts: readonly AccountId[]; readonly untilMs: number }
  >();
  /** The step before which a conversation rests, or has rested, with its generation. */
  private readonly restedBefore = new Map<string, string>();
  /** Conversations whose members had time to take the commit of the switch, with their generation. */
  private readonly restedAfterCommit = new Map<string, number>();
  private readonly renewedAtMs = new Map<string, number>();
  /** Generation in whose group the service takes no commit of this device any more, by conversation. */
  private readonly shutOut = new Map<string, number>();
  /** Before a generation is begun in the place of another one of this device that came to nothing, by conversation. */
  private readonly begunAnew: Pauses;

  constructor(
    context: Context,
    groups: Groups,
    records: GroupLedger,
    communities: Communities,
    lulls: Lulls,
    wake: (lane: string) => void,
  ) {
    this.context = context;
    this.groups = groups;
    this.records = records;
    this.communities = communities;
    this.lulls = lulls;
    this.wake = wake;
    this.suspicions = new Suspicions(context);
    this.begunAnew = new Pauses(() => context.now(), BEGIN_ANEW_MS);
  }

  /** Whether this device prepares the present generation. */
  isCreator(id: GroupId): boolean {
    const { own, migration } = this.context;
    const { creator } = migration.record(id);
    return (
      creator !== undefined &&
      equalBytes(creator.accountId, own.accountId) &&
      creator.deviceId === own.deviceId
    );
  }

  /** Does what is to be done now. True when something was done, and it is worth to look again. */
  async advance(id: GroupId): Promise<boolean> {
    if (this.isShutOut(id)) return this.beginNext(id);
    try {
      return await this.takeStep(id);
    } catch (error) {
      if (!(error instanceof ServiceRefusal) || error.code !== NOT_ALLOWED) throw error;
      this.shutOut.set(formatId(id), this.context.migration.record(id).generation);
      return this.beginNext(id);
    }
  }

  private async takeStep(id: GroupId): Promise<boolean> {
    if (this.mayStep(id)) await this.renewLease(id);
    const step = decidePreparation(this.facts(id));
    switch (step) {
      case "create":
        await this.create(id);
        this.rest(id);
        return true;
      case "draw-secret":
        if (this.isResting(formatId(id)) || this.lulls.mustWait(id)) return false;
        this.drawSecret(id);
        this.rest(id);
        return true;
      case "remove":
        await this.remove(id);
        return true;
      case "add":
        return this.add(id);
      case "mark-ready":
        if (this.lulls.mustWait(id)) return false;
        await this.step(id, (generation) => ({ kind: "migrate-ready", generation }));
        return true;
      case "switch":
        if (this.restsBefore(id, "switch") || this.lulls.mustWait(id)) return false;
        await this.switch(id);
        return true;
      case "finish":
        return this.finish(id);
      case "give-up":
        return this.giveUp(id);
      default:
        return false;
    }
  }

  /**
   * Whether this device can commit nothing more in the group that it prepares: a commit of its was taken back, and the service
   * takes none from it, or it did not go back with the others. That members say they are in another group of that name is
   * their word alone, and keeps no group from moving.
   */
  private isShutOut(id: GroupId): boolean {
    const { migration, mls } = this.context;
    const { generation, state } = migration.record(id);
    const isParted = mls.group(id)?.forked === true && mls.disputants(id).length === 0;
    const isOut = this.shutOut.get(formatId(id)) === generation || isParted;
    return isOut && hasLease(state) && this.mayStep(id);
  }

  /**
   * The next generation is another group. Where that goes wrong again and again it is begun ever less often, and nobody's lease
   * is renewed meanwhile: somebody else may have more luck.
   */
  private async beginNext(id: GroupId): Promise<boolean> {
    const key = formatId(id);
    if (this.begunAnew.has(key)) return false;
    this.begunAnew.lengthen(key);
    await this.takeNextName(id);
    return true;
  }

  /** The lease outlives a creator that works; nobody takes over from one that is only slow. */
  private async renewLease(id: GroupId): Promise<void> {
    const { api, conversations, migration } = this.context;
    const { state, generation } = migration.record(id);
    const { lease: leaseToken } = migration.own(id);
    const group = conversations.group(id);
    if (leaseToken === undefined || group === undefined || !hasLease(state)) return;
    const key = formatId(id);
    const last = this.renewedAtMs.get(key) ?? Number.NEGATIVE_INFINITY;
    if (this.context.now() < last + RENEW_EVERY_MS) return;
    try {
      await api.renewLease(id, group.groupKey, { generation, leaseToken });
    } catch (error) {
      // A member has written the record forward, at a service that was set back, with a token of nobody: that lease runs out.
      if (!(error instanceof ServiceRefusal) || error.code !== "migration/lease-lost") throw error;
    }
    this.renewedAtMs.set(key, this.context.now());
  }

  private mayStep(id: GroupId): boolean {
    const { conversations, own } = this.context;
    const member = conversations.member(id, own.accountId);
    return member !== undefined && !member.invited && member.role !== "member";
  }

  /** What costs O(members) is looked at only where the step depends on it: this is asked again and again. */
  private facts(id: GroupId): PreparationFacts {
    const { context } = this;
    const { mls, migration } = context;
    const own = migration.own(id);
    const stands = mls.group(id)?.state === "active";
    const countStrangers = () => (stands ? this.strangers(id).length : 0);
    const fits = () => fitsContext(this.records.state(id));
    const countMissing = () => (stands ? this.missing(id).length : 0);
    return {
      state: migration.record(id).state,
      mayStep: this.mayStep(id),
      get fitsContext() {
        return fits();
      },
      stands,
      secretDue: own.round === 0 || own.secretDue,
      secretSent: this.isSecretSent(own.secretMessage),
      get toRemove() {
        return countStrangers();
      },
      get toAdd() {
        return countMissing();
      },
      get everybodyReady() {
        return readinessBefore(context, id).awaited === 0;
      },
      deadlineAtMs: own.deadlineAtMs,
      finishNow: own.finishNow,
      nowMs: context.now(),
    };
  }

  /**
   * The record has more owners and admins by now than an MLS group can: a person has to take some of these roles back. While
   * the group recovers that is only done by removing: this device keeps its lease, so that nobody begins anew in vain.
   */
  private async giveUp(id: GroupId): Promise<boolean> {
    this.suspicions.note(id, TOO_MANY_ROLE_HOLDERS);
    const { generation, state } = this.context.migration.record(id);
    if (state === "recovering") return false;
    await this.groups.change(id, ({ migration }) =>
      migration.generation === generation && (migration.state === "preparing" || migration.state === "ready")
        ? { kind: "migrate-abort", generation }
        : undefined,
    );
    return true;
  }

  /** Whether it has left for the members; one whose mailbox is full has a row of its own, and holds nobody up. */
  private isSecretSent(message: MessageId | undefined): boolean {
    if (message === undefined) return false;
    const { outbox } = this.context;
    return outbox.waitingIds(message).every((row) => outbox.get(row)?.target.kind !== "group");
  }

  // ------------------------------------------------------------------------------------------- the group

  /** The group is the creator's alone until the switch, which puts the record's roles in force. */
  private async create(id: GroupId): Promise<void> {
    const { context } = this;
    if (context.mls.group(id)?.state !== "creating") {
      const { generation } = context.migration.record(id);
      const state = this.records.state(id);
      requireFewRoleHolders(state);
      const profile = { title: state.title, description: "" };
      await this.communities.prepare(id, migrationGroupId(id, generation), profile, {
        generation,
        expireAfterSeconds: state.expireAfterSeconds,
      });
    } else await this.communities.openPrepared(id);
    // We are not in the group that is there: somebody guessed the name.
    if (context.mls.group(id)?.state === "over") await this.takeNextName(id);
  }

  /** A group of that name is at the service already, or nothing can be done in it: the next one is as good. */
  private async takeNextName(id: GroupId): Promise<void> {
    const { generation } = this.context.migration.record(id);
    await this.groups.change(id, ({ migration }) => {
      if (migration.generation !== generation) return undefined;
      if (migration.state === "preparing" || migration.state === "ready")
        return { kind: "migrate-prepare", generation: generation + 1 };
      return migration.state === "recovering"
        ? { kind: "migrate-recover", generation: generation + 1 }
        : undefined;
    });
  }

  /**
   * PERSIST the secret with what brings it to the members: one message to the group. What was committed with the one before
   * is not what the record is to name: whoever was removed since knows that, and is in its roster. O(members).
   */
  private drawSecret(id: GroupId): void {
    const { context } = this;
    const { generation } = context.migration.record(id);
    const secret = context.environment.random(MIGRATION_SECRET_BYTES);
    const woken = context.transaction(() => {
      const round = context.migration.own(id).round + 1;
      const message = context.newMessageId();
      context.migration.putSecret(id, generation, round, secret);
      context.migration.setOwn(id, { round, secretDue: false, secretMessage: message, reached: undefined });
      const targets: OutboxTarget[] = [{ kind: "group", group: id }];
      if (context.engine.devicesOf(context.own.accountId).length > 0)
        targets.push({ kind: "own", account: context.own.accountId });
      return targets.map((target) => this.sendSecret(id, target, { message, round, secret }));
    });
    secret.fill(0);
    for (const lane of woken) this.wake(lane);
  }

  /** Inside a transaction. Returns the lane. */
  private sendSecret(
    id: GroupId,
    target: OutboxTarget,
    {
      message,
      round,
      secret,
    }: { readonly message: MessageId; readonly round: number; readonly secret: Bytes },
  ): string {
    const { context } = this;
    const { generation } = context.migration.record(id);
    const lane = this.laneOf(id, target);
    context.outbox.append({
      lane,
      target,
      messageId: message,
      content: encodeContent({
        messageId: message,
        group: { groupId: id, revision: context.conversations.group(id)?.revision ?? 0 },
        migrationSecret: { generation, round, secret },
      }),
      confirm: false,
      createdAtMs: context.now(),
    });
    return lane;
  }

  /** While the group recovers the service takes nothing that names it. */
  private laneOf(id: GroupId, target: OutboxTarget): string {
    if (target.kind === "own") return lanes.own;
    if (target.kind !== "group") return lanes.account(target.account);
    return this.context.migration.record(id).state === "recovering" ? lanes.migration(id) : lanes.group(id);
  }

  /** Inside a transaction: these came into the record, or have a device that may not have been told. */
  tellNewcomers(id: GroupId, accounts: readonly AccountId[]): void {
    const { context } = this;
    const { generation } = context.migration.record(id);
    const { round } = context.migration.own(id);
    const secret = context.migration.secret(id, generation, round);
    if (secret === undefined) return;
    for (const account of accounts) {
      const kind = context.isOwn(account) ? "own" : "account";
      this.sendSecret(id, { kind, account }, { message: context.newMessageId(), round, secret });
    }
    secret.fill(0);
  }

  // ----------------------------------------------------------------------------------------- the members

  /** Leaves of accounts that are not in the record, or not under this identity. */
  private strangers(id: GroupId): readonly LeafOfRoster[] {
    return foreignLeaves(this.communities.registry.load(id).group, this.records.state(id));
  }

  /**
   * Accounts of the record without a leaf that the next commit brings: some at a time ({@link GENTLE_ADDS}), and without
   * those whose last try is not long ago.
   */
  private missing(id: GroupId): readonly AccountId[] {
    const { mls } = this.context;
    const nowMs = this.context.now();
    const key = formatId(id);
    const failed = mls.failedJobs(id, "add").map(({ account }) => formatId(account));
    const mayRepeat = nowMs >= (this.triedAtMs.get(key) ?? Number.NEGATIVE_INFINITY) + ADD_AGAIN_MS;
    return this.withoutLeaf(id)
      .filter((account) => mayRepeat || !failed.includes(formatId(account)))
      .slice(0, GENTLE_ADDS);
  }

  /** O(members), and one question. */
  private withoutLeaf(id: GroupId): readonly AccountId[] {
    const present = new Set(this.context.mls.leaves(id).map(({ account }) => formatId(account)));
    return [...this.records.state(id).members.values()]
      .filter(({ account, invited }) => !invited && !present.has(formatId(account)))
      .map(({ account }) => account);
  }

  /** False while members rest from the last ones, or these are not in yet. */
  private async add(id: GroupId): Promise<boolean> {
    const { mls } = this.context;
    const key = formatId(id);
    if (this.isResting(key) || this.areComing(id) || this.lulls.mustWait(id)) return false;
    const accounts = this.missing(id);
    await this.communities.prepareMembers(id, accounts);
    if (mls.failedJobs(id, "add").some(({ failure }) => failure === NOT_ALLOWED))
      this.shutOut.set(key, this.context.migration.record(id).generation);
    const nowMs = this.context.now();
    const pauseMs = GENTLE_PAUSE_MS_PER_MEMBER * this.context.conversations.countMembers(id);
    const failed = accounts.filter((account) => mls.leavesOf(id, account).length === 0);
    if (accounts.length === GENTLE_ADDS) {
      this.restsUntilMs.set(key, nowMs + pauseMs);
      const quiet = this.context.heard.quiet(id, nowMs);
      const coming = accounts.filter((account) => !failed.includes(account) && !quiet.isQuiet(account));
      this.broughtLast.set(key, { accounts: coming, untilMs: nowMs + GENTLE_PATIENCE * pauseMs });
    }
    if (failed.length > 0) this.triedAtMs.set(key, nowMs);
    if (failed.length < accounts.length) this.giveTimeToJoin(id);
    return true;
  }

  /** Whether those who were brought last have still to say that they are in. Devices that have much to do are given less. */
  private areComing(id: GroupId): boolean {
    const { accounts = [], untilMs = 0 } = this.broughtLast.get(formatId(id)) ?? {};
    if (!this.isToCome(untilMs)) return false;
    const ready = new Set(this.context.migration.ready(id).map(({ accountId }) => formatId(accountId)));
    return accounts.some((account) => !ready.has(formatId(account)));
  }

  private giveTimeToJoin(id: GroupId): void {
    const { migration, settings } = this.context;
    const { deadlineAtMs, startedAtMs } = migration.own(id);
    const next = deadlineAfterAdding({ deadlineAtMs, startedAtMs, nowMs: this.context.now(), ...settings });
    if (next !== deadlineAtMs) this.context.transaction(() => migration.setOwn(id, { deadlineAtMs: next }));
  }

  private async remove(id: GroupId): Promise<void> {
    await this.communities.committer.commit(id, (group) => {
      const proposals = foreignLeaves(group, this.records.state(id)).map(
        ({ leaf }): Proposal => ({ kind: "remove", removed: leaf }),
      );
      return proposals.length === 0 ? undefined : { options: { proposals } };
    });
  }

  // ------------------------------------------------------------------------------------------ the switch

  private async step(id: GroupId, action: (generation: number) => GroupAction): Promise<void> {
    const { generation } = this.context.migration.record(id);
    await this.groups.change(id, (state) => {
      if (state.migration.generation !== generation) return undefined;
      const next = action(generation);
      return isDone(state, next) ? undefined : next;
    });
  }

  /** Members have just been told something of the move: each has work with it. */
  private rest(id: GroupId): void {
    const members = this.context.conversations.countMembers(id);
    this.restsUntilMs.set(formatId(id), this.context.now() + REST_MS_PER_MEMBER * members);
  }

  private isResting(key: string): boolean {
    return this.isToCome(this.restsUntilMs.get(key) ?? 0);
  }

  private isToCome(untilMs: number): boolean {
    const leftMs = untilMs - this.context.now();
    // A clock that was set back makes no rest longer.
    return leftMs > 0 && leftMs <= LONGEST_REST_MS;
  }

  /** When the first of those who rest goes on, ms. O(conversations that move). */
  get nextStepAtMs(): number {
    const nowMs = this.context.now();
    const ends = [...this.broughtLast.values()].map(({ untilMs }) => untilMs);
    return Math.min(...[...this.restsUntilMs.values(), ...ends].filter((untilMs) => untilMs > nowMs));
  }

  /** Whether members still rest before a step with which each of them has work: once, from when it could be taken. */
  private restsBefore(id: GroupId, step: PreparationStep): boolean {
    const key = formatId(id);
    const named = `${step} ${this.context.migration.record(id).generation}`;
    if (this.restedBefore.get(key) !== named) {
      this.restedBefore.set(key, named);
      this.rest(id);
    }
    return this.isResting(key);
  }

  /**
   * The commit, and in another step the record that names it: members take the commit while they still talk pairwise, so
   * that the switch itself is little work. Where the record has gone on in between, the next step commits anew, and names
   * that one at once: a record that changes all the time must not keep the group from moving.
   */
  private async switch(id: GroupId): Promise<void> {
    const key = formatId(id);
    const { generation } = this.context.migration.record(id);
    const hasCommitted = await this.commitSwitch(id);
    if (!hasCommitted || this.restedAfterCommit.get(key) === generation) {
      await this.writeSwitch(id);
      return;
    }
    this.restedAfterCommit.set(key, generation);
    this.rest(id);
  }

  private async writeSwitch(id: GroupId): Promise<void> {
    const { migration } = this.context;
    const { generation } = migration.record(id);
    const { reached } = migration.own(id);
    if (reached === undefined) throw new UnavailableError("migration/not-switched");
    await this.groups.change(id, (state) => {
      const decision = decideSwitchWrite({
        state: state.migration.state,
        isSameGeneration: state.migration.generation === generation,
        secretDue: migration.own(id).secretDue,
        mustCommit: () => this.mustCommit(id, state),
      });
      if (decision !== "write") return undefined;
      const { epoch, authenticator, rosterHash } = reached;
      return { kind: "migrate-switch", generation, epoch, authenticator, rosterHash };
    });
  }

  /**
   * One commit that puts the record's members and roles in force; none if they are, by a commit of this generation. Whether
   * it made one.
   */
  private async commitSwitch(id: GroupId): Promise<boolean> {
    const { generation } = this.context.migration.record(id);
    let hasCommitted = false;
    await this.communities.committer.commit(id, (group) => {
      const state = this.records.state(id);
      // It may have been given up for another one while this waited for its turn.
      const isOver = state.migration.generation !== generation || !hasLease(state.migration.state);
      hasCommitted = !isOver && this.mustCommit(id, state);
      return hasCommitted ? this.planSwitch(id, group, state) : undefined;
    });
    return hasCommitted;
  }

  /** Whether the newest switching commit left anything else than the members and roles of the record. */
  private mustCommit(id: GroupId, state: GroupState): boolean {
    const { group } = this.communities.registry.load(id);
    const community = communityContextOf(group.context.extensions);
    return mustCommitSwitch({
      reached: this.context.migration.own(id).reached,
      rosterHash: hashOfRoster(leavesOf(group)),
      hasForeignLeaves: foreignLeaves(group, state).length > 0,
      isContextInForce:
        !community.preparing && sameContext(community, this.contextFor(community, group, state)),
    });
  }

  private planSwitch(id: GroupId, group: Group, state: GroupState): CommitPlan {
    const { context } = this;
    const { generation } = context.migration.record(id);
    const { round } = context.migration.own(id);
    const removed = foreignLeaves(group, state);
    const gone = new Set(removed.map(({ leaf }) => leaf));
    const staying = leavesOf(group).filter(({ leaf }) => !gone.has(leaf));
    const pskId = encodeMigrationPskId({
      groupId: groupId(new Uint8Array(group.groupId)),
      generation,
      round,
      rosterHash: hashOfRoster(staying),
    });
    const pskNonce = context.environment.random(PSK_NONCE_BYTES);
    const before = communityContextOf(group.context.extensions);
    const extensions = communityExtensions(this.contextFor(before, group, state));
    const proposals: Proposal[] = [
      ...removed.map(({ leaf }): Proposal => ({ kind: "remove", removed: leaf })),
      { kind: "psk", psk: { kind: "external", pskId, pskNonce } },
      { kind: "group_context_extensions", extensions },
    ];
    return { options: { proposals, cached: "none", path: "always" } };
  }

  /** What the record says, as the group's context. RejectionError {@link TOO_MANY_ROLE_HOLDERS}. */
  private contextFor(before: CommunityContext, group: Group, state: GroupState): CommunityContext {
    // The record may have gone on since this step was decided on.
    requireFewRoleHolders(state);
    const foreign = new Set(foreignLeaves(group, state).map(({ leaf }) => leaf));
    const inside = new Set(
      leavesOf(group)
        .filter(({ leaf }) => !foreign.has(leaf))
        .map(({ account }) => formatId(account)),
    );
    const profile = encodeProfile({ title: state.title, description: "" });
    const members = [...state.members.values()].sort((a, b) => compareBytes(a.account, b.account));
    return {
      ...before,
      preparing: false,
      roleHolders: members
        .filter(({ role, invited }) => role !== "member" && !invited)
        .map(({ account: accountId, role }) => ({ accountId, role: role as "admin" | "owner" })),
      expected: members
        .filter(({ account }) => !inside.has(formatId(account)))
        .map(({ account, identityKey }) => ({ accountId: account, fingerprint: fingerprintOf(identityKey) })),
      expireAfterSeconds: state.expireAfterSeconds,
      profileHash: hashOfProfile(profile),
    };
  }

  /** Everybody was told: the move is over. Not before all have gone over, as each of them has work with this as well. */
  private async finish(id: GroupId): Promise<boolean> {
    if (this.context.migration.own(id).switchedAtMs === 0) return false;
    if (this.restsBefore(id, "finish") || this.lulls.mustWait(id)) return false;
    await this.step(id, (generation) => ({ kind: "migrate-done", generation }));
    return true;
  }
}

function foreignLeaves(group: Group, state: GroupState): readonly LeafOfRoster[] {
  return leavesOf(group).filter(({ account, identityKey }) => {
    const member = state.members.get(formatId(account));
    return member === undefined || member.invited || !equalBytes(member.identityKey, identityKey);
  });
}

/** The record may have taken a step while this device was about to ask for it. */
function isDone(state: GroupState, action: GroupAction): boolean {
  const now = state.migration.state;
  if (action.kind === "migrate-ready") return now !== "preparing";
  return action.kind === "migrate-done" && now !== "switching";
}

function sameContext(a: CommunityContext, b: CommunityContext): boolean {
  const [first, second] = [communityExtensions(a), communityExtensions(b)];
  return first.every((extension, index) => equalBytes(extension.data, second[index]!.data));
}

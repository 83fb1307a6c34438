/**
 * MLS groups of this client: what they are made of, and what sets what off. Each part does one thing:
 *
 *   Registry    memory and database, kept equal          Access      groups on the present connection
 *   LogReader   the log, entry by entry                  Committer   own commits, one at a time
 *   MemberJobs  many members, commit by commit           Joiner      Welcomes and external commits
 *   Outgoing    own messages                             Turns       when to commit
 *   Governance  roles, settings, links, bans                 ProfileRequests, SharedHistory   for newcomers
 *   GroupPast    what is kept of the last days              Refeeder    a service that was set back
 *   Approvals   who asks to come by a link, and who lets in
 */
import {
  type AccountId,
  type Bytes,
  equalBytes,
  formatId,
  type GroupId,
  groupId,
  InvariantError,
  RejectionError,
  UnavailableError,
  UsageError,
} from "@murmuration/base";
import {
  type CommittedProposal,
  type CommunityContext,
  communityContextOf,
  communityExtensions,
  communityLeaf,
  decodeMemberCredential,
  deviceOf,
  Group,
  type Proposal,
} from "@murmuration/mls-groups";
import type { GroupEntries, GroupTurn, ServiceBody } from "@murmuration/wire";
import { backoffMs } from "../../core/backoff.ts";
import type { Content, GroupProfile } from "../../core/content.ts";
import type { InviteLink } from "../../core/invite-link.ts";
import { isTemporary, ServiceRefusal } from "../../core/refusal.ts";
import type { RosterAccount } from "../../store/migration.ts";
import type { JobAction } from "../../store/mls.ts";
import type { Connection } from "../connection.ts";
import type { Context } from "../context.ts";
import { lanes } from "../lanes.ts";
import type { Lines } from "../lines.ts";
import { withTimeout } from "../with-timeout.ts";
import { Access } from "./access.ts";
import { Approvals } from "./approvals.ts";
import { Committer } from "./committer.ts";
import { CommunityContent, type CommunityMessage } from "./content.ts";
import { EntriesTogether } from "./entries-together.ts";
import type { EpochReports } from "./epoch-reports.ts";
import { Governance } from "./governance.ts";
import { GroupNames } from "./group-names.ts";
import { communityCrypto, communityIdentity } from "./identity.ts";
import { Joiner, SERVICE_BEHIND } from "./joiner.ts";
import { KeyPackages } from "./key-packages.ts";
import { CommunityLedger } from "./ledger.ts";
import { isForbidden, LogReader, type MissingPsk } from "./log-reader.ts";
import { dropExpected, type LeftOut, MemberJobs } from "./member-jobs.ts";
import { Outgoing } from "./outgoing.ts";
import { GroupPast } from "./past.ts";
import { Pictures } from "./pictures.ts";
import { encodeProfile, hashOfProfile } from "./profile.ts";
import { ProfileRequests } from "./profile-requests.ts";
import { Refeeder } from "./refeeder.ts";
import { Registry } from "./registry.ts";
import { SharedHistory } from "./shared-history.ts";
import { Turns } from "./turns.ts";
import { Unhurried } from "./unhurried.ts";

/** What communities set off in the rest of the client. */
export interface CommunityEffects {
  wake(lane: string): void;
  /** The service answers this device, and knows it. */
  isConnected(): boolean;
  /** Inside a transaction: the log shows this own message, so it is accepted. */
  shown(outboxId: number): void;
  /** After the transaction: these own messages were shown. */
  settled(outboxIds: readonly number[]): void;
  /** A group is open on the present connection. */
  opened(): void;
  /** A commit was applied: what it replaced has to go in time. */
  committed(): void;
  /** Within how many ms what comes for a group has to be looked at; 0: at once. */
  patienceMs(id: GroupId): number;
  /** The database turned out to be an old copy. */
  restored(): void;
  /** The service turned out to be one. */
  serviceSetBack(): void;
  /**
   * A commit in the group that is prepared for this conversation needs a pre-shared key that is not here. Nothing is taken
   * from its log until {@link Communities.reopen} or {@link Communities.joinExpected}, or the next connection looks again.
   */
  pskMissing(id: GroupId, at: MissingPsk): void;
  /** Fetches the newest device list of an account that the service has. UnavailableError. */
  refreshDeviceList(account: AccountId): Promise<void>;
  /** Whether more may be taken of a group's log now; where not, nothing is until {@link Communities.reopen}, as above. */
  mayTakeMore(id: GroupId): boolean;
  /** Inside the transaction that merges a commit, the group being in its epoch. */
  merged(id: GroupId, group: Group, proposals: readonly CommittedProposal[]): void;
  /** Inside the transaction: the newest commit was taken back, and the group goes on from this epoch. */
  takenBack(id: GroupId, epoch: number): void;
  /** Inside the transaction by which this device has entered a group. */
  entered(id: GroupId, group: Group): void;
  /** Whether this device may come in from outside to what would then be the group of a conversation. */
  admits(id: GroupId, group: Group): boolean;
  /** Inside a transaction: content of a group that its conversation has moved to, or moves to. True: it is dealt with. */
  spoken(id: GroupId, message: CommunityMessage, content: Content): boolean;
  /** The conversation that an unknown group may be, or have been, prepared for; undefined for one that is known. */
  expects(wireId: Bytes): { readonly conversation: GroupId; readonly place: "early" | "over" } | undefined;
  /** A Welcome waits for what the record of this conversation says. */
  awaited(id: GroupId): void;
  /** Work that nobody waits for; what is temporary is tried again with the next connection. */
  behind(work: () => Promise<void>): void;
}

/** What the context of a group that is prepared begins with. */
export interface PreparedContext {
  readonly generation: number;
  readonly expireAfterSeconds: number;
}

/** What a group that is prepared for a conversation brings along. */
export interface CreateOptions {
  /** What the group is called by others, where that is not the conversation's id. */
  readonly wireId?: GroupId;
  /** What stands in the group context beside the defaults. */
  readonly context?: Partial<CommunityContext>;
}

/** How long a refused commit may stay before this device enters the group anew. */
const REFUSAL_PATIENCE_MS = 10_000;
/** Between noticing that entries of a log are missing and asking for them. */
const GAP_PAUSE_MS = 100;
/**
 * Ceilings of the pause after a temporary failure, where the service names none. The first ones are short: a node or an
 * engine is away for seconds, and nobody says when it is back.
 */
const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 10_000;
/** A service that asks for more time than this gets no more. */
const LONGEST_NAMED_MS = 60_000;
/** When communities are looked at again after the own device list changed. */
const NEW_DEVICE_PAUSES_MS = [0, 2_000, 10_000, 60_000];
/** Leaf lifetimes of the creator; nobody looks at them again. */
const CREATOR_LIFETIME_S = 90 * 86_400;

export class Communities {
  readonly registry: Registry;
  readonly outgoing: Outgoing;
  readonly committer: Committer;
  readonly governance: Governance;
  private readonly pictures: Pictures;
  readonly joiner: Joiner;
  readonly keyPackages: KeyPackages;
  readonly turns: Turns;
  readonly past: SharedHistory;
  readonly approvals: Approvals;
  private readonly context: Context;
  private readonly names: GroupNames;
  private readonly effects: CommunityEffects;
  private readonly access: Access;
  private readonly reader: LogReader;
  private readonly jobs: MemberJobs;
  private readonly ledger: CommunityLedger;
  private readonly reports: EpochReports;
  private readonly profiles: ProfileRequests;
  private readonly content: CommunityContent;
  private readonly refeeder: Refeeder;
  private readonly unhurried: Unhurried;
  private readonly together: EntriesTogether;
  /** Epoch in which a leave was last proposed, by group. */
  private readonly leaving = new Map<string, bigint>();
  /** Groups that broke on this connection, and whether they are left alone until the next one. */
  private readonly setAside = new Map<string, "entered-anew" | "left-alone">();
  private ready = false;
  /** How many connections there have been. */
  private connections = 0;
  /** What is to be tried again on this one. */
  private readonly retrying = new Set<string>();
  /** By group: the refused commit of which a person has been told. */
  private readonly toldOf = new Map<string, number>();

  constructor(
    context: Context,
    connection: Connection,
    lines: Lines,
    reports: EpochReports,
    effects: CommunityEffects,
  ) {
    this.context = context;
    this.names = new GroupNames(context, connection);
    this.effects = effects;
    const { names } = this;
    this.registry = new Registry(context);
    this.turns = new Turns(context);
    this.access = new Access(context, connection, names, this.registry, {
      opened: () => effects.opened(),
      takeEntries: () => this.together.flush(),
    });
    this.ledger = new CommunityLedger(context, lines);
    this.profiles = new ProfileRequests(context, this.registry, this.access, {
      say: (id) => content.sayProfile(id),
      sayOwed: (id) => content.sayOwed(id),
      wake: (lane) => effects.wake(lane),
      behind: (work) => effects.behind(work),
    });
    this.past = new SharedHistory(context, this.registry, lines, (lane) => effects.wake(lane));
    const content = new CommunityContent(context, this.registry, lines, this.profiles, this.past, (...said) =>
      effects.spoken(...said),
    );
    this.content = content;
    this.reports = reports;
    const { access, ledger, registry, turns } = this;
    const past = new GroupPast(context);
    this.unhurried = new Unhurried(context, (id) => effects.patienceMs(id));
    this.together = new EntriesTogether((frame) =>
      this.take(frame, (body) => this.unhurried.putOff(body, () => this.take(frame, () => false))),
    );
    this.refeeder = new Refeeder(context, names, registry, access, past, {
      open: (id) => this.orSetAside(id, () => this.open(id)),
      opened: (id) => this.resumeOf(id),
      serviceLost: () => this.keyPackagesLost(),
      behind: (work) => effects.behind(work),
    });
    this.reader = new LogReader(context, names, registry, access, ledger, content, reports, past, {
      parted: (id) => this.refeeder.wait(id),
      pskMissing: (id, at) => effects.pskMissing(id, at),
      mayTakeMore: (id) => effects.mayTakeMore(id),
      merged: (id, group, proposals) => effects.merged(id, group, proposals),
      takenBack: (id, epoch) => {
        this.leaving.delete(formatId(id));
        effects.takenBack(id, epoch);
      },
      shown: (id) => effects.shown(id),
      settled: (outboxIds) => effects.settled(outboxIds),
      stuck: (id) => this.openingOf(id, () => this.rejoin(id)),
      refused: (id, sequence) => this.openingOf(id, () => this.afterRefusal(id, sequence)),
      gap: (id) => this.openingOf(id, () => this.askAgain(id)),
      restored: () => effects.restored(),
      received: (id) => this.received(id),
    });
    const { reader } = this;
    this.committer = new Committer(context, names, registry, access, reader, turns);
    this.governance = new Governance(context, names, registry, this.committer);
    this.pictures = new Pictures(context, this.governance, () => effects.isConnected());
    this.jobs = new MemberJobs(context, this.committer, (account) => effects.refreshDeviceList(account));
    this.approvals = new Approvals(context, names, registry, this.governance, effects);
    this.joiner = new Joiner(
      context,
      names,
      registry,
      access,
      ledger,
      reports,
      turns,
      this.profiles,
      this.approvals,
      {
        entered: (id, group) => effects.entered(id, group),
        admits: (id, group) => effects.admits(id, group),
        expects: (wireId) => effects.expects(wireId),
        awaited: (id) => effects.awaited(id),
      },
    );
    this.keyPackages = new KeyPackages(context);
    this.outgoing = new Outgoing(
      context,
      names,
      registry,
      access,
      (id) => this.behindOf(id, () => this.commitProposals(id)),
      // Whoever is banned hears nothing more on this connection; opening the group anew says what we are.
      (id) => this.openingOf(id, () => this.openAnew(id)),
    );
  }

  // ------------------------------------------------------------------------------------------ connection

  /** The old connection is gone: its groups and turns with it. */
  disconnected(): void {
    this.ready = false;
    this.connections++;
    this.retrying.clear();
    this.setAside.clear();
    this.together.drop();
    this.access.disconnected();
    this.refeeder.disconnected();
    this.turns.reset();
  }

  /** A new pair of connections: everything is taken up where it stands. */
  connected(): void {
    this.effects.behind(() => this.takeUp());
  }

  private async takeUp(): Promise<void> {
    await this.attempt("key-packages", () => this.keyPackages.replenish());
    await this.welcomesCame();
    const groups = this.context.mls.groups().filter(({ state }) => state !== "over");
    // A group that does not answer must not hold the others up.
    for (const { id } of groups) this.openingOf(groupId(id));
    this.ready = true;
    this.registry.changed.notify();
  }

  /**
   * What fails while the service is away must not keep the groups closed: it is tried again, or `again` is, on this
   * connection and no later one, and one at a time under a name, however often it is asked for meanwhile. The service may
   * ask for more time than we would take, not for less.
   */
  private async attempt(name: string, work: () => Promise<void>, again = work, tries = 0): Promise<void> {
    const { connections } = this;
    try {
      await work();
    } catch (error) {
      if (!isTemporary(error)) {
        if (error instanceof RejectionError) return;
        throw error;
      }
      if (this.connections !== connections || this.retrying.has(name)) return;
      this.retrying.add(name);
      const { closing, environment } = this.context;
      const named = error instanceof ServiceRefusal ? (error.retryAfterMs ?? 0) : 0;
      const own = backoffMs(tries, FIRST_RETRY_MS, LONGEST_RETRY_MS, environment.random(4));
      this.effects.behind(async () => {
        await environment.sleep(Math.min(named, LONGEST_NAMED_MS) + own, closing.signal);
        // Whoever closes is woken at once, and would be for ever.
        if (closing.signal.aborted || this.connections !== connections) return;
        this.retrying.delete(name);
        await this.attempt(name, again, again, tries + 1);
      });
    }
  }

  isOpen(id: GroupId): boolean {
    return this.access.isOpen(id);
  }

  /** Sets the handle by which this device's leaf is woken, or takes it back. ServiceRefusal `group/not-open`, `group/not-a-member`. */
  async setPushHandle(id: GroupId, handle: Bytes | undefined): Promise<void> {
    await this.names.ask({ kind: "groupPushHandle", groupId: id, ...(handle && { handle }) });
  }

  /** The mailbox may have brought Welcomes. What they need may be away just now: nobody says when it is back. */
  async welcomesCame(): Promise<void> {
    const takeUp = () => this.attempt("welcomes", () => this.welcomes());
    const ids = this.joiner.dueWelcomes().map(({ groupId: wireId }) => this.names.conversation(wireId));
    if (!this.unhurried.putOffWelcomes(ids, () => this.effects.behind(takeUp))) await takeUp();
  }

  /** Takes Welcomes up that the mailbox has brought. */
  async welcomes(): Promise<void> {
    if (this.joiner.dueWelcomes().length === 0) return;
    const { entered, temporary } = await this.joiner.takeUp();
    for (const id of entered) await this.opening(id, () => this.openAnew(id));
    this.effects.behind(() => this.keyPackages.replenish());
    // Whoever waits for the last Welcome has nothing to wait for any more, also where it was worth nothing.
    this.registry.changed.notify();
    if (temporary !== undefined) throw temporary;
  }

  /** A Welcome may have waited for the log to say that this device is in the group no more. */
  private welcomesIfOver(id: GroupId): void {
    if (this.context.mls.group(id)?.state === "over") this.effects.behind(() => this.welcomesCame());
  }

  /** Every group is open and caught up, and no Welcome waits. */
  get caughtUp(): boolean {
    if (!this.ready || this.joiner.dueWelcomes().length > 0) return false;
    return this.context.mls
      .groups()
      .every(
        ({ id, state }) =>
          state === "over" ||
          state === "waiting" ||
          (state === "active"
            ? this.access.isCaughtUp(id)
            : this.setAside.get(formatId(groupId(id))) === "left-alone"),
      );
  }

  /**
   * A group that breaks what our own code relies on must not end the client, which would end the same way with each start.
   * A person is told, and this device enters it anew, if it can. A storage that fails is no matter of one group.
   */
  private async orSetAside(id: GroupId, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!isOfOneGroup(error)) throw error;
      if (this.putAside(id, error)) await this.orSetAside(id, () => this.rejoin(id));
    }
  }

  /** What opens a group. Nobody else would open it on this connection: that is tried until it is done, wherever the group is then. */
  private opening(id: GroupId, work: () => Promise<void>): Promise<void> {
    const again = () => this.orSetAside(id, () => this.openAndResume(id));
    return this.attempt(`open ${formatId(id)}`, () => this.orSetAside(id, work), again);
  }

  /** As {@link opening}, and nobody waits for it. */
  private openingOf(id: GroupId, work: () => Promise<void> = () => this.openAndResume(id)): void {
    this.effects.behind(() => this.opening(id, work));
  }

  /** What opens a group for a caller, who is told what went wrong; what is temporary goes on without one. */
  private async openNow(id: GroupId, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (isTemporary(error)) this.openingOf(id);
      throw error;
    }
  }

  /** Work in one group that nobody waits for. */
  private behindOf(id: GroupId, work: () => Promise<void>): void {
    this.effects.behind(() => this.orSetAside(id, work));
  }

  /**
   * Takes nothing more of a group until it is entered anew. Whether that is to be tried now: what breaks a second time on
   * one connection waits for the next one, as each try is a commit that all members have to follow.
   */
  private putAside(id: GroupId, error: UsageError | InvariantError): boolean {
    const { context } = this;
    this.registry.unload(id);
    const key = formatId(id);
    const isActive = context.mls.group(id)?.state === "active";
    const isTriedNow = isActive && !this.setAside.has(key);
    this.setAside.set(key, isTriedNow ? "entered-anew" : "left-alone");
    this.registry.changed.notify();
    if (!isActive) return false;
    context.transaction(() => {
      context.mls.setState(id, "stuck");
      const unusable = { kind: "decision-needed", conversation: id, detail: "group/unusable" } as const;
      context.events.append({ ...unusable, evidence: { cause: error.code }, atMs: context.now() });
    });
    context.notifier.flush();
    return isTriedNow;
  }

  private async openAndResume(id: GroupId): Promise<void> {
    await this.open(id);
    // Where the service is behind, it goes on when it is not any more. What keeps it from going on is no reason to open it again.
    if (!this.access.isHeld(id)) this.resumeOf(id);
  }

  /** What stands in the way for a while, such as a service that has no time, must not leave undone what is written down. */
  private resumeOf(id: GroupId): void {
    this.effects.behind(() =>
      this.attempt(`resume ${formatId(id)}`, () => this.orSetAside(id, () => this.resume(id))),
    );
  }

  /** What was begun in a group, or is due, once it is open. */
  private async resume(id: GroupId): Promise<void> {
    const { forked, state } = this.context.mls.group(id) ?? {};
    // Where a person is asked, nothing is said until there is an answer.
    if (state !== "active" || forked === true) return;
    await this.access.ready(id);
    if (this.context.mls.pendingCommit(id) !== undefined) await orRefused(() => this.committer.resume(id));
    this.matchOwnDevices(id);
    await this.resumeJobs(id);
    await this.updateIfDue(id);
    this.leaveIfAsked(id);
    this.profiles.takeUp(id);
    this.effects.wake(lanes.group(id));
  }

  /** Opens a group on this connection, whatever stands in the way. */
  private async open(id: GroupId): Promise<void> {
    const { state, refusedAt } = this.context.mls.group(id) ?? {};
    if (state === "creating") await this.announce(id);
    if (state === "active" && refusedAt !== undefined && refusedAt > 0)
      this.openingOf(id, () => this.afterRefusal(id, refusedAt));
    if (state === "joining" || state === "stuck") {
      if (!(await this.joinAnew(id))) return;
      // What is open may be the log of the leaf before, from where that one was.
      this.access.forget(id);
    }
    this.welcomesIfOver(id);
    if (this.context.mls.group(id)?.state !== "active" || this.access.isOpen(id)) return;
    await this.joiner.learnBanList(id);
    try {
      await this.refeeder.open(id);
    } catch (error) {
      if (!(error instanceof ServiceRefusal)) throw error;
      // Where a person is asked, nothing is entered anew without an answer.
      if (error.code === "group/rejoin" && this.context.mls.group(id)?.forked === true) return;
      if (error.code === "group/rejoin") {
        this.setStuck(id);
        await this.rejoin(id);
      } else if (error.code === "group/not-a-member") {
        this.context.transaction(() => this.ledger.removed(id));
        this.registry.unload(id);
        // Whoever waits for the log of this group waits for nothing now.
        this.registry.changed.notify();
        this.context.notifier.flush();
        this.welcomesIfOver(id);
      } else throw error;
    }
    this.effects.wake(lanes.group(id));
  }

  private async rejoin(id: GroupId): Promise<void> {
    this.registry.unload(id);
    if (await this.joinAnew(id)) await this.openAnew(id);
  }

  /** False where the service is behind: nobody joins below the highest epoch that it has seen. */
  private async joinAnew(id: GroupId): Promise<boolean> {
    try {
      await this.joiner.rejoin(id);
      return true;
    } catch (error) {
      if (!(error instanceof UnavailableError) || error.code !== SERVICE_BEHIND) throw error;
      this.refeeder.wait(id);
      return false;
    }
  }

  /** KeyPackages that the service hands out a second time are replaced; Welcomes on their way still find their keys. */
  private keyPackagesLost(): void {
    this.effects.serviceSetBack();
    this.context.transaction(() => {
      this.noteServiceLost();
      this.context.push.doubtHandles();
    });
    this.effects.behind(() => this.keyPackages.replenish());
  }

  /** Inside a transaction: the service was set back. */
  noteServiceLost(): void {
    this.keyPackages.noteServiceLost();
  }

  /** Entries are missing. A service that keeps them back is not asked all the time. */
  private async askAgain(id: GroupId): Promise<void> {
    this.access.forget(id);
    await this.context.environment.sleep(GAP_PAUSE_MS, this.context.closing.signal);
    await this.open(id);
  }

  /** Opens a group from our cursor on, also where it is open: what came while we were no member was not taken. */
  private async openAnew(id: GroupId): Promise<void> {
    this.access.forget(id);
    await this.open(id);
  }

  /**
   * A commit that this device refused and that nobody took back. Where it only could not follow, others could: it enters
   * the group anew. Into a group that broke its rules it does not follow: a person has to know.
   */
  private async afterRefusal(id: GroupId, sequence: number): Promise<void> {
    await this.context.environment.sleep(REFUSAL_PATIENCE_MS, this.context.closing.signal);
    if (this.context.closing.signal.aborted) return;
    const { context } = this;
    const { forked, refusedAt, refusal = "", state } = context.mls.group(id) ?? {};
    // A person has been asked already; or the device is on its way in again, or out.
    if (refusedAt !== sequence || forked === true || state !== "active") return;
    if (isForbidden(refusal)) {
      if (this.toldOf.get(formatId(id)) === sequence) return;
      this.toldOf.set(formatId(id), sequence);
      const forked = { kind: "decision-needed", conversation: id, detail: "group/forked" } as const;
      context.transaction(() => context.events.append({ ...forked, atMs: context.now() }));
      context.notifier.flush();
      return;
    }
    this.setStuck(id);
    await this.rejoin(id);
  }

  /** PERSIST, and whoever waits for something in this group waits no more. */
  private setStuck(id: GroupId): void {
    this.context.transaction(() => this.context.mls.setState(id, "stuck"));
    this.registry.changed.notify();
  }

  /**
   * A frame of a group that nobody asked for. Nobody awaits it either: a storage that fails here ends the client, but what
   * our own code stumbles over in one group's log sets that group aside, as in {@link orSetAside}.
   */
  frame(frame: ServiceBody): void {
    if (frame.kind === "groupEntries") {
      this.together.put(frame);
      return;
    }
    this.together.flush();
    this.take(frame, () => false);
  }

  /** By the name that the group has now: what was put off may be of one that was given up since. */
  private take(frame: ServiceBody, putOff: (body: GroupEntries) => boolean): void {
    if (this.context.closing.signal.aborted) return;
    const body = this.names.incoming(frame);
    if (body.kind !== "groupEntries" && body.kind !== "groupTurn") return;
    try {
      if (body.kind === "groupTurn") this.takeTurn(body);
      else if (!putOff(body)) {
        this.reader.receive(body);
        if (body.entries.some(({ commit }) => commit !== undefined)) this.effects.committed();
      }
    } catch (error) {
      this.frameFailed(body, error);
    }
  }

  private frameFailed({ groupId: bytes }: GroupTurn | GroupEntries, error: unknown): void {
    if (!isOfOneGroup(error)) {
      this.context.failed(error);
      return;
    }
    try {
      const id = groupId(bytes);
      if (this.putAside(id, error)) this.openingOf(id, () => this.rejoin(id));
    } catch (failure) {
      this.context.failed(failure);
    }
  }

  /** After entries were persisted. */
  private received(id: GroupId): void {
    this.effects.wake(lanes.group(id));
    if (this.access.isCaughtUp(id)) for (const lane of this.reports.sayIfDue(id)) this.effects.wake(lane);
    this.leaveIfAsked(id);
    this.welcomesIfOver(id);
  }

  /** Whoever has left here asks to be let go, in each epoch anew, and again after a restart. */
  private leaveIfAsked(id: GroupId): void {
    const leaves = this.context.conversations.get(id)?.state === "left";
    if (leaves && this.context.mls.group(id)?.state === "active")
      this.effects.behind(() => this.proposeLeaving(id));
  }

  // ------------------------------------------------------------------------------------------------ turns

  private takeTurn(frame: GroupTurn): void {
    const id = groupId(frame.groupId);
    // Whoever waits for it may be on the way into the group.
    const wanted = this.turns.isWanted(id);
    if (!wanted && this.context.mls.group(id)?.state !== "active") return;
    this.turns.granted(id, frame.turn, frame.expiresInMs);
    if (wanted) return;
    this.behindOf(id, () => this.useTurn(id, frame));
  }

  /**
   * The service asks for a commit: proposals wait, banned leaves are still there, or the tree is cold. It asks, and proves
   * nothing: our signature goes under the removal of those only whom the group or this device has banned. The turn that
   * has no use goes back.
   */
  private async useTurn(id: GroupId, frame: GroupTurn): Promise<void> {
    const { epoch } = this.registry.load(id).group;
    for (const proposal of frame.proposals) this.takeProposal(id, proposal);
    // What was asked for concerns this epoch: whoever wins it in our place has done it, or will be asked again.
    await this.committer.commit(id, (group) => {
      if (group.epoch !== epoch) return undefined;
      // While people talk pairwise, and when all go over, a commit that can wait costs each of them something.
      if (frame.reason === "warm-up" && this.isGoingOver(id)) return undefined;
      if (frame.reason !== "ban") return { options: { cached: "all" } };
      const leaves = frame.bannedLeaves.filter((leaf) => this.isBannedLeaf(id, group, leaf));
      const removes = leaves.map((removed): Proposal => ({ kind: "remove", removed }));
      const accounts = leaves.map((leaf) => ({
        account: deviceOf(group.tree.leaf(leaf)!.credential).accountId,
      }));
      const proposals = [...removes, ...dropExpected(group, accounts)];
      if (proposals.length > 0) return { options: { proposals } };
      // A ban that nobody can prove must not hold up those who ask to leave.
      return group.cachedProposals.length > 0 ? { options: { cached: "all" } } : undefined;
    });
  }

  /** Whether a conversation is on its way to this group, or its members have just come over. */
  private isGoingOver(id: GroupId): boolean {
    return this.context.migration.isMoving(id) || this.context.quietMs > 0;
  }

  private isBannedLeaf(id: GroupId, group: Group, leaf: number): boolean {
    const node = group.tree.leaf(leaf);
    if (node === undefined || leaf === group.ownLeaf) return false;
    return this.governance.isToBeRemoved(id, decodeMemberCredential(node.credential).accountId);
  }

  private takeProposal(id: GroupId, proposal: Uint8Array): void {
    try {
      this.registry.update(id, ({ group, store }) => {
        const received = group.receive(proposal);
        if (received.kind === "proposal") store.apply(received.writes);
      });
    } catch (error) {
      // A proposal that does not hold is left for the service to drop with the epoch.
      if (!(error instanceof RejectionError)) throw error;
    }
  }

  private async commitProposals(id: GroupId): Promise<void> {
    const { epoch } = this.registry.load(id).group;
    await this.committer.commit(id, (group) =>
      group.epoch === epoch && group.cachedProposals.length > 0 ? { options: { cached: "all" } } : undefined,
    );
  }

  /** What time brings, looked at every few minutes. A group that is broken is set aside, and holds up no other. */
  tend(): void {
    if (this.effects.isConnected()) this.effects.behind(() => this.pictures.tend());
    for (const { id: bytes, state } of this.context.mls.groups()) {
      if (state !== "active" && state !== "stuck") continue;
      const id = groupId(bytes);
      this.behindOf(id, async () => {
        this.registry.forgetExpired(id);
        if (this.access.isReady(id)) await this.updateIfDue(id);
      });
    }
  }

  /** Fresh keys for our leaf, so that a thief of old ones is shut out (post-compromise security). */
  private async updateIfDue(id: GroupId): Promise<void> {
    if (!this.isUpdateDue(id)) return;
    // Newcomers are asked by the service, turn by turn; whoever was never asked takes a first turn after a while.
    if (this.context.mls.group(id)?.updatedAtMs === 0) {
      this.context.transaction(() =>
        this.context.mls.setUpdated(id, this.context.now() - this.context.settings.selfUpdateMs / 2),
      );
      return;
    }
    // Looked at again when it is this one's turn: another may be under way, since time has brought it before.
    await this.committer.commit(id, () => (this.isUpdateDue(id) ? { options: {} } : undefined));
  }

  private isUpdateDue(id: GroupId): boolean {
    const { context } = this;
    const row = context.mls.group(id);
    return row !== undefined && row.updatedAtMs + context.settings.selfUpdateMs <= context.now();
  }

  // ---------------------------------------------------------------------------------------------- changes

  /**
   * Creates a group with this device as its only member and owner, and writes down who is to be added. PERSIST first,
   * in one transaction with the conversation, then the service hears of it.
   */
  async create(
    id: GroupId,
    profile: GroupProfile,
    expireAfterSeconds: number,
    accounts: readonly AccountId[],
    { wireId = id, context: given = {} }: CreateOptions = {},
  ): Promise<void> {
    const { context } = this;
    const encoded = encodeProfile(profile);
    const community: CommunityContext = {
      generation: 0,
      roleHolders: [{ accountId: context.own.accountId, role: "owner" }],
      links: [],
      addBy: "admin",
      profileBy: "admin",
      announcementOnly: false,
      slowModeSeconds: 0,
      joinsPerMinute: 0,
      expireAfterSeconds,
      banListHash: new Uint8Array(0),
      profileHash: hashOfProfile(encoded),
      expected: [],
      preparing: false,
      ...given,
    };
    const nowSeconds = BigInt(Math.floor(context.now() / 1000));
    const lifetime = { notBefore: nowSeconds - 3600n, notAfter: nowSeconds + BigInt(CREATOR_LIFETIME_S) };
    const { group, writes } = Group.create(
      communityCrypto,
      {
        groupId: wireId,
        identity: communityIdentity(context),
        lifetime,
        leaf: communityLeaf,
        extensions: communityExtensions(community),
      },
      this.registry.config(),
    );
    const { title } = profile;
    const row = { id, kind: "group", state: "active", protocol: "mls", title, expireAfterSeconds } as const;
    context.transaction(() => {
      if (context.conversations.get(id) === undefined) context.conversations.insert(row, context.now());
      const begun = { state: "creating", cursor: 0, slot: 0, updatedAtMs: context.now() } as const;
      context.mls.putGroup(id, equalBytes(wireId, id) ? begun : { ...begun, wireId });
      context.mls.rows(id, 0).apply(writes);
      context.mls.setProfile(id, encoded, context.now());
      this.ledger.entered(id, group);
      context.mls.addJob(
        id,
        accounts.filter((account) => !context.isOwn(account)),
        "add",
      );
    });
    this.registry.adopt(id, group);
    await this.openNow(id, () => this.open(id));
    await this.jobs.run(id, "add");
  }

  /** Accounts that may come in from outside by being expected; none of a group that this device is not in. */
  expected(id: GroupId): readonly AccountId[] {
    if (this.context.mls.group(id)?.state !== "active") return [];
    return this.registry.communityOf(id).expected.map(({ accountId }) => accountId);
  }

  /** The user wants to be in a group that it was asked about: it may ask the others now what it does not know. */
  accepted(id: GroupId): void {
    if (this.context.mls.group(id)?.state === "active") this.profiles.takeUp(id);
  }

  /** Others who could not be added, and whom nobody has been told of yet. */
  leftOut(id: GroupId): readonly LeftOut[] {
    return this.jobs.leftOut(id, "add").filter(({ account }) => !this.context.isOwn(account));
  }

  /** Tells the service of a group that it may have heard of already. */
  private async announce(id: GroupId): Promise<void> {
    const { group } = this.registry.load(id);
    const wireId = this.names.wire(id);
    const creation = { groupInfo: group.groupInfo(), ratchetTree: group.ratchetTree() };
    try {
      await this.names.ask({ kind: "groupCreate", groupId: id, ...creation });
    } catch (error) {
      // Taken before, and the answer was lost. If it is somebody else's, opening it will say so.
      if (!(error instanceof ServiceRefusal) || error.code !== "group/exists") throw error;
    }
    // A move may have been given up meanwhile, and the next one begun: this group is not that one.
    const isStill =
      this.context.mls.group(id)?.state === "creating" && equalBytes(this.names.wire(id), wireId);
    if (!isStill) return;
    this.context.transaction(() => {
      this.context.mls.setState(id, "active");
      this.context.mls.past.putCreation(id, creation, this.context.now());
    });
    this.registry.changed.notify();
  }

  /** Adds or removes accounts; resolves with those who were left out, and why. */
  async changeMembers(
    id: GroupId,
    accounts: readonly AccountId[],
    action: JobAction,
  ): Promise<readonly LeftOut[]> {
    this.jobs.plan(id, accounts, action);
    await this.jobs.run(id, action);
    return this.jobs.take(id, accounts, action);
  }

  /** Devices of our own account that came or went since: each of them is a leaf of its own. PERSIST what is to be done. */
  private matchOwnDevices(id: GroupId): void {
    const { context } = this;
    const { accountId } = context.own;
    const listed = new Set(
      context.engine.deviceListOf(accountId)?.devices.map((device) => device.deviceId) ?? [],
    );
    const present = new Set(context.mls.leavesOf(id, accountId).map((leaf) => leaf.device));
    const missing = [...listed].some((device) => !present.has(device));
    if (missing) context.transaction(() => context.mls.addJob(id, [accountId], "add"));
    const gone = context.mls.leavesOf(id, accountId).filter(({ device }) => !listed.has(device));
    if (gone.length > 0)
      this.behindOf(id, () =>
        this.removeOwn(
          id,
          gone.map(({ leaf }) => leaf),
        ),
      );
  }

  private async removeOwn(id: GroupId, leaves: readonly number[]): Promise<void> {
    await this.committer.commit(id, (group) => {
      const proposals = leaves
        .filter((leaf) => this.isOwnLeaf(group, leaf))
        .map((removed): Proposal => ({ kind: "remove", removed }));
      return proposals.length === 0 ? undefined : { options: { proposals } };
    });
  }

  /** Another leaf may stand there by now. */
  private isOwnLeaf(group: Group, leaf: number): boolean {
    const node = group.tree.leaf(leaf);
    if (node === undefined || leaf === group.ownLeaf) return false;
    return this.context.isOwn(decodeMemberCredential(node.credential).accountId);
  }

  /**
   * After the own device list changed: every community learns of it. A new device has to publish its KeyPackages first,
   * so this looks again a few times; later connections go on with it.
   */
  async devicesChanged(): Promise<void> {
    for (const pauseMs of NEW_DEVICE_PAUSES_MS) {
      await this.context.environment.sleep(pauseMs, this.context.closing.signal);
      if (this.context.closing.signal.aborted) return;
      for (const { id, state } of this.context.mls.groups()) {
        if (state !== "active" || !this.access.isOpen(id)) continue;
        this.matchOwnDevices(groupId(id));
        await this.resumeJobs(groupId(id));
      }
    }
  }

  /**
   * This device was restored from an old copy: its ratchets would use keys a second time. Inside a transaction: nothing
   * is said in any community before it was entered anew, and old KeyPackages are replaced.
   */
  noteRestored(): void {
    const { mls, outbox } = this.context;
    for (const { id, state } of mls.groups()) {
      if (state !== "active" && state !== "joining") continue;
      mls.setState(id, "stuck");
      mls.deletePendingCommit(id);
      for (const part of mls.parts(id)) {
        mls.deletePart(part.outboxId);
        if (outbox.get(part.outboxId)?.state === "ready") outbox.setState(part.outboxId, "new", 0);
      }
      this.registry.unload(id);
    }
    this.keyPackages.noteLost();
  }

  /** Enters a group anew with a fresh leaf in the place of the old one, whatever state this device is in. */
  async heal(id: GroupId): Promise<void> {
    const state = this.context.mls.group(id)?.state;
    if (state === undefined || state === "over") throw new UsageError("conversation/not-active");
    this.context.transaction(() => {
      this.context.mls.setForked(id, false);
      // A person has decided to follow the service, wherever it is.
      this.context.mls.deleteEpochsFrom(id, 0);
      if (state === "active") this.context.mls.setState(id, "stuck");
    });
    this.registry.changed.notify();
    await this.openNow(id, () => this.rejoin(id));
    this.resumeOf(id);
  }

  /**
   * Joins by an invite link; resolves with the conversation when this device is a member. RejectionError `link/…`, ServiceRefusal;
   * UnavailableError `link/approval-pending` when no admin has answered in this time: the join goes on without a caller.
   */
  async joinByLink(link: InviteLink, approvalTimeoutMs: number): Promise<GroupId> {
    const id = this.names.conversation(link.groupId);
    await this.openNow(id, () => this.joiner.joinByLink(link));
    // Whoever takes the answer up enters the group and opens it.
    if (this.context.mls.group(id)?.state === "waiting") await this.untilLetIn(id, approvalTimeoutMs);
    else await this.openNow(id, () => this.open(id));
    await this.access.ready(id);
    return id;
  }

  /**
   * Enters the group of a conversation from outside, as a device of an account that it expects or with a fresh leaf in the
   * place of its own; resolves when this device is a member and has taken in the log. Throws like
   * {@link Joiner.joinExpected}.
   */
  async joinExpected(id: GroupId): Promise<void> {
    await this.joiner.joinExpected(id);
    await this.openNow(id, () => this.openAnew(id));
    await this.access.ready(id);
  }

  /**
   * Opens a group again and reads its log on from there: the pre-shared key for which it stood still has come, or the group has
   * another name. Resolves when it is open; what comes then it does not wait for, which may be the same commit once more.
   */
  reopen(id: GroupId): Promise<void> {
    return this.opening(id, async () => {
      this.access.forget(id);
      await this.openAndResume(id);
    });
  }

  /** The log waits for a pre-shared key, or for the service. */
  isStandingStill(id: GroupId): boolean {
    return this.access.isHeld(id);
  }

  /**
   * Makes the group that a pairwise conversation is to move to, this device being its only member. PERSIST first; the
   * conversation stays as it is.
   */
  prepare(id: GroupId, wireId: GroupId, profile: GroupProfile, given: PreparedContext): Promise<void> {
    const { expireAfterSeconds, generation } = given;
    return this.create(id, profile, expireAfterSeconds, [], {
      wireId,
      context: { generation, preparing: true },
    });
  }

  /** The group is no more one that is only prepared. */
  hurry(id: GroupId): void {
    this.unhurried.hurry(id);
  }

  /**
   * Inside a transaction: another MLS group comes in the place of a conversation's, or none. What was known of its log on
   * this connection says nothing of the next one.
   */
  abandon(id: GroupId): void {
    this.registry.unload(id);
    this.access.abandon(id);
    this.turns.used(id);
    this.setAside.delete(formatId(id));
    this.leaving.delete(formatId(id));
    this.registry.changed.notify();
  }

  /** Goes on with a group that was made and not opened. */
  openPrepared(id: GroupId): Promise<void> {
    return this.openNow(id, () => this.open(id));
  }

  /** Adds members to a group that is being prepared; those who could not be added stay written down. */
  async prepareMembers(id: GroupId, accounts: readonly AccountId[]): Promise<void> {
    const { mls } = this.context;
    this.context.transaction(() => {
      const asked = new Set(accounts.map(formatId));
      for (const { account } of mls.failedJobs(id, "add"))
        if (asked.has(formatId(account))) mls.deleteJob(id, account, "add");
      mls.addJob(id, accounts, "add");
    });
    await this.jobs.run(id, "add");
  }

  /** Inside a transaction: writes down who is to be added to a community. */
  planMembers(id: GroupId, accounts: readonly AccountId[]): void {
    const { conversations, mls } = this.context;
    const open = accounts.filter((account) => conversations.member(id, account) === undefined);
    mls.addJob(id, open, "add");
  }

  /** Does what is written down. */
  async runMembers(id: GroupId): Promise<void> {
    await this.jobs.run(id, "add");
  }

  /** Inside a transaction: shows something that was held back. */
  show(id: GroupId, message: CommunityMessage): void {
    this.content.show(id, message);
  }

  /**
   * Inside the transaction that makes the MLS group what the conversation goes by: from here on it says who is in it.
   * `roster`: its accounts in this epoch, where they are known. Returns whether members are in it that were in none before.
   */
  carry(id: GroupId, roster: readonly RosterAccount[] | undefined): boolean {
    const fresh = this.ledger.carry(id, this.registry.load(id).group, roster);
    this.ledger.cameMeanwhile(id, fresh, this.context.now());
    return fresh.length > 0;
  }

  private async untilLetIn(id: GroupId, timeoutMs: number): Promise<void> {
    const { context } = this;
    await withTimeout(context, timeoutMs, "link/approval-pending", {
      done: () => {
        const state = context.mls.group(id)?.state;
        if (state === undefined) throw new RejectionError("link/refused");
        return state === "active";
      },
      change: (abort) => this.registry.changed.wait(abort),
    });
  }

  /** After pairwise messages were persisted: joins that somebody has approved or refused. */
  joinsAnswered(): void {
    this.registry.changed.notify();
    for (const id of this.context.mls.approvedJoins()) {
      const join = async () => {
        try {
          await this.rejoin(groupId(id));
        } finally {
          this.registry.changed.notify();
        }
      };
      this.effects.behind(() => this.attempt(`join ${formatId(groupId(id))}`, join));
    }
  }

  private async resumeJobs(id: GroupId): Promise<void> {
    await this.governance.resumeBans(id);
    for (const action of ["remove", "add"] as const) {
      if (this.context.mls.jobs(id, action, 1).length > 0) await this.jobs.run(id, action);
    }
  }

  /**
   * Leaves: nothing is sent any more from here on; the proposal waits at the service until somebody commits it, and is
   * made anew in each epoch until then.
   */
  async leave(id: GroupId): Promise<void> {
    const { context } = this;
    const { group } = this.registry.load(id);
    const { roleHolders } = communityContextOf(group.context.extensions);
    const owners = roleHolders.filter(({ role }) => role === "owner");
    const last = owners.length === 1 && context.isOwn(owners[0]!.accountId);
    if (last && context.conversations.countMembers(id) > 1) throw new UsageError("group/last-owner");
    context.transaction(() => {
      context.conversations.setState(id, "left");
      context.events.append({ kind: "conversation-changed", conversation: id, atMs: context.now() });
      if (group.memberCount === 1) this.ledger.removed(id);
    });
    context.notifier.flush();
    if (context.mls.group(id)?.state === "active") await this.proposeLeaving(id);
  }

  private async proposeLeaving(id: GroupId): Promise<void> {
    await this.access.ready(id);
    const key = formatId(id);
    if (this.context.mls.group(id)?.state !== "active") return;
    const { epoch } = this.registry.load(id).group;
    if (this.leaving.get(key) === epoch) return;
    this.leaving.set(key, epoch);
    const proposal = this.registry.update(id, ({ group, store }) => {
      const proposed = group.propose({ kind: "self_remove" });
      store.apply(proposed.writes);
      return proposed.message;
    });
    try {
      await this.names.ask({ kind: "groupPropose", groupId: id, proposal });
    } catch (error) {
      this.leaving.delete(key);
      if (!isTemporary(error) && !(error instanceof ServiceRefusal)) throw error;
    }
  }
}

/** What is wrong with one group's state here, and not with the network, the service or the storage. */
/** What the rules of the group or the service refuse for good holds nothing else up. */
async function orRefused(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof RejectionError)) throw error;
  }
}

function isOfOneGroup(error: unknown): error is UsageError | InvariantError {
  return error instanceof UsageError || error instanceof InvariantError;
}

import {
  type AccountId,
  type Bytes,
  type GroupId,
  RejectionError,
  UnavailableError,
} from "@murmuration/base";
import { ProvisionalCommit } from "../core/provisional-commit.ts";
import type { FollowerBase, FollowerSource } from "../ports/commit-validator.ts";
import type { CarriedEntry, GroupChange, GroupListener } from "../ports/group-signals.ts";
import type { LogEntry, MlsGroupRow } from "../ports/mls-groups.ts";
import type { ServiceContext } from "./context.ts";
import { type GroupReader, leafName, type OpenedLeaf } from "./group-delivery.ts";
import { frameOf, type GroupPages } from "./group-pages.ts";
import { OVERLOADED_RETRY_MS, toRefusal } from "./refusals.ts";
import { type Payer, paidBy } from "./tree-charges.ts";

/** Changes of one group that wait for each other. */
const MAX_QUEUED = 512;
/** Leaves that are looked at between two pauses. */
const LOOK_BATCH = 64;
/** Readers that are sent something between two pauses. */
const WAKE_BATCH = 256;
/** How often a question about a group is asked anew because the group moved on meanwhile. */
const MAX_TRIES = 5;

/** What a commit that was stored changes on this node. */
export interface TakenCommit {
  readonly epoch: number;
  readonly sequence: number;
  /** Signature keys of the leaves that it removed. */
  readonly removed: readonly Bytes[];
  /** Signature keys of the leaves that came with it. */
  readonly added: readonly Bytes[];
  readonly committer: Bytes;
  /** SHA-256 of the commit message. */
  readonly commitHash: Bytes;
  /** Accounts whose word about it does not count. */
  readonly silent: readonly AccountId[];
  /** True for an admin's or owner's. */
  readonly byAdmin: boolean;
}

/**
 * A group in use on this node: where its log ends, who has it open, and what is not worth a row. Everything here can
 * be forgotten and is read anew. Changes of the group go one by one through {@link exclusive}.
 */
export class LiveGroup implements GroupListener {
  readonly groupId: GroupId;
  readonly pages: GroupPages;
  epoch = 0;
  /** Of the newest commit. */
  lastCommitSequence = 0;
  /** The newest entry that readers may be given. */
  lastSequence = 0;
  lastUsedDay = 0;
  provisional = new ProvisionalCommit(0, undefined);
  /** Another node gave somebody a turn. */
  onTurn: () => void = () => {};
  /** When a leaf last sent an application message. */
  saidAtMs = 0;
  private readonly context: ServiceContext;
  private readonly readers = new Map<string, Set<GroupReader>>();
  private bannedNames: ReadonlySet<string> = new Set();
  private bannedKeys: readonly Bytes[] = [];
  private keptOut: readonly AccountId[] = [];
  private highest = 0;
  private holds = 0;
  private queue: Promise<unknown> = Promise.resolve();
  private queued = 0;
  private announcing = false;
  private waking = false;
  private wakeAgain = false;
  /** The refresh that runs, or ran last; and the one that begins after it. */
  private refreshing: Promise<void> = Promise.resolve();
  private nextRefresh: Promise<void> | undefined;
  /** The next refresh looks at every leaf. */
  private membersWanted = false;
  private stopRetry: (() => void) | undefined;
  private stopped = false;

  constructor(context: ServiceContext, groupId: GroupId, pages: GroupPages) {
    this.context = context;
    this.groupId = groupId;
    this.pages = pages;
  }

  /** Reads the group for the first time. Throws RejectionError `group/unknown`. */
  async load(): Promise<void> {
    const row = await this.row();
    this.takeRow(row);
    await this.readBans();
    this.holds = 0;
    this.advance(row.lastSequence);
  }

  /** The stored row. Throws RejectionError `group/unknown`. */
  async row(): Promise<MlsGroupRow> {
    const row = await this.context.stores.mlsGroups.load(this.groupId);
    if (row === undefined) throw new RejectionError("group/unknown");
    return row;
  }

  // ---- changes ----

  /** Runs one change after the other. Throws RejectionError `group/busy` when too many wait. */
  exclusive<T>(work: () => Promise<T>): Promise<T> {
    if (this.queued >= MAX_QUEUED) return Promise.reject(new RejectionError("group/busy"));
    this.queued++;
    const turn = this.queue.then(work);
    this.queue = turn.then(
      () => this.queued--,
      () => this.queued--,
    );
    return turn;
  }

  /**
   * Holds back what is appended meanwhile, until what the work found out about the members is known: nothing that
   * lies behind a removal may reach the leaf that it removed.
   */
  async holding<T>(work: () => Promise<T>): Promise<T> {
    this.holds++;
    try {
      return await work();
    } finally {
      this.holds--;
      this.advance(this.highest);
    }
  }

  /** An application message was appended. It is read nowhere: those who stand before it get the frame that is made here. */
  said(entry: LogEntry): void {
    const { acceptedAtMs, sequence } = entry;
    this.saidAtMs = acceptedAtMs;
    const frame = frameOf(this.groupId, [entry], sequence);
    this.take({ sequence, frame });
    this.announce("entries", { sequence, frame });
  }

  /** An entry was asked for again that has been appended: the node that took it may have died before it told anybody. */
  known(sequence: number): void {
    if (sequence > this.highest) this.refreshSoon(false);
    this.announce("members");
  }

  private take({ sequence, frame }: CarriedEntry): void {
    this.pages.put(this.groupId, sequence - 1, { frame, through: sequence, entries: 1 });
    // What lies before it on another node may have removed somebody who reads here.
    if (sequence > this.highest + 1) this.refreshSoon(false);
    else this.advance(sequence);
  }

  /** A commit was appended, within {@link holding}. Readers that it removed end there, at once. */
  tookCommit(commit: TakenCommit): void {
    this.epoch = commit.epoch;
    this.lastCommitSequence = commit.sequence;
    const { added, commitHash: hash, committer: committerKey, silent } = commit;
    this.provisional = new ProvisionalCommit(commit.sequence, { hash, committerKey, silent, added });
    const affected = commit.removed.flatMap((key) => this.readersOf(leafName(key)));
    for (const reader of affected) reader.endAt(commit.sequence);
    this.advance(commit.sequence);
    // A resync removes a leaf and brings it back in the same commit.
    void this.lookAt(affected);
    this.announce(commit.removed.length > 0 ? "members" : "entries");
  }

  /** Banned leaves are cut off before this returns. */
  async banned(): Promise<void> {
    await this.readBans();
    this.announce("members");
  }

  /** The newest commit was taken back: the members are those of the epoch before, and so are the bans. */
  async voided(sequence: number): Promise<void> {
    this.takeRow(await this.row());
    await this.readBans();
    await this.lookAt(this.allReaders());
    this.advance(sequence);
    this.announce("members");
  }

  /**
   * Commits were fed again, within {@link holding}. Each leaf that they removed ends at its removal, at once; some may have
   * come back since.
   */
  async fedAgain(
    removals: readonly { readonly signatureKey: Bytes; readonly sequence: number }[],
  ): Promise<void> {
    for (const { signatureKey, sequence } of removals) {
      for (const reader of this.readersOf(leafName(signatureKey))) reader.endAt(sequence);
    }
    this.takeRow(await this.row());
    await this.readBans();
    await this.lookAt(this.allReaders());
    this.announce("members");
  }

  // ---- signals of other nodes ----

  lookAgain(entry?: CarriedEntry): void {
    if (this.announcing) return;
    if (entry === undefined) this.refreshSoon(false);
    else this.take(entry);
  }

  membersChanged(): void {
    if (!this.announcing) this.refreshSoon(true);
  }

  turnsChanged(): void {
    if (!this.announcing) this.onTurn();
  }

  /** What cannot be read now is read a little later: nobody says it a second time. */
  private refreshSoon(members: boolean): void {
    this.refresh(members).catch((error: unknown) => {
      this.context.log.warn("group-not-refreshed", { code: toRefusal(error, this.context.log).code });
      this.refreshLater(members);
    });
  }

  private refreshLater(members: boolean): void {
    this.membersWanted ||= members;
    if (this.stopRetry !== undefined || this.stopped) return;
    this.stopRetry = this.context.clock.after(OVERLOADED_RETRY_MS, () => {
      this.stopRetry = undefined;
      this.refreshSoon(this.membersWanted);
    });
  }

  /** Nothing is done by itself any more. */
  stop(): void {
    this.stopped = true;
    this.stopRetry?.();
  }

  /**
   * Reads the row anew, and looks at every leaf when the members may be others. Whatever was stored before the call is seen:
   * callers share a run that has not begun, and none that may have read the row already.
   */
  refresh(members = false): Promise<void> {
    this.membersWanted ||= members;
    this.nextRefresh ??= this.refreshing.then(() => {
      this.nextRefresh = undefined;
      const run = this.readAnew(this.membersWanted);
      this.membersWanted = false;
      this.refreshing = run.catch(() => {});
      return run;
    });
    return this.nextRefresh;
  }

  private async readAnew(members: boolean): Promise<void> {
    await this.holding(async () => {
      const row = await this.row();
      const movedOn = row.epoch !== this.epoch;
      this.takeRow(row);
      if (!movedOn && !members) return;
      try {
        await this.readBans();
        await this.lookAt(this.allReaders());
      } catch (error) {
        // The next one would see no other epoch, and look at nobody.
        this.membersWanted = true;
        throw error;
      }
    });
  }

  // ---- leaves ----

  /** What a leaf is: a member, a former one, or (undefined) neither or banned. O(1). Nobody pays where the service asks by itself. */
  async lookUp(signatureKey: Bytes, payer?: Payer): Promise<OpenedLeaf | undefined> {
    if (this.isBanned(signatureKey)) return undefined;
    const { validator, stores } = this.context;
    const paid = (base: FollowerBase) => (payer === undefined ? base : paidBy(this.context, payer, base));
    const { epoch, value: leaf } = await this.ask((base) => validator.leafOfKey(paid(base), signatureKey));
    if (leaf !== undefined) return { signatureKey, leaf, epoch, removedAt: undefined };
    const former = await stores.mlsGroups.formerLeaf(this.groupId, signatureKey);
    if (former === undefined || former.banned === true) return undefined;
    return { signatureKey, leaf, epoch, removedAt: former.removedAt };
  }

  /** Asks the follower of the present epoch; again when the group moved on meanwhile. */
  async ask<T>(
    question: (base: FollowerBase) => Promise<T>,
  ): Promise<{ readonly epoch: number; readonly value: T }> {
    for (let tries = 1; ; tries++) {
      const { epoch, lastCommitSequence } = this;
      const isPresent = () => epoch === this.epoch && lastCommitSequence === this.lastCommitSequence;
      try {
        const value = await question(this.baseOf(epoch));
        if (isPresent()) return { epoch, value };
      } catch (error) {
        const again = error instanceof UnavailableError && !isPresent();
        if (!again || tries >= MAX_TRIES) throw error;
      }
      if (tries >= MAX_TRIES) throw new UnavailableError("group/moves-on");
    }
  }

  /** The follower of an epoch, which is the present one unless its commit is named; loaded from the store where it is not cached. */
  baseOf(epoch: number, commitSequence = this.lastCommitSequence): FollowerBase {
    const load = () => this.sourceOf(epoch, commitSequence);
    return { groupId: this.groupId, epoch, commitSequence, load };
  }

  isBanned(signatureKey: Uint8Array): boolean {
    return this.bannedNames.has(leafName(signatureKey));
  }

  /** Keys that are banned and still in the tree. */
  get bannedLeaves(): readonly Bytes[] {
    return this.bannedKeys;
  }

  /** Accounts that a ban order alone keeps out. */
  get bannedAccounts(): readonly AccountId[] {
    return this.keptOut;
  }

  // ---- readers ----

  add(reader: GroupReader): void {
    const readers = this.readers.get(reader.name) ?? new Set();
    this.readers.set(reader.name, readers.add(reader));
  }

  /** Returns true when no connection has this leaf open any more. */
  delete(reader: GroupReader): boolean {
    const readers = this.readers.get(reader.name);
    readers?.delete(reader);
    if (readers?.size !== 0) return false;
    this.readers.delete(reader.name);
    return true;
  }

  readersOf(name: string): readonly GroupReader[] {
    return [...(this.readers.get(name) ?? [])];
  }

  allReaders(): readonly GroupReader[] {
    return [...this.readers.values()].flatMap((readers) => [...readers]);
  }

  get isOpen(): boolean {
    return this.readers.size > 0;
  }

  /** Tells the other nodes. */
  announce(change: GroupChange, entry?: CarriedEntry): void {
    this.announcing = true;
    try {
      this.context.groupSignals.publish(this.groupId, change, entry);
    } finally {
      this.announcing = false;
    }
  }

  private advance(sequence: number): void {
    this.highest = Math.max(this.highest, sequence);
    if (this.holds > 0 || this.highest === this.lastSequence) return;
    this.lastSequence = this.highest;
    void this.wake();
  }

  /** Lets every reader look, some at a time, so that a large group's do not hold everything else up. O(readers). */
  private async wake(): Promise<void> {
    this.wakeAgain = true;
    if (this.waking) return;
    this.waking = true;
    while (this.wakeAgain) {
      this.wakeAgain = false;
      let woken = 0;
      for (const reader of this.allReaders()) {
        reader.lookAgain();
        if (++woken % WAKE_BATCH === 0) await this.pause();
      }
    }
    this.waking = false;
  }

  private takeRow(row: MlsGroupRow): void {
    // Another node has taken the newest commit back, and may have taken another one: its follower is none of this group.
    if (row.epoch <= this.epoch && row.lastCommitSequence !== this.lastCommitSequence)
      this.context.validator.forget(this.groupId);
    this.epoch = row.epoch;
    this.lastCommitSequence = row.lastCommitSequence;
    this.lastUsedDay = row.lastUsedDay;
    this.highest = Math.max(this.highest, row.lastSequence);
    if (this.provisional.sequence === row.lastCommitSequence) return;
    this.provisional = new ProvisionalCommit(row.lastCommitSequence, undefined);
  }

  /** Who is banned, as the store has it; their readers are shut out before this resolves. */
  async readBans(): Promise<void> {
    const { mlsGroups } = this.context.stores;
    this.keptOut = await mlsGroups.bannedAccounts(this.groupId);
    this.bannedKeys = await mlsGroups.bannedKeys(this.groupId);
    this.bannedNames = new Set(this.bannedKeys.map(leafName));
    for (const name of this.bannedNames) for (const reader of this.readersOf(name)) reader.shutOut();
  }

  /** O(readers) questions, with pauses in between. */
  private async lookAt(readers: readonly GroupReader[]): Promise<void> {
    for (let next = 0; next < readers.length; next += LOOK_BATCH) {
      const batch = readers.slice(next, next + LOOK_BATCH);
      // A leaf that cannot be looked at now is sent nothing until it could be.
      await Promise.allSettled(batch.map((reader) => reader.lookAtLeaf()));
      if (next + LOOK_BATCH < readers.length) await this.pause();
    }
  }

  private pause(): Promise<void> {
    return new Promise((resolve) => {
      this.context.clock.after(0, resolve);
    });
  }

  private async sourceOf(epoch: number, commitSequence: number): Promise<FollowerSource> {
    const { mlsGroups } = this.context.stores;
    const [row, tree] = await Promise.all([this.row(), mlsGroups.loadTree(this.groupId, epoch)]);
    const isIt = row.epoch === epoch && row.lastCommitSequence === commitSequence;
    if (!isIt || tree === undefined) throw new UnavailableError("group/moved-on");
    const { groupInfo, banList } = row;
    return { groupInfo, banList, snapshot: tree.snapshot, deltas: tree.deltas };
  }
}

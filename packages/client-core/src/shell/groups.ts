/**
 * Groups over pairwise sessions. The record at the service is the truth; every change of it goes
 *
 *   PERSIST the signed change and the bytes of the request
 *   announce a new group key to those who stay (a removal only), and wait until that is accepted
 *   write the record (compare-and-set)
 *   PERSIST the new state, notices, and the message that tells the members
 *
 * and can be taken up again at each line. A lost race is made anew on top of what won.
 */
import {
  type AccountId,
  type Bytes,
  equalBytes,
  formatId,
  type GroupId,
  groupId,
  RejectionError,
  UnavailableError,
  UsageError,
} from "@murmuration/base";
import {
  beginsLease,
  type GroupMigration,
  type GroupMigrationStep,
  hasLease,
  limits,
  migrationTransition,
  nextMigration,
  unmigrated,
} from "@murmuration/wire";
import { decodeContent, FENCE_BYTES, GROUP_KEY_BYTES, type GroupInvite } from "../core/content.ts";
import {
  createChange,
  type GroupAction,
  hashChange,
  migrationChangeOf,
  startsGeneration,
  verifyChange,
} from "../core/group-change.ts";
import { deriveAccessPublicKey, openRecord, sealRecord } from "../core/group-keys.ts";
import {
  applyChange,
  checkContinues,
  encodeRecord,
  type GroupState,
  type RecordMigration,
  splitRecord,
} from "../core/group-record.ts";
import { isTemporary, ServiceRefusal } from "../core/refusal.ts";
import type { PendingKey, PendingWrite } from "../store/conversations.ts";
import type { Context } from "./context.ts";
import { requireIdOfPairwiseGroup } from "./founded-ids.ts";
import { type GroupLedger, RECOVERY_REFUSED } from "./group-ledger.ts";
import type { Generation, GroupMessages } from "./group-messages.ts";
import { RecordRefeeder } from "./record-refeeder.ts";
import { ServiceApi } from "./service-api.ts";
import { Suspicions } from "./suspicions.ts";

/** What the group needs from the outbox. */
export interface GroupOutbox {
  /** Takes up everything that waits. */
  wakeAll(): void;
  /**
   * Resolves when the row was accepted or failed, or is gone. UnavailableError when the client closes, and `late` after the
   * time, if one is given.
   */
  whenSettled(rowId: number, within?: { readonly timeoutMs: number; readonly late: string }): Promise<void>;
  /** Work that nobody waits for; what is temporary is tried again with the next connection. */
  behind(work: () => Promise<void>): void;
}

/** A record as the service has it. */
interface ServedRecord {
  readonly keys: Generation;
  /** Of a key whose generation is over: the revision from which on it is. */
  readonly overFrom: number | undefined;
  /** 0: it has none, and no blob. */
  readonly revision: number;
  readonly blob: Bytes | undefined;
  readonly migration?: GroupMigration | undefined;
}

/** A change waits for its key to be announced; it is persisted, and goes on by itself. */
const NOT_ANNOUNCED = "group/key-not-announced";
/** How often an own change is made anew after a lost race. */
const MAX_RACES = 12;
/** Keys that a record is tried with for an invite, and of one sender. */
const MAX_KEYS_TRIED = 16;
const MAX_KEYS_OF_ONE = 2;
const NOT_THIS_KEY: ReadonlySet<string> = new Set(["group/access-denied", "group/foreign-key"]);
/** How often a record is written forward before it is read as it is: others do so at the same time. */
const MAX_FEEDS = 6;
/** Before a service that had no time for a record is asked again on the same connection, ms, whatever it says. */
const CHECK_AGAIN_MS = { least: 5_000, most: 300_000 };
/** In the meta table: 1 while the records of groups have to be read, since the service was set back. */
const RECORDS_IN_DOUBT = "records-in-doubt";

export class Groups {
  private readonly context: Context;
  private readonly outbox: GroupOutbox;
  private readonly ledger: GroupLedger;
  private readonly messages: GroupMessages;
  private readonly suspicions: Suspicions;
  private readonly refeeder: RecordRefeeder;
  /** Groups of which no past key opens the record, on this connection. */
  private readonly triedPast = new Set<string>();
  /** Groups whose record was written forward on this connection. */
  private readonly fed = new Set<string>();
  /** Announcements that took too long for whoever asked: the change that each belongs to goes on once it was sent. */
  private readonly announcing = new Set<number>();
  /** Groups for which a new key is being drawn. */
  private readonly rotating = new Set<string>();
  private isChecking = false;
  /** How often the service was set back: what happens while records are looked at puts them in doubt once more. */
  private doubts = 0;
  /** Whose record was looked at since it was in doubt. */
  private readonly checked = new Set<string>();
  /** The wait before those that are left are looked at again. */
  private checkLater = new AbortController();

  constructor(context: Context, ledger: GroupLedger, messages: GroupMessages, outbox: GroupOutbox) {
    this.context = context;
    this.ledger = ledger;
    this.messages = messages;
    this.outbox = outbox;
    this.suspicions = new Suspicions(context);
    this.refeeder = new RecordRefeeder(context);
  }

  // ---------------------------------------------------------------------------------------- own changes

  /**
   * Makes a change. `decide` sees the newest state and may be asked again after a lost race; undefined: nothing is
   * left to do. Resolves when the change is in the record. RejectionError `group/…` where roles do not allow it,
   * UnavailableError when the service cannot be reached: then it is taken up again later.
   */
  change(group: GroupId, decide: (state: GroupState) => GroupAction | undefined): Promise<void> {
    return this.context.queue.run(`group:${formatId(group)}`, async () => {
      await this.push(group);
      for (let race = 0; race < MAX_RACES; race++) {
        if (this.context.conversations.group(group)?.forked === true)
          throw new RejectionError("group/forked");
        const action = decide(this.ledger.state(group));
        if (action === undefined) return;
        const hash = this.prepare(group, action);
        await this.push(group);
        const done = this.context.conversations
          .changes(group)
          .some((change) => equalBytes(hashChange(change), hash));
        if (done) return;
      }
      throw new UnavailableError("group/too-much-contention");
    });
  }

  /** Signs the change and persists it with the request. Returns its hash. */
  private prepare(group: GroupId, action: GroupAction): Bytes {
    const { context } = this;
    const { conversations, engine, environment } = context;
    const state = this.ledger.state(group);
    const local = engine.local();
    if (local === undefined) throw new UsageError("client/not-registered");
    const revision = state.revision + 1;
    const { encoded, hash } = createChange(
      {
        groupId: group,
        revision,
        previousHash: state.hash,
        author: context.own,
        authorDeviceList: local.deviceList,
        atMs: context.now(),
        action,
      },
      (label, content) => engine.signWithDeviceKey(label, content),
    );
    // Whatever the others would refuse is refused here first.
    applyChange(state, verifyChange(encoded));
    const fresh = startsGeneration(action);
    const keys: Generation = fresh
      ? { groupKey: environment.random(GROUP_KEY_BYTES), fence: environment.random(FENCE_BYTES) }
      : conversations.group(group)!;
    const blob = sealRecord(
      group,
      keys.groupKey,
      revision,
      encodeRecord([...conversations.changes(group), encoded]),
      environment.random(12),
    );
    // A record only grows, and no other change finds a place in it either.
    if (blob.length > limits.groupRecordBytes) throw new RejectionError("group/record-full");
    const step = this.stepOf(group, state.migration, action);
    // Where the group switches, a fence is drawn that nobody ever knows.
    const fence = step?.cutsOff === true ? environment.random(FENCE_BYTES) : keys.fence;
    const generation =
      fresh || step?.cutsOff === true
        ? { generation: { accessPublicKey: deriveAccessPublicKey(group, keys.groupKey), fence } }
        : {};
    const migration = step === undefined ? {} : { migration: step.request };
    const body = ServiceApi.encodeGroupWrite({
      expectedRevision: state.revision,
      blob,
      ...generation,
      ...migration,
    });
    context.transaction(() => {
      const lease = step?.request.newLeaseToken;
      if (lease !== undefined) context.migration.wantLease(group, lease);
      conversations.savePendingWrite(group, {
        revision,
        change: encoded,
        body,
        groupKey: keys.groupKey,
        fence: fresh ? keys.fence : undefined,
        announcement: fresh && revision > 1 ? this.messages.announce(group, action, revision, keys) : 0,
      });
      if (fresh) conversations.addPendingKey(group, { revision, author: context.own.accountId, ...keys });
    });
    return hash;
  }

  /** What the service is told of a step of a migration; undefined for any other change. */
  private stepOf(
    group: GroupId,
    before: RecordMigration,
    action: GroupAction,
  ): { readonly request: GroupMigrationStep; readonly cutsOff: boolean } | undefined {
    const change = migrationChangeOf(action);
    if (change === undefined) return undefined;
    const { environment, migration } = this.context;
    const transition = migrationTransition(before.state, change);
    const next = nextMigration(before, change);
    if (transition === undefined || next === undefined) throw new RejectionError("migration/not-possible");
    const { lease } = migration.own(group);
    const request: GroupMigrationStep = {
      ...next,
      ...(lease === undefined || !hasLease(before.state) ? {} : { leaseToken: lease }),
      ...(beginsLease(change) ? { newLeaseToken: environment.random(limits.leaseTokenBytes) } : {}),
    };
    return { request, cutsOff: transition.fence === "new" };
  }

  /** Carries a persisted change to the service. Returns when it was applied, or lost its race. */
  private async push(group: GroupId, isSecondTry = false): Promise<void> {
    const { api, conversations } = this.context;
    const write = conversations.pendingWrite(group);
    if (write === undefined) return;
    if (write.announcement !== 0) {
      this.outbox.wakeAll();
      await this.announced(group, write.announcement);
      // Somebody else's change came while we waited.
      if (!this.stillPending(group, write)) return;
    }
    const accessKey = conversations.group(group)?.groupKey ?? write.groupKey;
    try {
      await api.writeGroup(group, accessKey, write.body);
    } catch (error) {
      if (!(error instanceof ServiceRefusal)) throw error;
      if (error.code !== "group/revision-conflict" && error.code !== "group/access-denied") {
        // A step of a migration that is refused is decided on anew, whatever comes of it.
        const isStep = error.code.startsWith("migration/");
        if (!isStep && (error.action === "retry" || error.action === "retry-later")) throw error;
        this.dropPendingWrite(group, write);
        throw error;
      }
      // Lost, or won with the answer lost: the record says which. Or it was set back, and takes the change now.
      await this.readRecord(group);
      this.tellAndWake();
      return this.stillPending(group, write) && !isSecondTry ? this.push(group, true) : undefined;
    }
    // A refresh that ran meanwhile may have adopted it.
    if (this.stillPending(group, write)) this.adoptOwn(group, write);
    this.tellAndWake();
  }

  /**
   * Waits until a new key was sent to all members, but not for ever: one may have no room, or the service may refuse it without a
   * reason, and whatever else is to be changed stands behind it. The change stays persisted, and goes on when it was sent.
   */
  private async announced(group: GroupId, announcement: number): Promise<void> {
    const { keyPatienceMs: timeoutMs } = this.context.settings;
    try {
      await this.outbox.whenSettled(announcement, { timeoutMs, late: NOT_ANNOUNCED });
    } catch (error) {
      const isLate = error instanceof UnavailableError && error.code === NOT_ANNOUNCED;
      if (isLate && !this.announcing.has(announcement)) {
        this.announcing.add(announcement);
        this.outbox.behind(async () => {
          await this.outbox.whenSettled(announcement).finally(() => this.announcing.delete(announcement));
          await this.change(group, () => undefined);
        });
      }
      throw error;
    }
  }

  private adoptOwn(group: GroupId, write: PendingWrite): void {
    this.context.transaction(() => {
      const change = verifyChange(write.change);
      const keys = write.fence === undefined ? undefined : { groupKey: write.groupKey, fence: write.fence };
      this.ledger.adopt(group, [change], keys);
    });
  }

  private stillPending(group: GroupId, write: PendingWrite): boolean {
    const now = this.context.conversations.pendingWrite(group);
    return now !== undefined && equalBytes(now.change, write.change);
  }

  private dropPendingWrite(group: GroupId, write: PendingWrite): void {
    this.context.transaction(() => {
      this.context.conversations.deletePendingWrite(group);
      this.context.migration.dropLease(group);
      if (write.announcement !== 0) this.context.outbox.delete(write.announcement);
    });
  }

  private tellAndWake(): void {
    this.context.notifier.flush();
    this.outbox.wakeAll();
  }

  /** Takes up changes that a crash or a lost connection left behind, and rotations that are due. */
  async resume(): Promise<void> {
    const { conversations } = this.context;
    // Beside each other: one that cannot go on now holds up no other.
    const pushed = conversations.pendingWrites().map((id) => this.change(groupId(id), () => undefined));
    await Promise.all(pushed.map((change) => change.catch(ignoreUnavailable)));
    await this.rotateDue(conversations.groupsToRotate(this.context.own.accountId));
  }

  /** Draws new keys for those of these groups that somebody has left; one that cannot have one now holds up no other. */
  async rotateDue(groups: readonly Bytes[]): Promise<void> {
    await Promise.all(
      groups.map(async (id) => {
        const key = formatId(groupId(id));
        // Asked again with each message that comes.
        if (this.rotating.has(key)) return;
        this.rotating.add(key);
        await this.rotateIfDue(groupId(id))
          .catch(ignoreUnavailable)
          .finally(() => this.rotating.delete(key));
      }),
    );
  }

  /** After somebody left: an owner or admin draws a new group key. */
  async rotateIfDue(group: GroupId): Promise<void> {
    const { context } = this;
    const due = (state: GroupState): boolean => {
      const self = state.members.get(formatId(context.own.accountId));
      return state.rotateAfter > 0 && self !== undefined && !self.invited && self.role !== "member";
    };
    if (context.conversations.get(group)?.state !== "active" || !due(this.ledger.state(group))) return;
    await this.change(group, (state) => (due(state) ? { kind: "rotate" } : undefined));
  }

  // ------------------------------------------------------------------------------------------- reading

  /**
   * Reads the record with whatever keys are known and adopts what is new. True when this device knows the present
   * generation afterwards; false when its key has still to come, or it was removed.
   */
  async refresh(group: Uint8Array): Promise<boolean> {
    const id = groupId(group);
    const before = this.context.conversations.group(id)?.hash;
    try {
      await this.readRecord(id);
    } catch (error) {
      if (!(error instanceof RejectionError)) throw error;
      // A member may hold a lease for ever: nobody else's work stands still for it.
      const isHeld = error.code === "migration/lease-held";
      if (isHeld ? this.isChecking : isTemporary(error) && !error.code.startsWith("group/")) throw error;
      return false;
    }
    const after = this.context.conversations.group(id)?.hash;
    // Nobody's pause ends for a record in which nothing is new: two groups would wake each other for ever.
    if (before === undefined || after === undefined || !equalBytes(before, after)) this.tellAndWake();
    else this.context.notifier.flush();
    return true;
  }

  /** Where the service has gone back behind what is known here, its record is written forward first. */
  private async readRecord(group: GroupId): Promise<void> {
    for (let feeds = 0; ; feeds++) {
      const before = this.context.conversations.group(group)?.revision ?? 0;
      const served = await this.servedRecord(group);
      const { keys, revision, blob } = served;
      // What came while the answer was on its way may well be newer.
      if (revision < before) this.suspicions.note(group, "group/rolled-back");
      if (revision >= before || !this.mayFeed(group, feeds)) {
        if (blob === undefined) throw new RejectionError("group/unknown");
        // What lies under a key that is over was never newer than what we know.
        if (served.overFrom !== undefined) throw new RejectionError("group/rolled-back");
        this.adoptRecord(group, keys, revision, blob);
        this.compareStates(group, revision, served.migration);
        return;
      }
      // Under a key that is still to come nothing can lie that is older than what we know: somebody has only announced it.
      const overFrom = "author" in keys ? 0 : served.overFrom;
      const isOurs = blob === undefined || this.isOurPast(group, { ...served, overFrom }, blob);
      if (feeds === 0 && this.isChecking) await this.refeeder.giveWay(group, revision);
      const isStale = !isOurs || (overFrom !== undefined && revision >= overFrom);
      const outcome = await this.refeeder.feed(group, { revision, groupKey: keys.groupKey, isStale });
      if (outcome === "refused") throw new RejectionError("group/rolled-back");
      if (outcome === "fed") this.fed.add(formatId(group));
    }
  }

  /** Not again where it was written forward on this connection: a service that goes on showing an older one does not want it. */
  private mayFeed(group: GroupId, feeds: number): boolean {
    return feeds < MAX_FEEDS && !this.fed.has(formatId(group)) && this.refeeder.mayFeed(group);
  }

  /** The record as the service has it, by the first key that it lets us read it with; without a blob where it has none. */
  private async servedRecord(group: GroupId): Promise<ServedRecord> {
    const { api, conversations } = this.context;
    const current = conversations.group(group);
    const candidates: (Generation & { readonly overFrom?: number })[] = [
      ...(current === undefined ? [] : [current]),
      ...conversations.pendingKeys(group),
      ...(current === undefined ? [] : this.pastGenerations(group, current)),
    ];
    let refused: unknown = new RejectionError("group/unknown");
    for (const keys of candidates) {
      try {
        return { keys, overFrom: keys.overFrom, ...(await api.readGroup(group, keys.groupKey)) };
      } catch (error) {
        if (!(error instanceof ServiceRefusal)) throw error;
        if (error.code === "group/unknown" && current !== undefined)
          return { keys: current, overFrom: undefined, revision: 0, blob: undefined };
        if (error.code !== "group/access-denied") throw error;
        refused = error;
      }
    }
    this.triedPast.add(formatId(group));
    throw refused;
  }

  /**
   * Keys of generations that are over, the newest first: a service that was set back behind a removal knows those alone. Where
   * none of them opens the record they are not tried again on this connection, or whoever was removed would ask with each of
   * them whenever the group is touched.
   */
  private pastGenerations(
    group: GroupId,
    { fence }: Generation,
  ): readonly (Generation & { readonly overFrom: number })[] {
    if (this.triedPast.has(formatId(group)) || !this.refeeder.mayFeed(group)) return [];
    return this.context.conversations.pastKeys(group).map((past) => ({ ...past, fence }));
  }

  /**
   * Whether an older record is one that we know. Another past, which a member has signed, is a fork: RejectionError. Whoever was
   * removed can write what it likes under the key that it had: that divides nobody, and is written over.
   */
  private isOurPast(group: GroupId, { keys, overFrom, revision }: ServedRecord, blob: Bytes): boolean {
    try {
      const served = splitRecord(openRecord(group, keys.groupKey, revision, blob));
      if (served.length !== revision) throw new RejectionError("group/revision-mismatch");
      const ours = this.context.conversations.change(group, revision);
      const theirs = served[revision - 1]!;
      if (ours !== undefined && equalBytes(hashChange(ours), hashChange(theirs))) return true;
      verifyChange(theirs);
    } catch (error) {
      if (overFrom === undefined || !(error instanceof RejectionError)) throw error;
    }
    if (overFrom !== undefined) return false;
    this.noteFork(group, "group/forked");
    throw new RejectionError("group/forked");
  }

  /** A new connection: what the service did not want on the one before, it is offered again. */
  connected(): void {
    this.triedPast.clear();
    this.fed.clear();
  }

  /**
   * Where the service was set back: every group's record is read, and written forward where it has to be, and `checked` is told
   * of each, once. One that cannot be keeps no other from it; where the service could not be reached, or had no time, those that
   * are left are looked at again with the next connection, and where it says when it will have time, on this one.
   */
  async checkRecords(checked: (group: GroupId) => Promise<void>): Promise<void> {
    const { closing, conversations, environment, meta } = this.context;
    if (meta.number(RECORDS_IN_DOUBT) === 0 || this.isChecking) return;
    // One wait at a time, however often a service breaks the connection.
    this.checkLater.abort();
    const later = new AbortController();
    this.checkLater = later;
    this.isChecking = true;
    const { doubts } = this;
    let isDone = true;
    let pauseMs: number | undefined;
    try {
      for (const id of conversations.groups()) {
        const key = formatId(groupId(id));
        if (this.checked.has(key)) continue;
        try {
          await this.refresh(id);
          await checked(groupId(id));
          if (this.doubts === doubts) this.checked.add(key);
        } catch (error) {
          if (isTemporary(error)) {
            isDone = false;
            if (error instanceof ServiceRefusal)
              pauseMs = Math.min(pauseMs ?? CHECK_AGAIN_MS.most, error.retryAfterMs ?? 0);
          } else if (!(error instanceof RejectionError) && !(error instanceof UsageError)) throw error;
        }
      }
    } finally {
      this.isChecking = false;
    }
    if (this.doubts !== doubts) return this.checkRecords(checked);
    if (isDone) {
      this.checked.clear();
      this.context.transaction(() => meta.setNumber(RECORDS_IN_DOUBT, 0));
    }
    if (pauseMs === undefined) return;
    const abort = AbortSignal.any([closing.signal, later.signal]);
    await environment.sleep(Math.max(pauseMs, CHECK_AGAIN_MS.least), abort);
    if (!abort.aborted) await this.checkRecords(checked);
  }

  /** Inside a transaction: the service may have gone back behind what is known of its records. */
  noteServiceLost(): void {
    this.doubts++;
    this.checked.clear();
    this.context.meta.setNumber(RECORDS_IN_DOUBT, 1);
  }

  /** The record alone says how far a migration is; a service that names another state is up to something. */
  private compareStates(group: GroupId, revision: number, named: GroupMigration | undefined): void {
    const { conversations, migration } = this.context;
    if (conversations.group(group)?.revision !== revision) return;
    const { state, generation } = migration.record(group);
    const { state: theirs, generation: number } = named ?? unmigrated;
    if (state !== theirs || generation !== number) this.suspicions.note(group, "migration/state-mismatch");
  }

  /** See {@link GroupRefresh}. */
  refusedWithoutNotice(group: Uint8Array): void {
    this.suspicions.note(groupId(group), "migration/refused-without-notice");
  }

  /** Verifies a record against what is remembered and adopts its new changes. */
  private adoptRecord(group: GroupId, keys: Generation, revision: number, blob: Bytes): void {
    const { context } = this;
    const known = context.conversations.group(group);
    const changes = splitRecord(openRecord(group, keys.groupKey, revision, blob));
    if (changes.length !== revision) throw new RejectionError("group/revision-mismatch");
    try {
      checkContinues(changes, changes.map(hashChange), known ?? { revision: 0, hash: new Uint8Array(0) });
      if ("author" in keys) requireBegun(keys as PendingKey, changes);
    } catch (error) {
      if (error instanceof RejectionError) this.noteFork(group, error.code);
      throw error;
    }
    const fresh = changes.slice(known?.revision ?? 0).map(verifyChange);
    if (fresh.length === 0) return;
    try {
      context.transaction(() =>
        this.ledger.adopt(group, fresh, { groupKey: keys.groupKey, fence: keys.fence }),
      );
    } catch (error) {
      // Whoever has not gone over yet follows that record: a person has to know.
      if (error instanceof RejectionError && error.code === RECOVERY_REFUSED)
        this.suspicions.note(group, RECOVERY_REFUSED);
      throw error;
    }
  }

  /** The service shows another past: nothing is sent any more until the user has decided. */
  private noteFork(group: GroupId, code: string): void {
    const { context } = this;
    if (code !== "group/forked") return;
    context.transaction(() => {
      const row = context.conversations.group(group);
      if (row === undefined || row.forked) return;
      context.conversations.saveGroup(group, { ...row, forked: true });
      context.events.append({
        kind: "decision-needed",
        conversation: group,
        detail: "group/forked",
        atMs: context.now(),
      });
    });
    context.notifier.flush();
  }

  /**
   * An invite: reads and verifies the record, then creates the conversation. The inviter vouches for revision and
   * hash, so the service cannot show another group. RejectionError where the record does not fit; `group/access-denied` where
   * it is under another key by now, which has not come yet.
   */
  async acceptInvite(group: GroupId, inviter: AccountId, invite: GroupInvite): Promise<void> {
    const { context } = this;
    if (this.hasJoined(group, invite.revision)) return;
    requireIdOfPairwiseGroup(context, group);
    const { keys, revision, blob } = await this.recordForInvite(group, invite);
    if (this.hasJoined(group, invite.revision)) return;
    const known = context.conversations.group(group);
    const state = context.conversations.get(group)?.state;
    const encoded = splitRecord(openRecord(group, keys.groupKey, revision, blob));
    if (encoded.length !== revision) throw new RejectionError("group/revision-mismatch");
    checkContinues(encoded, encoded.map(hashChange), invite);
    const changes = encoded.slice(known?.revision ?? 0).map(verifyChange);
    if (known !== undefined) checkContinues(encoded, encoded.map(hashChange), known);
    const final = changes.reduce(applyChange, this.ledger.state(group));
    const self = final.members.get(formatId(context.own.accountId));
    if (self === undefined) throw new RejectionError("group/not-a-member");
    // Under a key that is not ours nothing that we sign would count there. Of others that is told, and keeps nobody out.
    if (!equalBytes(self.identityKey, context.engine.local()!.accountIdentityKey))
      throw new RejectionError("group/identity-mismatch");
    context.transaction(() => {
      requireIdOfPairwiseGroup(context, group);
      const trusted = context.settings.acceptUnknown || context.contacts.get(inviter)?.accepted === true;
      const entry = self.invited ? "invited" : trusted || context.isOwn(inviter) ? "active" : "request";
      if (context.conversations.get(group) === undefined) {
        context.conversations.insert(
          {
            id: group,
            kind: "group",
            state: entry,
            protocol: "pairwise",
            title: final.title,
            expireAfterSeconds: 0,
          },
          context.now(),
        );
      } else {
        context.conversations.setState(group, entry);
      }
      this.ledger.adopt(group, changes, { groupKey: keys.groupKey, fence: keys.fence });
      // A device that was linked later than its account came is told nothing of what was said before.
      if (known === undefined) context.migration.setJoinedRevision(group, invite.revision);
      if (self.invited || state !== entry) context.conversations.setState(group, entry);
    });
    this.tellAndWake();
  }

  /**
   * The record with the first key that it can be read with. Somebody may have been removed since we were invited: then it lies
   * under a key that was sent to all members, and waits here because we knew no such group.
   */
  private async recordForInvite(
    group: GroupId,
    invite: GroupInvite,
  ): Promise<{
    readonly keys: Generation;
    readonly revision: number;
    readonly blob: Bytes;
  }> {
    const { api, conversations, held } = this.context;
    const waiting = held.of("group", group).flatMap(({ bytes, sender }) => {
      const { groupKey } = decodeContent(bytes);
      return groupKey === undefined || sender === undefined
        ? []
        : [{ ...groupKey, author: sender.accountId }];
    });
    const newestFirst = [...waiting, ...conversations.pendingKeys(group)]
      .filter((key) => key.revision > invite.revision)
      .sort((a, b) => b.revision - a.revision);
    // Anybody can send us keys: each gets a few tries.
    const tried = Map.groupBy(newestFirst, ({ author }) => formatId(author));
    const keys = [...tried.values()].flatMap((ofOne) => ofOne.slice(0, MAX_KEYS_OF_ONE));
    let refused: unknown;
    for (const announced of [undefined, ...keys.slice(0, MAX_KEYS_TRIED)]) {
      const { groupKey, fence } = announced ?? invite;
      try {
        const { revision, blob } = await api.readGroup(group, groupKey);
        if (announced !== undefined)
          requireBegun(announced, splitRecord(openRecord(group, groupKey, revision, blob)));
        return { keys: { groupKey, fence }, revision, blob };
      } catch (error) {
        const isNotThisKey = error instanceof RejectionError && NOT_THIS_KEY.has(error.code);
        if (!isNotThisKey) throw error;
        refused ??= error;
      }
    }
    throw refused;
  }

  private hasJoined(group: GroupId, revision: number): boolean {
    const known = this.context.conversations.group(group);
    const state = this.context.conversations.get(group)?.state;
    return known !== undefined && state !== "left" && state !== "removed" && known.revision >= revision;
  }
}

function ignoreUnavailable(error: unknown): void {
  if (error instanceof UnavailableError || error instanceof RejectionError) return;
  throw error;
}

/**
 * The fence of a generation is the word of whoever began it, and only the newest one is in force: anybody else may have sent us
 * a key that is over, or a fence that no message gets by. RejectionError `group/foreign-key`.
 */
function requireBegun({ author, revision }: PendingKey, changes: readonly Bytes[]): void {
  const newest = changes.map(verifyChange).findLast(({ action }) => startsGeneration(action));
  const isTheirs = newest?.revision === revision && equalBytes(newest.author.accountId, author);
  if (!isTheirs) throw new RejectionError("group/foreign-key");
}

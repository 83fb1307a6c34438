/**
 * From a group's log to the history, in the order of the log:
 *
 *   take a page of entries, decrypt and validate
 *   PERSIST what the engine says, content, members, and the cursor, in one transaction
 *   acknowledge
 *   tell the listeners
 *
 * An application message that cannot be read is passed over: nobody else could read it either, or it is not for us.
 * A commit that cannot be followed stops the log where it is, and the service is told.
 */
import {
  type AccountId,
  type Bytes,
  type DeviceAddress,
  type DeviceId,
  equalBytes,
  formatId,
  type GroupId,
  groupId,
  RejectionError,
} from "@murmuration/base";
import {
  type CommitDescription,
  communityContextOf,
  credentialIn,
  decodeMemberCredential,
  describeCommit,
  type Group,
  partiesOf,
  provesVoid,
  type Received,
  silentAccounts,
} from "@murmuration/mls-groups";
import {
  encodeGroupRefuseTbs,
  GROUP_REFUSE_LABEL,
  type GroupEntries,
  type GroupEntry,
} from "@murmuration/wire";
import { sha256 } from "../../core/sha256.ts";
import type { Context } from "../context.ts";
import type { Access } from "./access.ts";
import type { CommunityContent } from "./content.ts";
import type { EpochReports } from "./epoch-reports.ts";
import type { GroupNames } from "./group-names.ts";
import { communityCrypto } from "./identity.ts";
import type { CommunityLedger } from "./ledger.ts";
import type { GroupPast } from "./past.ts";
import type { Loaded, Registry } from "./registry.ts";

/** What the log sets off once it is persisted. */
export interface LogEffects {
  /** Inside the transaction: the log shows this own message, so it is accepted. */
  shown(outboxId: number): void;
  /** After the transaction: these own messages were shown. */
  settled(outboxIds: readonly number[]): void;
  /** The group can only be entered anew. */
  stuck(id: GroupId): void;
  /** A commit was refused: if it is not taken back, the group has to be entered anew. */
  refused(id: GroupId, sequence: number): void;
  /** Entries between our cursor and what was delivered are missing. */
  gap(id: GroupId): void;
  /**
   * A commit needs a pre-shared key that is not here, in a group that its conversation does not go by yet. The log stands
   * still before it.
   */
  pskMissing(id: GroupId, at: MissingPsk): void;
  /** Whether more may be taken of a log now. Where not, it stands still. */
  mayTakeMore(id: GroupId): boolean;
  /** Inside the transaction that merges a commit. */
  merged(id: GroupId, group: Group, proposals: Staged["public"]["proposals"]): void;
  /**
   * Inside the transaction: a commit was taken back, and with it went the proposals of this epoch, which goes on: with this
   * device, or without it.
   */
  takenBack(id: GroupId, epoch: number): void;
  /** The service went on from an older copy of itself, to where we cannot follow. */
  parted(id: GroupId): void;
  /** The log knows more of this device than its database does: that is an old copy. */
  restored(): void;
  /** Something was persisted: events to tell, lanes to wake. */
  received(id: GroupId): void;
}

/** Where a log stands still for want of a pre-shared key. */
export interface MissingPsk {
  /** In which the commit was made. */
  readonly epoch: number;
  /** Of the commit's entry. */
  readonly sequence: number;
  /** It adds leaves. */
  readonly adds: boolean;
}

/** Entries that share a transaction. */
const BATCH = 32;

/**
 * Refusals that say something of this device alone: it lacks what the commit is judged by, or is in another epoch. It
 * enters the group anew, and others have nothing to learn from it.
 */
const OWN_FAILURES: ReadonlySet<string> = new Set(["community/ban-list-unknown", "mls/message/epoch"]);

/**
 * The key of a commit is not here. While a conversation moves it may be on its way, or never come: that is this device's own
 * problem, and no reason to tell anybody that the commit is bad.
 */
const PSK_MISSING = "mls/psk/unavailable";

/** A message of another group has no place in this log: what belongs there is asked for again. */
const FOREIGN = "mls/message/group";

/** What became of one entry. */
type Step = "next" | "gap" | "stop" | "again" | "restored" | "parted" | "keyless";
/** No entry behind such a one is taken. */
const ENDS: ReadonlySet<Step> = new Set(["gap", "stop", "restored", "parted", "keyless"]);
/** The engine's code for what was sent by our own leaf and is not known here. */
const OWN = "mls/message/own";

export class LogReader {
  private readonly context: Context;
  private readonly names: GroupNames;
  private readonly registry: Registry;
  private readonly access: Access;
  private readonly ledger: CommunityLedger;
  private readonly content: CommunityContent;
  private readonly reports: EpochReports;
  private readonly past: GroupPast;
  private readonly effects: LogEffects;
  /** The commit before which the log that is read now stands still. */
  private lacking: MissingPsk | undefined;

  constructor(
    context: Context,
    names: GroupNames,
    registry: Registry,
    access: Access,
    ledger: CommunityLedger,
    content: CommunityContent,
    reports: EpochReports,
    past: GroupPast,
    effects: LogEffects,
  ) {
    this.past = past;
    this.reports = reports;
    this.context = context;
    this.names = names;
    this.registry = registry;
    this.access = access;
    this.ledger = ledger;
    this.content = content;
    this.effects = effects;
  }

  /** A page that the service delivered. */
  receive(frame: GroupEntries): void {
    const id = groupId(frame.groupId);
    this.access.noteLastSequence(id, frame.lastSequence);
    const step = this.take(id, frame.entries);
    const { cursor = 0, refusedAt = 0 } = this.context.mls.group(id) ?? {};
    // Whoever acknowledges a commit vouches for it.
    const vouched = refusedAt === 0 ? cursor : Math.min(cursor, refusedAt - 1);
    const through = Math.min(vouched, frame.entries.at(-1)!.sequence);
    const vouches = frame.entries.some((entry) => entry.commit !== undefined);
    this.access.acknowledge(id, through, vouches);
    if (step === "gap" && this.access.isOpen(id)) this.effects.gap(id);
  }

  /** Entries from wherever: those that we have are passed over, and those behind a gap are left for the log to bring. */
  take(id: GroupId, entries: readonly GroupEntry[]): Step {
    const state = this.context.mls.group(id)?.state;
    if ((state !== "active" && state !== "creating") || this.access.isHeld(id)) return "stop";
    let step: Step = "next";
    for (let at = 0; at < entries.length; ) {
      if (!this.effects.mayTakeMore(id)) {
        this.access.hold(id);
        step = "stop";
        break;
      }
      step = this.takeBatch(id, entries.slice(at, at + BATCH));
      if (ENDS.has(step)) break;
      const cursor = this.context.mls.group(id)?.cursor ?? 0;
      at = step === "again" ? entries.findIndex(({ sequence }) => sequence > cursor) : at + BATCH;
      if (at < 0) break;
    }
    this.registry.changed.notify();
    this.effects.received(id);
    return step;
  }

  private takeBatch(id: GroupId, entries: readonly GroupEntry[]): Step {
    const settled: number[] = [];
    const step = this.registry.update(id, (loaded) => {
      let cursor = loaded.row.cursor;
      let step: Step = "next";
      for (const entry of entries) {
        if (entry.sequence <= cursor) continue;
        if (entry.sequence !== cursor + 1) {
          step = "gap";
          break;
        }
        step = this.apply(id, loaded, entry, settled);
        if (ENDS.has(step)) break;
        cursor = entry.sequence;
        if (step === "again") break;
      }
      if (cursor > loaded.row.cursor) this.context.mls.setCursor(id, cursor);
      const { cursor: before } = loaded.row;
      this.past.took(
        id,
        entries.filter(({ sequence }) => sequence > before && sequence <= cursor),
      );
      return step;
    });
    this.afterwards(id, settled, step);
    return step;
  }

  /** What may only happen once everything is persisted. */
  private afterwards(id: GroupId, settled: readonly number[], step: Step): void {
    this.context.notifier.flush();
    if (settled.length > 0) this.effects.settled(settled);
    if (step === "restored") {
      this.effects.restored();
      return;
    }
    if (step === "parted") this.effects.parted(id);
    if (step === "keyless") this.standStill(id);
    const state = this.context.mls.group(id)?.state;
    if (state === "over") this.registry.unload(id);
    if (state === "stuck") this.effects.stuck(id);
  }

  /** Nothing behind the commit is taken before the group is opened anew: with the key, or with another leaf. */
  private standStill(id: GroupId): void {
    this.access.hold(id);
    if (this.lacking !== undefined) this.effects.pskMissing(id, this.lacking);
    this.lacking = undefined;
  }

  private apply(id: GroupId, loaded: Loaded, entry: GroupEntry, settled: number[]): Step {
    if (entry.application !== undefined)
      return this.applyMessage(id, loaded, entry, entry.application.message, settled);
    if (entry.proposal !== undefined) {
      this.applyProposal(id, loaded, entry.proposal.proposal);
      return "next";
    }
    const { commit } = entry;
    if (commit !== undefined) {
      this.context.meter.commitsReceived++;
      return this.context.meter.time("commitReceiveCpuUs", () => this.applyCommit(id, loaded, entry, commit));
    }
    if (entry.void !== undefined) return this.applyVoid(id, loaded, entry.void, entry.serverTimeMs);
    return "next";
  }

  // ---------------------------------------------------------------------------------------- application

  private applyMessage(
    id: GroupId,
    { group, store }: Loaded,
    entry: GroupEntry,
    message: Bytes,
    settled: number[],
  ): Step {
    const { mls } = this.context;
    const rereading = this.past.isRereading(id, entry.sequence);
    if (rereading && this.past.found(id, message, entry.sequence)) return "next";
    const own = mls.partByHash(id, sha256(message));
    if (own !== undefined) {
      this.past.shown(id, own, entry.sequence);
      if (mls.hasUndo(id)) mls.setShown(own.outboxId, entry.sequence);
      else mls.deletePart(own.outboxId);
      this.effects.shown(own.outboxId);
      settled.push(own.outboxId);
      return "next";
    }
    let received: Received;
    try {
      received = group.receive(message, { sequence: BigInt(entry.sequence) });
    } catch (error) {
      if (!(error instanceof RejectionError)) throw error;
      // It went out of this device and is not in its database: the keys behind it would be used again.
      if (error.code === OWN && !rereading) return "restored";
      if (error.code === FOREIGN) return "gap";
      this.context.meter.unreadable++;
      return "next";
    }
    if (received.kind !== "application") return "next";
    store.apply(received.writes);
    const sender = senderOf(group, received);
    if (sender !== undefined)
      this.content.receive(id, { ...sender, body: received.applicationData, atMs: entry.serverTimeMs });
    return "next";
  }

  // ------------------------------------------------------------------------------------------- handshakes

  private applyProposal(id: GroupId, { group, store }: Loaded, proposal: Bytes): void {
    const received = orRefused(() => group.receive(proposal));
    if (received?.kind !== "proposal") return;
    store.apply(received.writes);
    this.past.tookProposal(id, group.epoch, proposal);
  }

  private applyCommit(
    id: GroupId,
    { group, row }: Loaded,
    entry: GroupEntry,
    content: NonNullable<GroupEntry["commit"]>,
  ): Step {
    const { mls } = this.context;
    const { commit, banList, partedSequence } = content;
    const rereading = this.past.isRereading(id, entry.sequence);
    // An epoch that we have left is none that we go back to; what comes next has to lead on from ours.
    if (rereading && this.past.isPast(commit, group.epoch)) return "next";
    const from = group.epoch;
    if (banList !== undefined) mls.putBanList(sha256(banList), banList);
    // What was fed again had been accepted before: when, nobody says.
    const acceptedAtMs = partedSequence === undefined ? entry.serverTimeMs : undefined;
    let received: Received;
    try {
      received = group.receive(commit, { acceptedAtMs });
    } catch (error) {
      if (!(error instanceof RejectionError)) throw error;
      if (rereading && error.code !== FOREIGN) return "parted";
      if (error.code === OWN) return "restored";
      const { refusedAt = 0, refusal = "" } = mls.group(id) ?? {};
      // Somebody goes on from a commit that we have refused: the group is where we cannot follow, or will not.
      if (refusedAt !== 0) return isForbidden(refusal) ? "next" : this.giveUp(id);
      if (error.code === FOREIGN) return "gap";
      // Others are elsewhere, and a person is asked: until then this device neither follows nor enters anew.
      if (mls.group(id)?.forked === true) return "next";
      if (error.code === PSK_MISSING) return this.lackKey(id, entry.sequence, group, commit);
      if (OWN_FAILURES.has(error.code)) return this.giveUp(id);
      return this.refuse(id, group, entry.sequence, commit, error.code);
    }
    const staged = stagedOf(group, received);
    if (staged === undefined) return "next";
    const description = describeCommit(staged.public, staged.from);
    // Another leaf of this very device took our place.
    if (description.resync && description.added.some(({ device }) => this.isThisDevice(device)))
      return "restored";
    const leavers = selfRemoved(staged.public);
    const silent = silentAccounts(description, staged.from.tree);
    const point = { nowMs: this.context.now(), sequence: BigInt(entry.sequence) };
    const writes =
      received.kind === "commit" ? group.merge(received.commit, point) : group.mergePending(point);
    mls.applyCommit(id, row.slot, writes, entry.sequence, point.nowMs);
    const hash = sha256(commit);
    mls.noteProvisional(id, entry.sequence, { hash, silent });
    mls.forgetShown(id, entry.sequence);
    this.past.tookCommit(id, from, content);
    if (partedSequence !== undefined && !rereading)
      this.past.sayAgainBetween(id, partedSequence, entry.sequence);
    mls.deletePendingCommit(id);
    if (group.status === "removed") {
      this.ledger.removed(id);
      return "stop";
    }
    this.reports.note(id, group);
    this.ledger.merged(id, group, { description, leavers, hash, atMs: entry.serverTimeMs });
    this.effects.merged(id, group, staged.public.proposals);
    if (received.kind === "own-commit") this.afterOwnCommit(id, description, point.nowMs);
    else this.content.cameWithout(id, description);
    this.content.sayOwed(id);
    return "next";
  }

  /**
   * While the conversation is pairwise there is time for the key to come. No commit of a group that it goes by has one: an
   * admin has made it up, and members who all entered anew would do so at every whim of it. Whoever was let into a group
   * that is prepared before it was told of the conversation can not know: it enters anew.
   */
  private lackKey(id: GroupId, sequence: number, group: Group, commit: Bytes): Step {
    if (!this.context.migration.isMoving(id)) {
      const { preparing } = communityContextOf(group.context.extensions);
      return preparing ? this.giveUp(id) : this.refuse(id, group, sequence, commit, PSK_MISSING);
    }
    const proposals = this.past.proposalsOf(id, group.epoch);
    const { added } = partiesOf(communityCrypto, group.tree, commit, proposals);
    this.lacking = { epoch: Number(group.epoch), sequence, adds: added.length > 0 };
    return "keyless";
  }

  private afterOwnCommit(id: GroupId, { added, removed }: CommitDescription, nowMs: number): void {
    // Adds alone went without a path, and left our own keys as they were.
    if (added.length === 0 || removed.length > 0) this.context.mls.setUpdated(id, nowMs);
    this.content.profileCommitted(id);
  }

  /**
   * Says that a commit cannot be followed. If others say so too, the service takes it back; if somebody goes on from it,
   * or nothing happens for a while, it is this device that has to enter the group anew.
   */
  private refuse(id: GroupId, group: Group, sequence: number, commit: Bytes, code: string): Step {
    const { meter, mls } = this.context;
    const commitHash = sha256(commit);
    const { silent } = partiesOf(communityCrypto, group.tree, commit, this.past.proposalsOf(id, group.epoch));
    mls.setRefused(id, sequence, code);
    mls.noteProvisional(id, sequence, { hash: commitHash, silent });
    meter.refusedCommits++;
    const signed = { groupId: this.names.wire(id), sequence, commitHash };
    const signature = group.signForService(GROUP_REFUSE_LABEL, encodeGroupRefuseTbs(signed));
    this.names.tell({ kind: "groupRefuse", ...signed, groupId: id, signature });
    this.effects.refused(id, sequence);
    return "next";
  }

  /** An own commit that refers to one of them goes with them, and is sent no more. */
  private forgetProposals(id: GroupId, group: Group, store: Loaded["store"]): void {
    store.apply(group.forgetProposals());
    if (!group.hasPendingCommit) this.context.mls.deletePendingCommit(id);
  }

  /**
   * The service takes the newest commit back: nobody could follow it, it says, and members of the epoch before it signed
   * that. Without their word it is a fork. Whoever refused the commit has nothing to undo. Whoever followed goes back and
   * says again what it said since, but never to somebody whom the commit shut out, whoever signed: two members who lie
   * together would let the third one in again, and it would be told everything. Nor does it go back behind the switch of its
   * conversation, to where the group is only prepared. Whoever came by the commit does not know the epoch before, and has
   * nothing to judge by: it enters anew. Proposals of that epoch are gone at the service, and so they
   * are here: whoever still wants to leave asks once more.
   */
  private applyVoid(
    id: GroupId,
    { group, row, store }: Loaded,
    { sequence, refusals }: NonNullable<GroupEntry["void"]>,
    atMs: number,
  ): Step {
    const { mls, outbox, storage } = this.context;
    if (mls.group(id)?.refusedAt === sequence) {
      if (!this.isProven(id, group, sequence, refusals)) return this.fork(id);
      mls.setRefused(id, 0);
      this.forgetProposals(id, group, store);
      this.effects.takenBack(id, Number(group.epoch));
      return "next";
    }
    const epoch = Number(group.epoch);
    storage.run("SAVEPOINT void");
    const isUndone = mls.undo(id, row.slot, sequence);
    const reloaded = isUndone ? this.registry.reload(id) : undefined;
    const before = reloaded?.group;
    const isProven = before !== undefined && this.isProven(id, before, sequence, refusals);
    const mayGoBack = isProven && !this.isSwitch(id, epoch) && !letsIn(before, group);
    if (!mayGoBack) storage.run("ROLLBACK TO void");
    storage.run("RELEASE void");
    if (isProven) this.effects.takenBack(id, epoch - 1);
    if (!mayGoBack) {
      // Whoever has not been in the epoch before came by this very commit.
      const cameByIt = !isUndone && mls.epochHash(id, epoch - 1) === undefined;
      return cameByIt ? this.giveUp(id) : this.fork(id);
    }
    // An own commit of that epoch is not given up here: it may be on its way, and win now.
    this.forgetProposals(id, before, reloaded!.store);
    this.reports.takeBack(id, epoch);
    this.past.tookBack(id, BigInt(epoch - 1));
    this.ledger.takenBack(id, before, atMs);
    for (const part of mls.partsFrom(id, epoch)) {
      mls.deletePart(part.outboxId);
      if (outbox.get(part.outboxId) !== undefined) outbox.setState(part.outboxId, "new", 0);
    }
    // Entries behind this one are read by the group as it is now.
    return "again";
  }

  /** Whether this device has gone over to the group by the commit that led to this epoch. */
  private isSwitch(id: GroupId, epoch: number): boolean {
    const { migration } = this.context;
    return migration.own(id).switchedAtMs > 0 && migration.record(id).switchPoint?.epoch === epoch;
  }

  /** Whether members of the epoch before a commit said, enough of them, that they could not follow this very commit. */
  private isProven(
    id: GroupId,
    before: Group,
    sequence: number,
    refusals: NonNullable<GroupEntry["void"]>["refusals"],
  ): boolean {
    const commit = this.context.mls.provisional(id, sequence);
    if (commit === undefined) return false;
    const content = encodeGroupRefuseTbs({ groupId: this.names.wire(id), sequence, commitHash: commit.hash });
    const signed = { label: GROUP_REFUSE_LABEL, content };
    return provesVoid(communityCrypto, before.tree, commit.silent, signed, refusals);
  }

  /** Stays where it is and says nothing more: a person has to know that others may be elsewhere. */
  private fork(id: GroupId): Step {
    const { context } = this;
    this.registry.reload(id);
    if (context.mls.group(id)?.forked !== true) {
      context.mls.setForked(id, true);
      const forked = { kind: "decision-needed", conversation: id, detail: "group/forked" } as const;
      context.events.append({ ...forked, atMs: context.now() });
    }
    return "again";
  }

  private isThisDevice({ accountId, deviceId }: DeviceAddress): boolean {
    return this.context.isOwn(accountId) && deviceId === this.context.own.deviceId;
  }

  private giveUp(id: GroupId): Step {
    this.context.mls.setState(id, "stuck");
    return "stop";
  }
}

/**
 * Whether a refusal is by a rule of communities. All members judge by them alike, and an honest service before them: who
 * follows such a commit all the same is not to be followed.
 */
export function isForbidden(refusal: string): boolean {
  return refusal.startsWith("community/");
}

/** Whether `before` has a device that `after` has shut out, by removing or by banning it. O(members). */
function letsIn(before: Group, after: Group): boolean {
  const [then, now] = [before, after].map(
    (group) => communityContextOf(group.context.extensions).banListHash,
  );
  if (!equalBytes(then!, now!)) return true;
  const inside = new Set(devicesOf(after));
  return devicesOf(before).some((device) => !inside.has(device));
}

function devicesOf(group: Group): readonly string[] {
  return Array.from(group.members(), ({ leafNode }) => {
    const { accountId, deviceId } = decodeMemberCredential(leafNode.credential);
    return `${formatId(accountId)}.${deviceId}`;
  });
}

type Staged = Pick<NonNullable<Group["pendingCommit"]>, "public" | "from">;

/** A commit before it is merged: another member's, or our own that came back. */
function stagedOf(group: Group, received: Received): Staged | undefined {
  if (received.kind === "own-commit") return group.pendingCommit;
  if (received.kind !== "commit") return undefined;
  const { commit } = received;
  return { public: commit.staged.public, from: commit.from.public };
}

/** Leaves that asked to go. */
function selfRemoved({ proposals }: Staged["public"]): readonly number[] {
  return proposals.flatMap(({ proposal, sender }) =>
    proposal.kind === "self_remove" && sender.kind === "member" ? [sender.leafIndex] : [],
  );
}

/** The leaf that sent a message, as it was in the epoch of the message. */
function senderOf(
  group: Group,
  received: Extract<Received, { kind: "application" }>,
): { readonly author: AccountId; readonly device: DeviceId; readonly identityKey: Bytes } | undefined {
  const credential = credentialIn(group, received.epoch, received.sender);
  if (credential === undefined) return undefined;
  const {
    accountId: author,
    deviceId: device,
    accountIdentityKey: identityKey,
  } = decodeMemberCredential(credential);
  return { author, device, identityKey };
}

function orRefused<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    if (error instanceof RejectionError) return undefined;
    throw error;
  }
}

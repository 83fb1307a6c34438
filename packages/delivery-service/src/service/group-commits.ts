import {
  type Bytes,
  type DeviceAddress,
  equalBytes,
  formatAddress,
  RejectionError,
  toHex,
  UnavailableError,
} from "@murmuration/base";
import type { GroupCommit, GroupCommitAccepted, GroupCommitLost, GroupEntry } from "@murmuration/wire";
import { compareEpoch, decideLink } from "../core/group-decisions.ts";
import { entriesThatFit, toWireEntry } from "../core/group-entries.ts";
import { sha256 } from "../core/submit.ts";
import type { ValidatedCommit } from "../ports/commit-validator.ts";
import type { AppendCommitOutcome, LogEntry } from "../ports/mls-groups.ts";
import type { ServiceContext } from "./context.ts";
import { type AnonymousPeer, bytesCharge, chargeAddress } from "./group-access.ts";
import { type GroupReader, leafName } from "./group-delivery.ts";
import type { GroupHub, GroupInUse } from "./group-hub.ts";
import { commitCharges, headerFor } from "./group-messages.ts";
import type { Voice } from "./group-turns.ts";
import { charge, chargeFor } from "./refusals.ts";
import { paidBy } from "./tree-charges.ts";

/** Who commits: a leaf that has the group open, or (by external commit) a connection that has no leaf yet. */
export interface Committer {
  readonly peer: AnonymousPeer;
  readonly reader: GroupReader | undefined;
  /** True where this connection was given the GroupInfo: it may join, though it has no leaf yet. */
  readonly mayJoin: boolean;
  /** Under which it waits for a turn. */
  readonly voice: Voice;
}

export type CommitAnswer =
  | ({ readonly kind: "groupCommitAccepted" } & GroupCommitAccepted)
  | ({ readonly kind: "groupCommitLost" } & GroupCommitLost);

/** Entries in the answer to a lost race, bytes: as many as a frame holds beside the proposals. */
const LOST_ENTRIES_BYTES = 5 * 512 * 1024;
/** Commits after the lost one that the answer may tell. */
const LOST_EPOCHS = 64;

/**
 * Orders a commit: repeated, lost, somebody else's turn, invalid, or accepted and durable with everything that follows
 * from it. One commit of a group after the other. Throws RejectionError `group/commit-invalid`, `group/link-expired`,
 * `group/welcome-mismatch`, `group/not-a-member`, `group/not-open`, `group/not-allowed`, `group/epoch-unknown`,
 * `group/busy`, `rate/limited`.
 */
export async function commitToGroup(
  hub: GroupHub,
  group: GroupInUse,
  committer: Committer,
  frame: GroupCommit,
): Promise<CommitAnswer> {
  const { context } = hub;
  const { live } = group;
  const { epoch, sender } = headerFor(live, frame.commit, "commit");
  if (sender?.kind === "stranger") throw new RejectionError("group/commit-invalid");
  if (committer.reader?.isOpen === false) throw new RejectionError("group/not-a-member");
  const member = sender?.kind === "member" ? requireReader(committer) : undefined;
  if (member === undefined) await chargeAddress(context, committer.peer);
  else await charge(context.rateLimits, commitCharges(context, member));
  const answer = live.exclusive(async () => {
    const repeated = await findRepeated(context, group, epoch, frame.commit);
    if (repeated !== undefined) {
      live.known(repeated.sequence);
      return accepted(repeated, true);
    }
    await member?.member();
    // Another node may have taken the commit that led there.
    if (epoch > live.epoch) await live.refresh();
    const isPast = compareEpoch(epoch, live.epoch) === "past";
    if (isPast || (await group.turns.isOthers(committer.voice.name))) {
      // What lost is not validated; but a place is the leaf's that signed for this connection, and for no other.
      if (sender?.kind === "member" && sender.leafIndex !== member?.leafIndex)
        throw new RejectionError("group/commit-invalid");
      return lose(context, group, committer, epoch);
    }
    return order(hub, group, committer, member, frame, epoch);
  });
  answer.then(
    (given) => {
      context.metrics.count("group_commits", outcomeOf(given));
      if (given.kind === "groupCommitLost") hub.lostCommits.note(group.live.groupId);
    },
    () => context.metrics.count("group_commits", "invalid"),
  );
  return answer;
}

/** The same commit sent again, because its answer was lost: known by its bytes, in the epoch that it led on from. */
async function findRepeated(
  context: ServiceContext,
  { live }: GroupInUse,
  epoch: number,
  commit: Bytes,
): Promise<Omit<GroupCommitAccepted, "repeatedCommit"> | undefined> {
  if (epoch >= live.epoch) return undefined;
  const known = (await context.stores.mlsGroups.commitOf(live.groupId, epoch))?.at(-1);
  if (known === undefined || !equalBytes(known.message, commit)) return undefined;
  return { sequence: known.sequence, epoch: epoch + 1 };
}

/**
 * Tells a loser what happened since the epoch of its commit, and gives it a place in the line. A joiner has to ask for
 * the GroupInfo anew anyway, and reads nothing of the log before it is a member; who may not even join learns nothing
 * and holds nobody up.
 */
async function lose(
  context: ServiceContext,
  group: GroupInUse,
  { mayJoin, reader, voice }: Committer,
  fromEpoch: number,
): Promise<CommitAnswer> {
  const { live, turns } = group;
  const isMember = reader?.leafIndex !== undefined;
  if (!isMember && !mayJoin) throw new RejectionError("group/not-open");
  const entries = isMember ? await entriesSince(context, group, fromEpoch) : [];
  const place = await turns.lost(voice);
  const { epoch } = live;
  return { kind: "groupCommitLost", epoch, entries, ...place, ...(!isMember && { proposals: [] }) };
}

/** Proposals and commits from an epoch on, as far as they are kept and fit into a frame; no more are read. O(entries). */
async function entriesSince(
  context: ServiceContext,
  { live }: GroupInUse,
  fromEpoch: number,
): Promise<readonly GroupEntry[]> {
  const limits = { maxEntries: context.limits.entriesPerDeliver, maxBytes: LOST_ENTRIES_BYTES };
  let entries: readonly LogEntry[] = [];
  const through = Math.min(live.epoch, fromEpoch + LOST_EPOCHS);
  for (let epoch = fromEpoch; epoch < through; epoch++) {
    const commit = await context.stores.mlsGroups.commitOf(live.groupId, epoch);
    // Too long ago to be told: the log says what can still be known.
    if (commit === undefined) break;
    const more = [...entries, ...commit];
    entries = entriesThatFit(more, limits);
    if (entries.length < more.length) break;
  }
  return entries.map(toWireEntry);
}

/**
 * Validates a commit of the epoch that was the present one, stores it and what follows, and tells everybody. Another node may
 * take one for the same epoch at any time: what is validated and stored is for this epoch, whatever is the present one then.
 */
async function order(
  hub: GroupHub,
  group: GroupInUse,
  committer: Committer,
  member: GroupReader | undefined,
  frame: GroupCommit,
  epoch: number,
): Promise<CommitAnswer> {
  const { context } = hub;
  const { live } = group;
  const { clock, stores, validator } = context;
  const suspended = await context.groupMemory.suspended(live.groupId);
  if (member !== undefined && suspended.has(member.name)) throw new RejectionError("group/not-allowed");
  const proposals = await stores.mlsGroups.pendingProposals(live.groupId);
  const now = clock.now();
  const base = paidBy(context, committer.peer, live.baseOf(epoch));
  const from = { epoch, commitSequence: live.lastCommitSequence };
  if (live.epoch !== epoch) return lose(context, group, committer, epoch);
  const request = {
    commit: frame.commit,
    groupInfo: frame.groupInfo,
    banList: frame.banList,
    proposals,
    committer: member?.leafIndex,
    welcome: frame.welcome,
    nowSeconds: Math.floor(now / 1000),
    banned: live.bannedLeaves,
    bannedAccounts: live.bannedAccounts,
  };
  let validated: ValidatedCommit;
  try {
    validated = await validator.commit(base, request);
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error;
    await live.refresh();
    if (live.epoch === epoch && live.lastCommitSequence === from.commitSequence) throw error;
    return lose(context, group, committer, epoch);
  }
  try {
    checkParties(group, validated, suspended, frame);
    await admitByLink(context, group, validated, now);
    await charge(context.rateLimits, [bytesCharge(context, committer.peer, storedBytes(validated, frame))]);
    const outcome = await live.holding(() => append(hub, group, frame, from, validated, now));
    if (outcome.kind !== "appended") {
      validator.settle(live.groupId, epoch, undefined);
      await live.refresh(true);
      if (outcome.kind === "repeated") return accepted(outcome, true);
      return await lose(context, group, committer, epoch);
    }
    for (const key of validated.removed) group.turns.gone(leafName(key));
    if (validated.senderRole !== "member") await context.groupMemory.pardon(live.groupId);
    if (validated.snapshotDue) void saveSnapshot(context, group, outcome, validated.treeHash);
    if (validated.welcomes.length > 0) hub.outbox.pump();
    group.turns.committed(committer.voice.name);
    return accepted(outcome, false);
  } catch (error) {
    validator.settle(live.groupId, epoch, undefined);
    // The store may have taken the commit and failed to say so: what is true is read anew.
    if (!(error instanceof RejectionError)) await reload(group);
    throw error;
  }
}

/** What the validator cannot know: who is banned or suspended by name, and whom the Welcomes are for. */
function checkParties(
  { live }: GroupInUse,
  validated: ValidatedCommit,
  suspended: ReadonlySet<string>,
  frame: GroupCommit,
): void {
  if (validated.external) {
    if (validated.bringsBanned || live.isBanned(validated.senderKey))
      throw new RejectionError("group/not-a-member");
    if (suspended.has(leafName(validated.senderKey))) throw new RejectionError("group/not-allowed");
  }
  if (validated.bringsBanned || validated.added.some((key) => live.isBanned(key))) {
    throw new RejectionError("group/commit-invalid");
  }
  // Whoever else got one would be told of a group that it was not let into.
  const namesOf = (devices: readonly DeviceAddress[]) => devices.map(formatAddress).join();
  if (namesOf(frame.recipients) !== namesOf(validated.addedDevices)) {
    throw new RejectionError("group/welcome-mismatch");
  }
}

/**
 * A link lets in until it expires, and as many a minute as the group's settings say. `now` is the time that the entry
 * will have: by that one members judge. Throws RejectionError `group/link-expired`, `rate/limited`.
 */
async function admitByLink(
  context: ServiceContext,
  { live }: GroupInUse,
  { joinedBy }: ValidatedCommit,
  now: number,
): Promise<void> {
  if (joinedBy === undefined) return;
  const { link, perMinute } = joinedBy;
  decideLink(link, now);
  if (perMinute === 0) return;
  const name = `${toHex(live.groupId)} ${toHex(link.linkId)}`;
  await charge(context.rateLimits, [chargeFor("group-link", name, { burst: perMinute, perMinute })]);
}

/** What a commit adds to the store. */
function storedBytes({ treeDelta, welcomes }: ValidatedCommit, frame: GroupCommit): number {
  const parts = [frame.commit, frame.groupInfo, frame.banList, treeDelta, ...welcomes];
  return parts.reduce((bytes, part) => bytes + (part?.length ?? 0), 0);
}

/** One transaction; what follows from it on this node is done before anything behind the commit is shown. */
async function append(
  hub: GroupHub,
  { live }: GroupInUse,
  frame: GroupCommit,
  from: { readonly epoch: number; readonly commitSequence: number },
  validated: ValidatedCommit,
  now: number,
): Promise<Exclude<AppendCommitOutcome, { readonly kind: "unknown-group" }>> {
  const { stores, validator } = hub.context;
  const commitHash = sha256(frame.commit);
  const outcome = await stores.mlsGroups.appendCommit({
    groupId: live.groupId,
    fromEpoch: from.epoch,
    fromCommitSequence: from.commitSequence,
    commitHash,
    proposals: validated.referenced,
    commit: frame.commit,
    groupInfo: frame.groupInfo,
    treeHash: validated.treeHash,
    treeDelta: validated.treeDelta,
    banList: validated.banListChanged ? (frame.banList ?? new Uint8Array(0)) : undefined,
    removed: validated.removed,
    listed: validated.listed,
    leafReplaced: validated.leafReplaced,
    welcomes: frame.recipients.map((recipient, index) => ({
      recipient,
      welcome: validated.welcomes[index]!,
    })),
    acceptedAtMs: now,
  });
  if (outcome.kind === "unknown-group") throw new RejectionError("group/unknown");
  if (outcome.kind !== "appended") return outcome;
  validator.settle(live.groupId, from.epoch, outcome.sequence);
  live.tookCommit({
    epoch: outcome.epoch,
    sequence: outcome.sequence,
    removed: validated.removed,
    added: validated.added,
    committer: validated.senderKey,
    commitHash,
    silent: validated.silent,
    byAdmin: validated.senderRole !== "member",
  });
  if (validated.removed.length > 0 || validated.listed.length > 0) await live.readBans();
  return outcome;
}

/** A new snapshot, so that the follower is loaded from fewer deltas. It may fail: the next commit asks for it again. */
async function saveSnapshot(
  { log, stores, validator }: ServiceContext,
  { live }: GroupInUse,
  { epoch, sequence }: { readonly epoch: number; readonly sequence: number },
  treeHash: Bytes,
): Promise<void> {
  try {
    const snapshot = await validator.snapshot(live.baseOf(epoch, sequence));
    await stores.mlsGroups.saveSnapshot(live.groupId, epoch, treeHash, snapshot);
  } catch (error) {
    const code = error instanceof UnavailableError ? error.code : "internal";
    log.warn("snapshot-not-saved", { code });
  }
}

async function reload({ live }: GroupInUse): Promise<void> {
  try {
    await live.refresh(true);
  } catch {
    // The store does not answer; whatever comes next for this group fails in the same way and says so.
  }
}

function requireReader({ reader }: Committer): GroupReader {
  if (reader === undefined) throw new RejectionError("group/not-open");
  return reader;
}

function accepted(
  { sequence, epoch }: { readonly sequence: number; readonly epoch: number },
  repeatedCommit: boolean,
): CommitAnswer {
  return { kind: "groupCommitAccepted", sequence, epoch, repeatedCommit };
}

function outcomeOf(answer: CommitAnswer): string {
  if (answer.kind === "groupCommitLost") return "lost";
  return answer.repeatedCommit ? "repeated" : "accepted";
}

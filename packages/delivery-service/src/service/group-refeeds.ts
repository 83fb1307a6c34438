import { type Bytes, equalBytes, formatId, RejectionError } from "@murmuration/base";
import type { GroupPastCommit, GroupRefeed } from "@murmuration/wire";
import { readMlsHeader } from "../core/mls-header.ts";
import { sha256 } from "../core/submit.ts";
import type { PastCommit, ValidatedPastCommit } from "../ports/commit-validator.ts";
import type { Charge } from "../ports/rate-limits.ts";
import type { ServiceContext } from "./context.ts";
import { type AnonymousPeer, bytesCharge } from "./group-access.ts";
import { type GroupReader, leafName } from "./group-delivery.ts";
import type { GroupHub, GroupInUse } from "./group-hub.ts";
import { groupCommitsCharge, nameOf } from "./group-messages.ts";
import type { LiveGroup } from "./live-group.ts";
import { charge, chargeFor } from "./refusals.ts";
import { paidBy } from "./tree-charges.ts";

/** Commits that the validator is given at a time, so that nothing else waits for all of them. */
const COMMITS_PER_REQUEST = 32;

/** What a group lacks since its service was set back, from a leaf that has it. */
interface Refeed {
  readonly commits: readonly PastCommit[];
  readonly groupInfo: Bytes;
  readonly agreedSequence: number;
}

interface Waiting {
  readonly commits: readonly PastCommit[];
  readonly bytes: number;
}

/** What one connection is about to feed: the frames of a group are one piece, and wait in memory for the last one. */
export class Refeeding {
  private readonly hub: GroupHub;
  private readonly peer: AnonymousPeer;
  /** By group: a client feeds all that lack something at once. */
  private readonly waiting = new Map<string, Waiting>();
  private stopTimer: () => void = () => {};
  private ended = false;

  constructor(hub: GroupHub, peer: AnonymousPeer) {
    this.hub = hub;
    this.peer = peer;
  }

  /**
   * Takes a frame. With the last one everything is validated and stored, or nothing; it may not come later than the limit
   * says after the frame before it, of whatever group. Throws RejectionError `group/refeed-refused`, `group/not-a-member`, `group/busy`,
   * `rate/limited`; what came before is then forgotten. O(all its frames).
   */
  async take(group: GroupInUse, reader: GroupReader, frame: GroupRefeed): Promise<void> {
    const { context } = this.hub;
    const key = formatId(frame.groupId);
    try {
      await reader.member();
      const rate = context.limits.rates.refeedsPerLeaf;
      await charge(context.rateLimits, [chargeFor("group-refeeds", nameOf(reader), rate)]);
      // While that was asked the connection may have ended: nobody would ever take away what waits for it.
      if (this.ended) throw new RejectionError("group/not-open");
      const commits = this.add(key, frame);
      const { groupInfo, agreedSequence } = frame;
      if (groupInfo === undefined) return;
      const fed = await feed(
        this.hub,
        group,
        { reader, peer: this.peer },
        { commits, groupInfo, agreedSequence },
      );
      context.metrics.count("group_refeeds", fed ? "fed" : "up-to-date");
      this.drop(key);
    } catch (error) {
      this.drop(key);
      if (error instanceof RejectionError) context.metrics.count("group_refeeds", "refused");
      throw error;
    }
  }

  /** The connection ended. */
  end(): void {
    this.ended = true;
    this.dropAll();
  }

  private dropAll(): void {
    for (const key of this.waiting.keys()) this.drop(key);
  }

  private drop(key: string): void {
    const waiting = this.waiting.get(key);
    if (waiting === undefined) return;
    this.hub.waitingRefeedBytes -= waiting.bytes;
    this.waiting.delete(key);
    if (this.waiting.size === 0) this.stopTimer();
  }

  /** All commits that have come. What is complete with this frame waits for nothing, and is not counted as waiting. */
  private add(key: string, { commits, groupInfo }: GroupRefeed): readonly PastCommit[] {
    const { limits } = this.hub.context;
    const before = this.waiting.get(key) ?? { commits: [], bytes: 0 };
    const added = commits.reduce((sum, commit) => sum + bytesOf(commit), 0);
    const bytes = before.bytes + added;
    const all = [
      ...before.commits,
      ...commits.map(({ commit, proposals, banList }) => ({ commit, proposals, banList })),
    ];
    if (bytes > limits.refeedBytes || all.length > limits.refeedCommits) throw refused();
    if (groupInfo === undefined) {
      if (this.hub.waitingRefeedBytes + added > limits.waitingRefeedBytes)
        throw new RejectionError("group/busy");
      this.waiting.set(key, { commits: all, bytes });
      this.hub.waitingRefeedBytes += added;
    }
    this.waitOn();
    return all;
  }

  /**
   * Or a few that send no more would keep the place from everybody else for as long as they are connected. All groups of a
   * connection share its line: while one is fed, the others wait for their turn.
   */
  private waitOn(): void {
    const { clock, limits } = this.hub.context;
    this.stopTimer();
    if (this.waiting.size > 0) this.stopTimer = clock.after(limits.refeedPauseMs, () => this.dropAll());
  }
}

/** Who feeds, and from where. */
interface Feeder {
  readonly reader: GroupReader;
  readonly peer: AnonymousPeer;
}

/** False when the group has all of it. */
function feed(hub: GroupHub, group: GroupInUse, { reader, peer }: Feeder, refeed: Refeed): Promise<boolean> {
  const { context } = hub;
  const { live } = group;
  return live.exclusive(async () => {
    await reader.member();
    const commits = await unknownOf(hub, group, refeed.commits);
    if (commits.length === 0) return false;
    try {
      // Another node may take commits meanwhile: these are for the epoch that the first of them leads on from.
      const fromEpoch = readMlsHeader(commits[0]!.commit).epoch;
      const validated = await validate(hub, group, reader, fromEpoch, commits, refeed.groupInfo);
      // Only now: whoever feeds what is refused or known uses up nothing of the others'.
      await charge(
        context.rateLimits,
        chargesFor(context, peer, group, commits, validated, refeed.groupInfo),
      );
      await live.holding(() => store(hub, group, fromEpoch, commits, validated, refeed));
      // It has followed all of them.
      reader.vouch(live.lastCommitSequence);
      return true;
    } finally {
      // What is cached may be of the epoch before.
      context.validator.forget(live.groupId);
    }
  });
}

/** Without those that the group has. Throws RejectionError `group/refeed-refused` for a gap, or another commit of its epoch. */
async function unknownOf(
  { context }: GroupHub,
  { live }: GroupInUse,
  commits: readonly PastCommit[],
): Promise<readonly PastCommit[]> {
  const unknown: PastCommit[] = [];
  const present = live.epoch;
  for (const past of commits) {
    const { groupId, epoch, content } = readMlsHeader(past.commit);
    if (content !== "commit" || !equalBytes(groupId, live.groupId)) throw refused();
    if (epoch < present) {
      const known = (await context.stores.mlsGroups.commitOf(live.groupId, epoch))?.at(-1);
      if (known !== undefined && !equalBytes(known.message, past.commit)) throw refused();
    } else if (epoch === present + unknown.length) unknown.push(past);
    else throw refused();
  }
  return unknown;
}

/** As the members have validated them, but for what needs a secret. Throws RejectionError `group/refeed-refused`. */
async function validate(
  { context }: GroupHub,
  { live }: GroupInUse,
  reader: GroupReader,
  fromEpoch: number,
  commits: readonly PastCommit[],
  groupInfo: Bytes,
): Promise<readonly ValidatedPastCommit[]> {
  const base = paidBy(context, reader.payer, live.baseOf(fromEpoch));
  const validated: ValidatedPastCommit[] = [];
  let signerKey: Bytes | undefined;
  try {
    for (let next = 0; next < commits.length; next += COMMITS_PER_REQUEST) {
      const some = commits.slice(next, next + COMMITS_PER_REQUEST);
      const last = next + some.length === commits.length;
      const answer = await context.validator.refeed(base, {
        fromEpoch: fromEpoch + next,
        commits: some,
        banned: live.bannedLeaves,
        bannedAccounts: live.bannedAccounts,
        groupInfo: last ? groupInfo : undefined,
      });
      validated.push(...answer.commits);
      signerKey = answer.signerKey;
    }
  } catch (error) {
    if (error instanceof RejectionError && error.code === "group/commit-invalid") throw refused();
    throw error;
  }
  if (signerKey === undefined || !equalBytes(signerKey, reader.signatureKey)) throw refused();
  requireNobodyBanned(live, validated, await context.groupMemory.suspended(live.groupId));
  return validated;
}

/** As for a fresh commit. Whoever is removed on the way may come back: the ban is carried out then. */
function requireNobodyBanned(
  live: LiveGroup,
  validated: readonly ValidatedPastCommit[],
  suspended: ReadonlySet<string>,
): void {
  const banned = new Set(live.bannedLeaves.map(leafName));
  for (const { added, bringsBanned, removed, senderKey } of validated) {
    const parties = [senderKey, ...added].map(leafName);
    if (bringsBanned || parties.some((name) => banned.has(name))) throw refused();
    if (suspended.has(leafName(senderKey))) throw refused();
    for (const key of removed) banned.delete(leafName(key));
  }
}

/**
 * What is stored counts as fresh commits do, for the address and for the group; not for the leaf, since those that it feeds are
 * everybody's. It is taken in one piece: what costs more than a limit lets anybody have at once costs that much, or a group
 * that needs it could never be fed. O(commits).
 */
function chargesFor(
  context: ServiceContext,
  peer: AnonymousPeer,
  { live }: GroupInUse,
  commits: readonly PastCommit[],
  validated: readonly ValidatedPastCommit[],
  groupInfo: Bytes,
): readonly Charge[] {
  const parts = validated.flatMap(({ banListChanged, referenced, treeDelta }, index) => {
    const { banList, commit } = commits[index]!;
    const list = banListChanged && banList !== undefined ? [banList] : [];
    return [commit, treeDelta, ...referenced, ...list];
  });
  const bytes = parts.reduce((sum, { length }) => sum + length, groupInfo.length);
  const charges = [
    groupCommitsCharge(context, live.groupId, commits.length),
    bytesCharge(context, peer, bytes),
  ];
  return charges.map((each) => ({ ...each, cost: Math.min(each.cost, each.size.capacity) }));
}

/** One transaction; what follows from it on this node is done before anything behind a removal is shown. */
async function store(
  { context }: GroupHub,
  { live, turns }: GroupInUse,
  fromEpoch: number,
  commits: readonly PastCommit[],
  validated: readonly ValidatedPastCommit[],
  { groupInfo, agreedSequence }: Refeed,
): Promise<void> {
  const outcome = await context.stores.mlsGroups.refeed({
    groupId: live.groupId,
    fromEpoch,
    commits: commits.map(({ commit, banList }, index) => {
      const { banListChanged, leafReplaced, listed, referenced, removed, treeDelta, treeHash } =
        validated[index]!;
      return {
        commitHash: sha256(commit),
        proposals: referenced,
        commit,
        treeHash,
        treeDelta,
        banList: banListChanged ? (banList ?? new Uint8Array(0)) : undefined,
        removed,
        listed,
        leafReplaced,
      };
    }),
    groupInfo,
    // Both have the commit that led to this epoch, whatever the leaf says.
    partedSequence: Math.min(Math.max(agreedSequence, live.lastCommitSequence), live.lastSequence),
    acceptedAtMs: context.clock.now(),
  });
  if (outcome.kind === "unknown-group") throw new RejectionError("group/unknown");
  context.validator.forget(live.groupId);
  if (outcome.kind === "lost") {
    await live.refresh(true);
    throw refused();
  }
  const removals = validated.flatMap(({ removed }, index) =>
    removed.map((signatureKey) => ({ signatureKey, sequence: outcome.sequences[index]! })),
  );
  await live.fedAgain(removals);
  for (const { signatureKey } of removals) turns.gone(leafName(signatureKey));
  turns.offer();
}

function bytesOf({ commit, proposals, banList }: GroupPastCommit): number {
  const withProposals = proposals.reduce((bytes, proposal) => bytes + proposal.length, commit.length);
  return withProposals + (banList?.length ?? 0);
}

const refused = () => new RejectionError("group/refeed-refused");

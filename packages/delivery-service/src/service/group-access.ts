import { type Bytes, equalBytes, type GroupId, RejectionError, UnavailableError } from "@murmuration/base";
import type {
  GroupAccessFrame,
  GroupAccessGranted,
  GroupCreate,
  GroupInfoReply,
  GroupInfoRequest,
  GroupMark,
  LeafAccess,
} from "@murmuration/wire";
import { encodeLeafAccessTbs } from "@murmuration/wire";
import { dayOf } from "../core/days.ts";
import { decideLink, decideReadFrom } from "../core/group-decisions.ts";
import { isMarked } from "../core/group-entries.ts";
import { isAccessSignature } from "../core/leaf-signatures.ts";
import { sha256 } from "../core/submit.ts";
import { addressKey } from "../core/token-bucket.ts";
import type { FollowerBase } from "../ports/commit-validator.ts";
import type { MlsGroupRow } from "../ports/mls-groups.ts";
import type { Charge } from "../ports/rate-limits.ts";
import type { ServiceContext } from "./context.ts";
import type { GroupReader, OpenedLeaf } from "./group-delivery.ts";
import type { LiveGroup } from "./live-group.ts";
import { charge, chargeFor } from "./refusals.ts";
import { paidBy } from "./tree-charges.ts";

/** The anonymous connection that a frame came on. */
export interface AnonymousPeer {
  readonly remoteAddress: string;
  /** Of its HelloReply: bound to it and to no other, so it serves all groups and never runs out. */
  readonly challenge: Bytes;
}

/** Looking a leaf up in a past epoch builds that epoch's tree: it costs a stranger this many groups. */
const PAST_EPOCH_COST = 20;
/** So does comparing a log that is another one than the client's. */
const ANOTHER_LOG_COST = 4;

/** Takes what anybody may ask of groups from the address's allowance. Throws RejectionError `rate/limited`. */
export function chargeAddress(context: ServiceContext, peer: AnonymousPeer, cost = 1): Promise<void> {
  const rate = context.limits.rates.groupEntriesPerAddress;
  return charge(context.rateLimits, [chargeFor("group-entries", addressKey(peer.remoteAddress), rate, cost)]);
}

/** Takes an access, or a turn given back, from the address's allowance. Throws RejectionError `rate/limited`. */
export function chargeAccess(context: ServiceContext, peer: AnonymousPeer): Promise<void> {
  const rate = context.limits.rates.groupAccessesPerAddress;
  return charge(context.rateLimits, [chargeFor("group-accesses", addressKey(peer.remoteAddress), rate)]);
}

/** What the address has stored in groups. Ask before it is. */
export function bytesCharge(context: ServiceContext, peer: AnonymousPeer, bytes: number): Charge {
  const rate = context.limits.rates.groupBytesPerAddress;
  return chargeFor("group-bytes", addressKey(peer.remoteAddress), rate, bytes);
}

/**
 * Stores a new group in epoch 0. The same request again is answered alike. Throws RejectionError `group/exists`,
 * `group/commit-invalid`, `rate/limited`.
 */
export async function createGroup(
  context: ServiceContext,
  peer: AnonymousPeer,
  frame: GroupCreate,
): Promise<{ readonly lastSequence: number }> {
  const { clock, stores, validator } = context;
  await chargeAddress(context, peer);
  const { groupId, groupInfo, ratchetTree } = frame;
  const { epoch, treeHash, groupId: named } = await validator.create({ groupInfo, ratchetTree });
  if (!equalBytes(named, groupId) || epoch !== 0) throw new RejectionError("group/commit-invalid");
  await charge(context.rateLimits, [bytesCharge(context, peer, groupInfo.length + ratchetTree.length)]);
  const now = clock.now();
  const outcome = await stores.mlsGroups.create({
    groupId,
    epoch,
    groupInfo,
    treeHash,
    tree: ratchetTree,
    day: dayOf(now),
  });
  if (outcome === "created") return { lastSequence: 0 };
  const stored = await stores.mlsGroups.load(groupId);
  if (stored?.epoch !== 0 || !equalBytes(stored.groupInfo, groupInfo))
    throw new RejectionError("group/exists");
  return { lastSequence: stored.lastSequence };
}

/**
 * Who asks to open a group: the leaf at the index that it names, in the present epoch or in the one that it knows.
 * One signature verification, or two. The key is the leaf's, so nothing can be verified before the group is loaded, for which
 * the address pays. Throws RejectionError `group/not-a-member`, `group/epoch-unknown`, `group/rejoin`, `rate/limited`.
 */
export async function findLeaf(
  context: ServiceContext,
  peer: AnonymousPeer,
  live: LiveGroup,
  frame: GroupAccessFrame,
): Promise<OpenedLeaf> {
  const signed = (signatureKey: Bytes) =>
    isAccessSignature(signatureKey, accessOf(context, peer, frame.groupId, frame), frame.signature);
  // Another node may have taken the commit that added it.
  if (frame.epoch > live.epoch) await live.refresh();
  const { epoch, value: leaf } = await live.ask((base) =>
    context.validator.leaf(paidBy(context, peer, base), frame.leafIndex),
  );
  if (leaf !== undefined && signed(leaf.signatureKey)) {
    if (live.isBanned(leaf.signatureKey)) throw new RejectionError("group/not-a-member");
    return { signatureKey: leaf.signatureKey, leaf, epoch, removedAt: undefined };
  }
  // It may have been added since the copy from which this service was restored.
  if (frame.epoch > epoch) throw new RejectionError("group/epoch-unknown");
  if (frame.epoch === epoch) throw new RejectionError("group/not-a-member");
  await chargeAddress(context, peer, PAST_EPOCH_COST);
  const past = paidBy(context, peer, pastEpoch(context, live, frame.epoch));
  const before = await context.validator.pastLeaf(past, frame.leafIndex);
  if (before === undefined || !signed(before)) throw new RejectionError("group/not-a-member");
  const known = await live.lookUp(before, peer);
  if (known === undefined) throw new RejectionError("group/not-a-member");
  return known;
}

/**
 * What a leaf that opened a group is told, and whether its log is the service's. Throws RejectionError `group/rejoin`,
 * `rate/limited`.
 */
export async function grantAccess(
  context: ServiceContext,
  peer: AnonymousPeer,
  live: LiveGroup,
  frame: GroupAccessFrame,
  reader: GroupReader,
): Promise<{ readonly granted: GroupAccessGranted; readonly inStep: boolean }> {
  // Retention may have moved it since the group was loaded.
  const row = await live.row();
  const { firstSequence } = row;
  const [newest, ...older] = frame.marks;
  const inStep = newest === undefined || (await holds(context, row, newest));
  if (inStep) decideReadFrom(firstSequence, frame.afterSequence);
  const today = dayOf(context.clock.now());
  if (live.lastUsedDay < today) {
    live.lastUsedDay = today;
    await context.stores.mlsGroups.touch(live.groupId, today);
  }
  const granted = {
    epoch: live.epoch,
    firstSequence,
    lastSequence: reader.mayReadThrough,
    removed: reader.removed,
  };
  if (inStep) {
    const agreedSequence = newest?.sequence ?? frame.afterSequence ?? 0;
    return { granted: { ...granted, agreedSequence }, inStep };
  }
  await chargeAddress(context, peer, ANOTHER_LOG_COST);
  const agreedSequence = await newestThatHolds(context, row, older);
  const led =
    frame.epoch === 0 ? undefined : await context.stores.mlsGroups.commitOf(live.groupId, frame.epoch - 1);
  const commit = led?.at(-1);
  const withCommit = commit === undefined ? {} : { commitHash: sha256(commit.message) };
  return { granted: { ...granted, agreedSequence, ...withCommit }, inStep };
}

/** Up to where the log of a client that was further is this one. One read for each mark. */
async function newestThatHolds(
  context: ServiceContext,
  row: MlsGroupRow,
  marks: readonly GroupMark[],
): Promise<number> {
  for (const mark of marks) if (await holds(context, row, mark)) return mark.sequence;
  return 0;
}

/** Of an entry that is kept no longer nobody can tell: its number has to do. */
async function holds(context: ServiceContext, row: MlsGroupRow, mark: GroupMark): Promise<boolean> {
  const { groupId, firstSequence, lastSequence } = row;
  if (mark.sequence > lastSequence) return false;
  if (mark.sequence < firstSequence) return true;
  const limits = { maxEntries: 1, maxBytes: 0 };
  const [entry] = await context.stores.mlsGroups.read(groupId, mark.sequence - 1, mark.sequence, limits);
  return entry === undefined || isMarked(entry, mark);
}

/**
 * What somebody needs who joins by external commit: for a present leaf that is not banned, for the holder of a link, and
 * for a device of an account that the group expects. Throws RejectionError `group/not-a-member`, `group/link-expired`,
 * `rate/limited`.
 */
export async function giveGroupInfo(
  context: ServiceContext,
  peer: AnonymousPeer,
  live: LiveGroup,
  request: GroupInfoRequest,
): Promise<GroupInfoReply> {
  await chargeAddress(context, peer);
  const access = accessOf(context, peer, request.groupId, { epoch: 0, leafIndex: 0 });
  if (!(await isProven(context, peer, live, request, access))) throw new RejectionError("group/not-a-member");
  const row = await live.row();
  const { epoch, lastSequence, groupInfo, treeHash, banList } = row;
  const withList = banList !== undefined && banList.length > 0 ? { banList } : {};
  return { epoch, lastSequence, groupInfo, treeHash, ...withList };
}

async function isProven(
  context: ServiceContext,
  peer: AnonymousPeer,
  live: LiveGroup,
  { expected, leaf, link }: GroupInfoRequest,
  access: LeafAccess,
): Promise<boolean> {
  if (leaf !== undefined) {
    if (!isAccessSignature(leaf.signatureKey, access, leaf.signature)) return false;
    return (await live.lookUp(leaf.signatureKey, peer))?.leaf !== undefined;
  }
  if (expected !== undefined) {
    const { credential, signature, signatureKey } = expected;
    if (!isAccessSignature(signatureKey, access, signature)) return false;
    const banned = live.bannedLeaves;
    const { value } = await live.ask((base) =>
      context.validator.isExpected(paidBy(context, peer, base), { banned, credential, signatureKey }),
    );
    return value;
  }
  if (link === undefined) return false;
  const content = encodeLeafAccessTbs(access);
  const { value: known } = await live.ask((base) =>
    context.validator.verifyLink(paidBy(context, peer, base), link.linkId, content, link.signature),
  );
  if (known !== undefined) decideLink(known, context.clock.now());
  return known !== undefined;
}

function accessOf(
  context: ServiceContext,
  peer: AnonymousPeer,
  groupId: GroupId,
  place: { readonly epoch: number; readonly leafIndex: number },
): LeafAccess {
  const { epoch, leafIndex } = place;
  const service = context.authority.trustRootPublicKey;
  return { service, challenge: peer.challenge, groupId, epoch, leafIndex };
}

/** The tree of an epoch that is over, where it is not cached. `load` throws `group/rejoin` when it is not stored. */
export function pastEpoch(context: ServiceContext, live: LiveGroup, epoch: number): FollowerBase {
  const load = async () => {
    const tree = await context.stores.mlsGroups.loadTree(live.groupId, epoch);
    if (tree === undefined) throw new RejectionError("group/rejoin");
    if (tree.epoch !== epoch) throw new UnavailableError("group/moved-on");
    const { snapshot, deltas } = tree;
    return { groupInfo: new Uint8Array(0), banList: undefined, snapshot, deltas };
  };
  return { groupId: live.groupId, epoch, commitSequence: undefined, load };
}

import { type Bytes, equalBytes, RejectionError, toHex } from "@murmuration/base";
import type { GroupBan, GroupRefuse } from "@murmuration/wire";
import { encodeRefusals } from "../core/group-entries.ts";
import { verifyBanOrder, verifyRefusal } from "../core/leaf-signatures.ts";
import { sha256 } from "../core/submit.ts";
import type { FollowedLeaf } from "../ports/commit-validator.ts";
import type { ServiceContext } from "./context.ts";
import { pastEpoch } from "./group-access.ts";
import { type GroupReader, leafName } from "./group-delivery.ts";
import type { GroupInUse } from "./group-hub.ts";
import { nameOf } from "./group-messages.ts";
import type { LiveGroup } from "./live-group.ts";
import { charge, chargeFor } from "./refusals.ts";
import { type Payer, paidBy } from "./tree-charges.ts";

/**
 * Cuts the leaves of an account off, on every connection, before it is answered; the Remove follows in a granted turn.
 * The same order again changes nothing. Keys that are no leaves (any more) are not stored: nothing would ever end their
 * ban. Throws RejectionError `group/not-allowed` unless an admin's leaf signed it (an owner's, where it bans an owner)
 * for leaves of one account, `group/not-a-member`.
 */
export async function banFromGroup(
  context: ServiceContext,
  { live, turns }: GroupInUse,
  reader: GroupReader,
  order: GroupBan,
): Promise<void> {
  const admin = await reader.member();
  if (admin.leafIndex !== order.leafIndex) throw new RejectionError("group/not-allowed");
  verifyBanOrder(reader.signatureKey, order);
  await charge(context.rateLimits, [
    chargeFor("group-commits", nameOf(reader), context.limits.rates.commitsPerLeaf),
  ]);
  await live.exclusive(async () => {
    const { role } = await reader.member();
    const { value: leaves } = await live.ask((base) => {
      const paid = paidBy(context, reader.payer, base);
      return Promise.all(order.signatureKeys.map((key) => context.validator.leafOfKey(paid, key)));
    });
    const targets = leaves.filter((leaf) => leaf !== undefined);
    if (!mayBan(role, targets)) throw new RejectionError("group/not-allowed");
    const [first] = targets;
    if (first === undefined) return;
    const keys = targets.map((leaf) => leaf.signatureKey);
    await context.stores.mlsGroups.ban(live.groupId, order.orderId, first.accountId, keys);
    await live.banned();
  });
  for (const key of order.signatureKeys) if (live.isBanned(key)) turns.gone(leafName(key));
  turns.offer();
}

/**
 * Takes a member's word that it cannot follow the newest commit. When as many accounts say so as the rule asks for and
 * nobody vouched, the commit is taken back: a void entry in the log with what they signed, the epoch before it as it was,
 * its committer suspended. Anything else is ignored. O(1); O(members) for the first word after a restart.
 * Throws RejectionError `group/not-allowed` for a signature that is not the leaf's, `group/not-a-member`.
 */
export async function refuseCommit(
  context: ServiceContext,
  { live, turns }: GroupInUse,
  reader: GroupReader,
  refusal: GroupRefuse,
): Promise<void> {
  await reader.member();
  verifyRefusal(reader.signatureKey, live.groupId, refusal);
  await charge(context.rateLimits, [
    chargeFor("group-commits", nameOf(reader), context.limits.rates.commitsPerLeaf),
  ]);
  const voided = await live.exclusive(async () => {
    const { accountId, leafIndex } = await reader.member();
    // Another node may have taken it.
    if (refusal.sequence > live.lastCommitSequence) await live.refresh();
    if (refusal.sequence !== live.lastCommitSequence || live.lastCommitSequence === 0) return false;
    await learnParties(context, reader.payer, live);
    const { signatureKey } = reader;
    const { commitHash, signature } = refusal;
    // Whoever has a word stood at this index in the epoch before as well.
    const word = { leafIndex, signature };
    const leaf = { accountId, signatureKey };
    if (live.provisional.mayRefuse(leaf, commitHash)) {
      const { groupMemory } = context;
      const account = toHex(accountId);
      live.provisional.hear(await groupMemory.refuse(live.groupId, refusal.sequence, account, word));
    }
    const proof = live.provisional.refuse(leaf, commitHash, word);
    return proof !== undefined && takeBack(context, live, refusal.sequence, encodeRefusals(proof));
  });
  context.metrics.count("group_commits", voided ? "void" : "refused");
  if (voided) turns.offer();
}

/** Admins ban whom they may remove, not owners; an order is about one account. */
function mayBan(role: FollowedLeaf["role"], targets: readonly FollowedLeaf[]): boolean {
  if (role === "member") return false;
  return targets.every(
    (target) =>
      equalBytes(target.accountId, targets[0]!.accountId) && (role === "owner" || target.role !== "owner"),
  );
}

async function takeBack(
  context: ServiceContext,
  live: LiveGroup,
  sequence: number,
  proof: Bytes,
): Promise<boolean> {
  const { clock, stores, validator } = context;
  const { committerKey } = live.provisional;
  return live.holding(async () => {
    const outcome = await stores.mlsGroups.voidCommit({
      groupId: live.groupId,
      sequence,
      proof,
      acceptedAtMs: clock.now(),
    });
    if (outcome === undefined) return false;
    validator.forget(live.groupId);
    if (committerKey !== undefined) await context.groupMemory.suspend(live.groupId, leafName(committerKey));
    await live.voided(outcome.sequence);
    return true;
  });
}

/**
 * Who made the newest commit and whose word about it counts, when that was before this node started: the log says it,
 * and the tree of the epoch before. Unknown as long as either is not kept; the store takes no such commit back.
 */
async function learnParties(context: ServiceContext, payer: Payer, live: LiveGroup): Promise<void> {
  const { provisional } = live;
  if (provisional.isKnown) return;
  const epoch = live.epoch - 1;
  const entries = await context.stores.mlsGroups.commitOf(live.groupId, epoch);
  const commit = entries?.at(-1)?.message;
  if (entries === undefined || commit === undefined) return;
  const proposals = entries.slice(0, -1).map(({ message }) => message);
  const past = paidBy(context, payer, pastEpoch(context, live, epoch));
  const parties = await context.validator.parties(past, commit, proposals);
  provisional.learn({ ...parties, hash: sha256(commit) });
}

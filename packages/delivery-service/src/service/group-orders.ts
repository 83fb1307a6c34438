import { equalBytes, RejectionError } from "@murmuration/base";
import type { GroupBan, GroupRefuse } from "@murmuration/wire";
import { verifyBanOrder, verifyRefusal } from "../core/leaf-signatures.ts";
import { readMlsHeader } from "../core/mls-header.ts";
import type { FollowedLeaf } from "../ports/commit-validator.ts";
import type { ServiceContext } from "./context.ts";
import { type GroupReader, leafName } from "./group-delivery.ts";
import type { GroupInUse } from "./group-hub.ts";
import { nameOf } from "./group-messages.ts";
import type { LiveGroup } from "./live-group.ts";
import { charge, chargeFor } from "./refusals.ts";

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
    const { value: leaves } = await live.ask((base) =>
      Promise.all(order.signatureKeys.map((key) => context.validator.leafOfKey(base, key))),
    );
    const targets = leaves.filter((leaf) => leaf !== undefined);
    if (!mayBan(role, targets)) throw new RejectionError("group/not-allowed");
    if (targets.length === 0) return;
    const keys = targets.map((leaf) => leaf.signatureKey);
    await context.stores.mlsGroups.ban(live.groupId, order.orderId, keys);
    await live.banned();
  });
  for (const key of order.signatureKeys) if (live.isBanned(key)) turns.gone(leafName(key));
  turns.offer();
}

/**
 * Takes a member's word that it cannot follow the newest commit. When two say so and nobody vouched, the commit is taken
 * back: a void entry in the log, the epoch before it as it was, its committer suspended. Anything else is ignored.
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
    await reader.member();
    if (refusal.sequence !== live.lastCommitSequence || live.lastCommitSequence === 0) return false;
    await learnCommitter(context, live);
    if (!live.provisional.refuse(reader.name)) return false;
    return takeBack(context, live, refusal.sequence);
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

async function takeBack(context: ServiceContext, live: LiveGroup, sequence: number): Promise<boolean> {
  const { clock, stores, validator } = context;
  const { committer } = live.provisional;
  return live.holding(async () => {
    const outcome = await stores.mlsGroups.voidCommit({
      groupId: live.groupId,
      sequence,
      acceptedAtMs: clock.now(),
    });
    if (outcome === undefined) return false;
    validator.forget(live.groupId);
    if (committer !== undefined) live.suspended.add(committer);
    await live.voided(outcome.sequence);
    return true;
  });
}

/** Who made the newest commit, when that was before this node started: the log and the tree say it. */
async function learnCommitter(context: ServiceContext, live: LiveGroup): Promise<void> {
  const { provisional, epoch } = live;
  if (provisional.committer !== undefined) return;
  const commit = (await context.stores.mlsGroups.commitOf(live.groupId, epoch - 1))?.at(-1);
  const sender = commit && readMlsHeader(commit.message).sender;
  if (sender?.kind !== "member") return;
  const { value: leaf } = await live.ask((base) => context.validator.leaf(base, sender.leafIndex));
  if (leaf !== undefined) provisional.learn({ committer: leafName(leaf.signatureKey), others: [] });
}

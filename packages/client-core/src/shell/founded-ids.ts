import { type AccountId, accountId, type Bytes, RejectionError, refuseUnless } from "@murmuration/base";
import type { Context } from "./context.ts";

/**
 * Accounts and groups have ids of one form, and whoever founds one chooses its id. So each of these is asked before anything
 * from outside makes a conversation or is shown in one: somebody may have given a group the id of our contact, a pairwise
 * group that of a community, or an account that of a group.
 */

const TAKEN = "conversation/id-taken";

/** An account with which there is a conversation, or can be one. RejectionError `conversation/id-taken`. A row, kept in memory. */
export function requireIdOfAccount({ conversations }: Context, account: AccountId): void {
  refuseUnless(conversations.get(account)?.kind !== "group", TAKEN);
}

/** A group of either protocol. RejectionError `conversation/id-taken`. Two rows. */
function requireIdOfGroup(context: Context, group: Bytes): void {
  const kind = context.conversations.get(group)?.kind;
  if (kind === "group") return;
  // Others may have named it: only what this account has chosen, or met, makes it somebody's.
  const { accepted, blocked, known } = context.contacts.get(accountId(group)) ?? {};
  const isAccount = context.isOwn(group as AccountId) || accepted || blocked || known;
  refuseUnless(!isAccount && kind === undefined, TAKEN);
}

/** A pairwise group, or one that was: a community by itself has no record. RejectionError `conversation/id-taken`. Four rows. */
export function requireIdOfPairwiseGroup(context: Context, group: Bytes): void {
  requireIdOfGroup(context, group);
  const { conversations, mls } = context;
  const isPairwise = conversations.group(group) !== undefined;
  const isCommunity = conversations.get(group)?.protocol === "mls" || mls.group(group) !== undefined;
  if (!isPairwise && isCommunity) throw new RejectionError(TAKEN);
}

/** A community by itself: a pairwise group has no MLS group under its own id. RejectionError `conversation/id-taken`. Two rows. */
export function requireIdOfCommunity(context: Context, group: Bytes): void {
  requireIdOfGroup(context, group);
  refuseUnless(context.conversations.get(group)?.protocol !== "pairwise", TAKEN);
}

import type { GroupId } from "@murmuration/base";
import { addressKey } from "../core/token-bucket.ts";
import type { FollowerBase } from "../ports/commit-validator.ts";
import type { ServiceContext } from "./context.ts";
import { charge, chargeFor } from "./refusals.ts";

/** Whose address pays: the peer of a connection, or of a request. */
export interface Payer {
  readonly remoteAddress: string;
}

/** Loading the smallest tree takes as long as this many bytes of a large one, about a millisecond with all around it. */
const LEAST_BYTES = 32 * 1024;

/**
 * Takes a stored tree from the address's allowance. Ask before it is read. O(deltas). Throws RejectionError `rate/limited`.
 */
export async function chargeTree(
  context: ServiceContext,
  payer: Payer,
  groupId: GroupId,
  epoch: number,
): Promise<void> {
  const rate = context.limits.rates.treeBytesPerAddress;
  const bytes = Math.max(await context.stores.mlsGroups.treeBytes(groupId, epoch), LEAST_BYTES);
  // A tree may be larger than what a service allows at once, and has to be loaded all the same.
  const cost = Math.min(bytes, rate.burst);
  await charge(context.rateLimits, [chargeFor("tree-bytes", addressKey(payer.remoteAddress), rate, cost)]);
}

/**
 * The same epoch, for a question of this peer: where the validator has to load it, the address pays for it. Where it is
 * cached, or somebody else's question loads it meanwhile, nobody does.
 */
export function paidBy(context: ServiceContext, payer: Payer, base: FollowerBase): FollowerBase {
  const load = async () => {
    await chargeTree(context, payer, base.groupId, base.epoch);
    return base.load();
  };
  return { ...base, load };
}

/** What the context of an MLS group has to be when its conversation goes over to it (docs/migration.md). Pure. */
import { type AccountId, type Bytes, equalBytes, formatId } from "@murmuration/base";
import type { CommunityContext } from "@murmuration/mls-groups";
import type { Role } from "../../api.ts";
import { byAccount } from "../by-account.ts";
import { fingerprintOf } from "../profile.ts";

/** A member as the record has it. */
export interface RecordedMember {
  readonly account: AccountId;
  readonly identityKey: Bytes;
  readonly role: Role;
  readonly invited: boolean;
}

/**
 * Whether a creator has put nothing into the context but what the record says: its role holders, whether they have a leaf
 * or not; as expected ones only members without a leaf, under their keys; and of everything that the record knows nothing
 * of (links, bans, who may do what) the default. The title and the timer are any admin's to set, before the switch as
 * after it. `inside`: accounts that have a leaf. O(members).
 */
export function isContextOfRecord(
  context: CommunityContext,
  facts: {
    readonly generation: number;
    readonly members: readonly RecordedMember[];
    readonly inside: readonly AccountId[];
  },
): boolean {
  const members = byAccount(facts.members);
  const holders = facts.members.filter(({ role, invited }) => role !== "member" && !invited);
  const hasRoles =
    context.roleHolders.length === holders.length &&
    context.roleHolders.every(({ accountId, role }) => {
      const member = members.get(formatId(accountId));
      return member !== undefined && !member.invited && member.role === role;
    });
  const inside = new Set(context.expected.length === 0 ? [] : facts.inside.map(formatId));
  const expectsMembers = context.expected.every(({ accountId, fingerprint }) => {
    const member = members.get(formatId(accountId));
    if (member === undefined || inside.has(formatId(accountId))) return false;
    return equalBytes(fingerprintOf(member.identityKey), fingerprint);
  });
  return hasRoles && expectsMembers && hasDefaults(context) && context.generation === facts.generation;
}

function hasDefaults(context: CommunityContext): boolean {
  return (
    context.links.length === 0 &&
    context.addBy === "admin" &&
    context.profileBy === "admin" &&
    !context.announcementOnly &&
    context.slowModeSeconds === 0 &&
    context.joinsPerMinute === 0 &&
    context.banListHash.length === 0 &&
    !context.preparing
  );
}

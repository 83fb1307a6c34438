/** Who stands at the leaves of an MLS group. */
import {
  communityContextOf,
  decodeMemberCredential,
  type Group,
  type LeafIndex,
  roleOf,
} from "@murmuration/mls-groups";
import type { RosterLeaf } from "../../core/migration/keys.ts";
import type { RosterAccount } from "../../store/migration.ts";

export interface LeafOfRoster extends RosterLeaf, RosterAccount {
  readonly leaf: LeafIndex;
}

/** Of the epochs that were asked about: a switch asks several times. A GroupContext is that of one epoch. */
const known = new WeakMap<Group["context"], readonly LeafOfRoster[]>();

/** Every leaf with whom it stands for, kept as long as the group is in this epoch. O(members) the first time in it. */
export function leavesOf(group: Group): readonly LeafOfRoster[] {
  const leaves = known.get(group.context) ?? readLeaves(group);
  known.set(group.context, leaves);
  return leaves;
}

/** The same, not kept: a large group's would take as much memory as its tree. O(members). */
export function readLeaves(group: Group): readonly LeafOfRoster[] {
  const community = communityContextOf(group.context.extensions);
  return [...group.members()].map(({ leaf, leafNode }) => {
    const { accountId, deviceId, accountIdentityKey, deviceIdentityKey } = decodeMemberCredential(
      leafNode.credential,
    );
    return {
      leaf,
      accountId,
      deviceId,
      deviceIdentityKey,
      signatureKey: leafNode.signatureKey,
      account: accountId,
      identityKey: accountIdentityKey,
      role: roleOf(community, accountId),
    };
  });
}

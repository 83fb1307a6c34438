/** Who is in the MLS group, beside who is in the conversation. */
import { type AccountId, equalBytes, formatId } from "@murmuration/base";
import { decodeMemberCredential, type Group, type LeafIndex } from "@murmuration/mls-groups";
import { type RosterLeaf, rosterHash } from "../../core/migration/keys.ts";
import type { MemberRow } from "../../store/conversations.ts";
import type { RosterAccount } from "../../store/migration.ts";

export interface LeafOfRoster extends RosterLeaf, RosterAccount {
  readonly leaf: LeafIndex;
}

/** Every leaf with whom it stands for. O(members). */
export function leavesOf(group: Group): readonly LeafOfRoster[] {
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
    };
  });
}

/** The accounts of some leaves, each once. */
export function accountsOf(leaves: readonly RosterAccount[]): readonly RosterAccount[] {
  return [
    ...new Map(
      leaves.map(({ account, identityKey }) => [
        `${formatId(account)} ${Buffer.from(identityKey).toString("hex")}`,
        { account, identityKey },
      ]),
    ).values(),
  ];
}

/**
 * Those of an MLS group who are not members of the conversation under the identity key that its record names. The
 * check that no ghost listens. O(members).
 */
export function strangersAmong(
  roster: readonly RosterAccount[],
  members: readonly MemberRow[],
): readonly AccountId[] {
  const known = new Map(members.map((member) => [formatId(member.account), member]));
  return roster
    .filter(({ account, identityKey }) => {
      const member = known.get(formatId(account));
      return member === undefined || member.invited || !equalBytes(member.identityKey, identityKey);
    })
    .map(({ account }) => account);
}

export const hashOfRoster = (leaves: readonly LeafOfRoster[]) => rosterHash(leaves);

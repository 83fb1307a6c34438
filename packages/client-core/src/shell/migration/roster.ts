/** Who is in the MLS group, beside who is in the conversation. */
import { type AccountId, equalBytes, formatId } from "@murmuration/base";
import { byAccount } from "../../core/by-account.ts";
import { rosterHash } from "../../core/migration/keys.ts";
import type { MemberRow } from "../../store/conversations.ts";
import type { RosterAccount } from "../../store/migration.ts";
import type { LeafOfRoster } from "../communities/leaves.ts";

/** The accounts of some leaves, each once. */
export function accountsOf(leaves: readonly RosterAccount[]): readonly RosterAccount[] {
  return [
    ...new Map(
      leaves.map(({ account, identityKey, role }) => [
        `${formatId(account)} ${Buffer.from(identityKey).toString("hex")}`,
        { account, identityKey, role },
      ]),
    ).values(),
  ];
}

/**
 * Those of an MLS group who are not members of the conversation under the identity key and with the role that its record
 * names. The check that no ghost listens, and that nobody has promoted itself on the way. O(members).
 */
export function strangersAmong(
  roster: readonly RosterAccount[],
  members: readonly MemberRow[],
): readonly AccountId[] {
  const known = byAccount(members);
  return roster
    .filter(({ account, identityKey, role }) => {
      const member = known.get(formatId(account));
      if (member === undefined || member.invited || member.role !== role) return true;
      return !equalBytes(member.identityKey, identityKey);
    })
    .map(({ account }) => account);
}

export const hashOfRoster = (leaves: readonly LeafOfRoster[]) => rosterHash(leaves);

import { type AccountId, formatId } from "@murmuration/base";

const known = new WeakMap<readonly unknown[], ReadonlyMap<string, unknown>>();

/**
 * The members of a list by account id as text, kept as long as the list is: a move to MLS looks at the same one again and
 * again. Of lists that nobody changes, in which nobody stands twice. O(members) the first time.
 */
export function byAccount<Member extends { readonly account: AccountId }>(
  members: readonly Member[],
): ReadonlyMap<string, Member> {
  const found = known.get(members) as ReadonlyMap<string, Member> | undefined;
  if (found !== undefined) return found;
  const made = new Map(members.map((member) => [formatId(member.account), member]));
  known.set(members, made);
  return made;
}

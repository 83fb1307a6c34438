/**
 * Every rule of docs/communities.md that a policy checks, with its sentence. A refusal carries the id as its code.
 * Part of the rules of this package (`src/rules.ts`), so that the mutant runner requires a test for each.
 */
export const communityRules = {
  // The group as such.
  "community/extensions":
    "The GroupContext has required_capabilities and the community's context, nothing else.",

  // Adds.
  "community/add-others": "A device of another account is added by who reaches add_by.",
  "community/add-banned": "No device of a banned account is added; a ban list that the commit brings counts.",
  "community/ticket-by-link": "No leaf carries a join ticket but one that joined by the link.",

  // Whoever comes in, by Add or external commit.
  "community/device-once": "No group has a device twice.",
  "community/account-key": "All leaves of an account carry one account identity key.",
  "community/role-holder-brought":
    "An account that holds a role and has no leaf comes in by an Add of somebody who reaches that role, or is expected.",

  // Removes.
  "community/remove-others": "A leaf of another account is removed by admins and owners.",
  "community/remove-owners": "A leaf of an owner is removed by owners and by its own account.",
  "community/remove-expected": "Whoever removes a leaf of another account takes it off the expected ones.",

  // Other proposals.
  "community/psk":
    "A PreSharedKey is external, an admin's or owner's, and in a group that is made for a conversation which moves.",
  "community/reinit": "There is no ReInit.",
  "community/update": "There are no Update proposals.",
  "community/stranger": "There are no proposals of strangers.",
  "community/other-proposals": "There are no proposals of other types.",

  // GroupContextExtensions.
  "community/other-extensions": "Extensions of the GroupContext other than the community's do not change.",
  "community/roles": "Roles are changed by owners.",
  "community/settings":
    "Links, settings, ban list, timer, generation, expected accounts and preparation are changed by admins and owners.",
  "community/generation":
    "The generation never goes back, and a group that is made for no conversation never has one.",
  "community/preparing": "A group that carries its conversation is never again one that is prepared.",
  "community/profile": "The hash of the group profile is changed by who reaches profile_by.",
  "community/ban-list-unknown": "A ban list that the context names has to be at hand.",

  // The committer's own leaf.
  "community/ticket-kept": "A leaf keeps its join ticket, or its having none, whatever else it changes.",

  // External commits.
  "community/join-banned": "No device of a banned account joins by external commit, nor comes back.",
  "community/ticket":
    "An external commit is a resync, carries a ticket, or is of an account that is expected.",
  "community/expected-key":
    "An expected account comes in under the account identity key that the GroupContext names.",
  "community/link": "The ticket is of a link that is in the GroupContext.",
  "community/link-signature": "The link's key signed the ticket for this leaf and group.",
  "community/link-expired":
    "The link had not expired when the delivery service took the commit, by its word; clocks may differ by 2 minutes.",
  "community/link-uses": "The link has uses left: leaves in the tree that carry its id are counted.",
  "community/link-approval":
    "Where the link asks for it, a leaf of an admin or owner signed for this joiner.",
} as const;

export type CommunityRuleId = keyof typeof communityRules;

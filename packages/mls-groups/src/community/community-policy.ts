import { type AccountId, concatBytes, equalBytes, toHex } from "@murmuration/base";
import { sha256 } from "@noble/hashes/sha2.js";
import type { CommitView, GroupPolicy } from "../group/policy.ts";
import type { CommittedProposal } from "../group/proposal-list.ts";
import type { PublicEpoch } from "../group/public-epoch.ts";
import { check } from "../rules.ts";
import type { Credential } from "../structs/credential.ts";
import { type Extension, findExtension } from "../structs/extension.ts";
import type { LeafNode } from "../structs/leaf-node.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { RatchetTree } from "../tree/ratchet-tree.ts";
import { BanList } from "./ban-list.ts";
import {
  areCommunityExtensions,
  COMMUNITY_CONTEXT_EXTENSION,
  type CommunityContext,
  communityContextOf,
  encodeCommunityContext,
  expectedAccount,
  JOIN_TICKET_EXTENSION,
  LINK_ID_BYTES,
  linkHasExpired,
  linkOf,
  type Role,
  reaches,
  roleOf,
} from "./community-context.ts";
import { type JoinTicket, joinTicketOf, verifyApproval, verifyLinkSignature } from "./join-ticket.ts";
import {
  accountFingerprint,
  accountKeyOf,
  deviceOf,
  type IdentityVerifier,
  isSameDevice,
  leavesOfAccount,
  verifyMemberCredential,
} from "./member-credential.ts";

export interface CommunityPolicyOptions {
  readonly identity: IdentityVerifier;
  /**
   * The ban list with this hash ({@link BanList.hash}); undefined when it is not at hand, and then a commit that needs
   * it is refused with `community/ban-list-unknown`: fetch it and receive the commit again. Not asked for no hash.
   */
  banList(hash: Uint8Array): BanList | undefined;
  /** How many credentials that were found valid are remembered by this policy; 0 for none. */
  readonly rememberedCredentials?: number;
}

/** About 100 bytes each. */
const REMEMBERED_CREDENTIALS = 16_384;
/** A service may look at a clock to judge a link, and later at another node's to date the commit. */
const CLOCK_TOLERANCE_MS = 120_000;

/**
 * What a community adds to RFC 9420: docs/communities.md as a function, run by members and by the delivery service
 * alike. It may serve any number of groups. Everything is judged by the GroupContext before the commit, except that a
 * ban list which the commit brings counts for its Adds. A proposal by reference has to be allowed to who proposed it and
 * to who commits it, or anybody could lay down what an owner would then commit without having thought of it.
 *
 * `authorize` costs O(proposals), and O(N) for a join by a link with max_uses. The first Add or join in a line of trees
 * makes an index of accounts, once O(N).
 */
export function communityPolicy(options: CommunityPolicyOptions): GroupPolicy {
  const { identity, banList } = options;
  const valid = new RecentSet(options.rememberedCredentials ?? REMEMBERED_CREDENTIALS);
  const banListOf = (hash: Uint8Array): BanList => {
    if (hash.length === 0) return BanList.empty;
    const list = banList(hash);
    const known = list !== undefined && equalBytes(list.hash(), hash);
    check("community/ban-list-unknown", known);
    return known ? list : BanList.empty;
  };
  return {
    credentialIsValid: (credential, signatureKey) =>
      valid.has(fingerprintOf(credential, signatureKey), () =>
        verifyMemberCredential(identity, credential, signatureKey),
      ),
    externalSenderIsValid: () => false,
    isSuccessor: (previous, next) =>
      isSameDevice(previous.credential, next.credential) &&
      equalBytes(previous.signatureKey, next.signatureKey),
    isSameClient: () => true,
    validateGroup: ({ extensions }) => {
      check("community/extensions", areCommunityExtensions(extensions));
      communityContextOf(extensions);
    },
    authorize: (commit) => authorize(commit, banListOf),
  };
}

/** One of those whose doing a commit is: the committer, and who proposed what it covers by reference. */
interface Actor {
  readonly account: AccountId;
  readonly role: Role;
}

/** A commit as the rules look at it. */
interface Commit {
  readonly epoch: PublicEpoch;
  readonly tree: RatchetTree;
  readonly before: CommunityContext;
  readonly after: CommunityContext;
  readonly removed: ReadonlySet<LeafIndex>;
  readonly acceptedAtMs: number | undefined;
  readonly banListOf: (hash: Uint8Array) => BanList;
}

function authorize(view: CommitView, banListOf: (hash: Uint8Array) => BanList): void {
  const { acceptedAtMs, epoch, proposals, committer: leaf, pathLeaf } = view;
  const { extensions } = epoch.context;
  const changed = proposals.find(isContextChange)?.proposal.extensions;
  const before = communityContextOf(extensions);
  const after = changed === undefined ? before : communityContextOf(changed);
  const removed = new Set(proposals.flatMap(removedLeaf));
  const commit: Commit = { epoch, tree: epoch.tree, before, after, removed, acceptedAtMs, banListOf };
  const author = leaf === undefined ? pathLeaf?.credential : commit.tree.leaf(leaf)?.credential;
  // An external commit without a path, or a commit of nobody: refused before it comes here.
  if (author === undefined) return;
  const committer = actorOf(commit, author);
  for (const proposal of proposals) authorizeProposal(commit, committer, proposal);
  if (changed !== undefined) requireOnlyCommunityChanged(extensions, changed);
  const added = proposals.flatMap(({ proposal }) =>
    proposal.kind === "add" ? [proposal.keyPackage.leafNode] : [],
  );
  authorizeBanList(commit, added);
  authorizeNewcomers(commit, added);
  if (leaf === undefined) authorizeExternal(commit, pathLeaf!, proposals);
  else if (pathLeaf !== undefined) requireTicketKept(commit, leaf, pathLeaf);
}

type ContextChange = CommittedProposal & {
  readonly proposal: { readonly kind: "group_context_extensions"; readonly extensions: readonly Extension[] };
};

function isContextChange(item: CommittedProposal): item is ContextChange {
  return item.proposal.kind === "group_context_extensions";
}

function removedLeaf({ proposal, sender }: CommittedProposal): LeafIndex[] {
  if (proposal.kind === "remove") return [proposal.removed];
  return proposal.kind === "self_remove" && sender.kind === "member" ? [sender.leafIndex] : [];
}

function actorOf({ before }: Commit, credential: Credential): Actor {
  const { accountId } = deviceOf(credential);
  return { account: accountId, role: roleOf(before, accountId) };
}

function authorizeProposal(commit: Commit, committer: Actor, item: CommittedProposal): void {
  const { proposal, sender, reference } = item;
  check("community/stranger", sender.kind !== "external" && sender.kind !== "new_member_proposal");
  check("community/update", proposal.kind !== "update");
  check("community/other-proposals", proposal.kind !== "unknown");
  const actors = [committer];
  if (reference !== undefined && sender.kind === "member") {
    const proposer = commit.tree.leaf(sender.leafIndex);
    if (proposer !== undefined) actors.push(actorOf(commit, proposer.credential));
  }
  for (const actor of actors) authorizeActor(commit, actor, proposal);
}

/** The table of docs/communities.md, one account at a time. */
function authorizeActor(commit: Commit, actor: Actor, proposal: CommittedProposal["proposal"]): void {
  const { before, after } = commit;
  const least = (role: Role): boolean => reaches(actor.role, role);
  switch (proposal.kind) {
    case "add": {
      const { account, role } = actorOf(commit, proposal.keyPackage.leafNode.credential);
      const own = equalBytes(account, actor.account);
      check("community/add-others", own || least(before.addBy));
      const absent = role !== "member" && leavesThatStay(commit, account).length === 0;
      check("community/role-holder-brought", !absent || least(role));
      break;
    }
    case "remove": {
      const leaf = commit.tree.leaf(proposal.removed);
      if (leaf === undefined) break;
      const { account, role } = actorOf(commit, leaf.credential);
      const own = equalBytes(account, actor.account);
      check("community/remove-others", own || least("admin"));
      check("community/remove-owners", own || role !== "owner" || least("owner"));
      // Or it came back by itself. Who removes others may change the list in the same commit; who leaves may not.
      check("community/remove-expected", own || expectedAccount(after, account) === undefined);
      break;
    }
    case "psk":
      check("community/psk", least("admin") && before.generation > 0 && proposal.psk.kind === "external");
      break;
    case "reinit":
      // No client goes on in another group, and a device that came later would not know that this one is over.
      check("community/reinit", false);
      break;
    case "group_context_extensions": {
      check(
        "community/roles",
        least("owner") || sameContext(before, { ...before, roleHolders: after.roleHolders }),
      );
      const settings = { ...after, roleHolders: before.roleHolders, profileHash: before.profileHash };
      check("community/settings", least("admin") || sameContext(before, settings));
      const isOfMove = before.generation > 0 || after.generation === 0;
      check("community/generation", isOfMove && after.generation >= before.generation);
      check("community/preparing", before.preparing || !after.preparing);
      check(
        "community/profile",
        least(before.profileBy) || equalBytes(before.profileHash, after.profileHash),
      );
      break;
    }
    default:
      break;
  }
}

/** A context has one encoding. */
function sameContext(a: CommunityContext, b: CommunityContext): boolean {
  return equalBytes(encodeCommunityContext(a), encodeCommunityContext(b));
}

function requireOnlyCommunityChanged(before: readonly Extension[], after: readonly Extension[]): void {
  const same = before.every(({ type, data }) => {
    if (type === COMMUNITY_CONTEXT_EXTENSION) return true;
    const now = findExtension(after, type);
    return now !== undefined && equalBytes(now, data);
  });
  check("community/other-extensions", same && before.length === after.length);
}

/** Nobody who is banned is added; a list that comes into force has to be at hand, for those who judge what follows. */
function authorizeBanList({ epoch, before, after, banListOf }: Commit, added: readonly LeafNode[]): void {
  if (added.length === 0 && equalBytes(before.banListHash, after.banListHash)) return;
  const list = banListOf(after.banListHash);
  for (const { credential } of added) {
    const { accountId } = deviceOf(credential);
    check("community/add-banned", !list.has(epoch.context.groupId, accountId));
  }
}

/** What holds for devices that come in by Add, among each other too. O(their number, and the leaves of their accounts). */
function authorizeNewcomers(commit: Commit, added: readonly LeafNode[]): void {
  const beside = new Map<string, Credential[]>();
  for (const { credential, extensions } of added) {
    check("community/ticket-by-link", findExtension(extensions, JOIN_TICKET_EXTENSION) === undefined);
    const { accountId } = deviceOf(credential);
    const key = toHex(accountId);
    const others = beside.get(key) ?? leavesThatStay(commit, accountId);
    requireSameKey(credential, leavesBefore(commit, accountId));
    requireFits(credential, others);
    beside.set(key, [...others, credential]);
  }
}

/** A device beside the other leaves of its account. */
function requireFits(credential: Credential, others: readonly Credential[]): void {
  requireSameKey(credential, others);
  const { deviceId } = deviceOf(credential);
  for (const other of others) check("community/device-once", deviceOf(other).deviceId !== deviceId);
}

/**
 * Also beside the leaves that the very commit removes: an account that goes and comes in one step counts as one that stayed,
 * and nobody would be told that somebody else stands for it now. Under another key it comes when it is gone.
 */
function requireSameKey(credential: Credential, others: readonly Credential[]): void {
  for (const other of others)
    check("community/account-key", equalBytes(accountKeyOf(other), accountKeyOf(credential)));
}

/** Credentials of an account's leaves that the commit does not remove. O(leaves of the account), at most 127 devices. */
function leavesThatStay(commit: Commit, account: AccountId): Credential[] {
  return leavesOfAccount(commit.tree, account)
    .filter((leaf) => !commit.removed.has(leaf))
    .map((leaf) => commit.tree.leaf(leaf)!.credential);
}

function leavesBefore({ tree }: Commit, account: AccountId): Credential[] {
  return leavesOfAccount(tree, account).map((leaf) => tree.leaf(leaf)!.credential);
}

function requireTicketKept({ tree }: Commit, leaf: LeafIndex, next: LeafNode): void {
  const before = tree.leafExtension(leaf, JOIN_TICKET_EXTENSION);
  const after = findExtension(next.extensions, JOIN_TICKET_EXTENSION);
  const same = before === undefined ? after === undefined : after !== undefined && equalBytes(before, after);
  check("community/ticket-kept", same);
}

function authorizeExternal(commit: Commit, joiner: LeafNode, proposals: readonly CommittedProposal[]): void {
  const { epoch, before, banListOf } = commit;
  const { accountId } = deviceOf(joiner.credential);
  const banned = banListOf(before.banListHash).has(epoch.context.groupId, accountId);
  check("community/join-banned", !banned);
  // By value, and of the same device: section 12.2 and `isSuccessor` see to both.
  const resync = proposals.find(({ proposal }) => proposal.kind === "remove")?.proposal;
  if (resync?.kind === "remove") {
    requireTicketKept(commit, resync.removed, joiner);
    return;
  }
  const others = leavesThatStay(commit, accountId);
  // Members may have asked to go, which an external commit may cover.
  requireSameKey(joiner.credential, leavesBefore(commit, accountId));
  requireFits(joiner.credential, others);
  const ticket = joinTicketOf(joiner.extensions);
  // Whoever has a link comes by it, expected or not.
  const expected = ticket === undefined ? expectedAccount(before, accountId) : undefined;
  const mayHoldRole = others.length > 0 || expected !== undefined;
  check("community/role-holder-brought", mayHoldRole || roleOf(before, accountId) === "member");
  check("community/ticket", ticket !== undefined || expected !== undefined);
  if (ticket !== undefined) authorizeTicket(commit, joiner, ticket);
  else if (expected !== undefined) {
    const same = equalBytes(expected.fingerprint, accountFingerprint(joiner.credential));
    check("community/expected-key", same);
  }
}

function authorizeTicket(commit: Commit, joiner: LeafNode, ticket: JoinTicket): void {
  const { acceptedAtMs, epoch, before, tree } = commit;
  const link = linkOf(before, ticket.linkId);
  check("community/link", link !== undefined);
  if (link === undefined) return;
  const use = { groupId: epoch.context.groupId, linkId: link.linkId, signatureKey: joiner.signatureKey };
  check("community/link-signature", verifyLinkSignature(epoch.crypto, link, use, ticket.linkSignature));
  const expired = acceptedAtMs !== undefined && linkHasExpired(link, acceptedAtMs - CLOCK_TOLERANCE_MS);
  check("community/link-expired", !expired);
  check("community/link-uses", link.maxUses === 0 || usesOf(tree, link.linkId, link.maxUses) < link.maxUses);
  check("community/link-approval", !link.approval || isApproved(commit, use, ticket));
}

/** Leaves that carry the id of a link, as far as `most`. O(N), without decoding a leaf. */
function usesOf(tree: RatchetTree, linkId: Uint8Array, most: number): number {
  let uses = 0;
  for (const leaf of tree.members()) {
    const ticket = tree.leafExtension(leaf, JOIN_TICKET_EXTENSION);
    if (ticket !== undefined && equalBytes(ticket.subarray(0, LINK_ID_BYTES), linkId)) uses++;
    if (uses >= most) break;
  }
  return uses;
}

function isApproved(
  commit: Commit,
  use: Parameters<typeof verifyApproval>[2],
  { approval }: JoinTicket,
): boolean {
  const approver = approval === undefined ? undefined : commit.tree.leaf(approval.approver);
  return (
    approval !== undefined &&
    approver !== undefined &&
    reaches(actorOf(commit, approver.credential).role, "admin") &&
    verifyApproval(commit.epoch.crypto, approver.signatureKey, use, approval.signature)
  );
}

/** Names a credential with its signature key: 32 characters of one byte. */
function fingerprintOf(credential: Credential, signatureKey: Uint8Array): string | undefined {
  if (credential.kind !== "basic") return undefined;
  const { identity } = credential;
  const length = Uint8Array.of(
    identity.length >>> 24,
    identity.length >>> 16,
    identity.length >>> 8,
    identity.length,
  );
  return String.fromCharCode(...sha256(concatBytes(length, identity, signatureKey)));
}

/** Remembers what was found true, the newest half of its size at least. */
class RecentSet {
  readonly #half: number;
  #young = new Set<string>();
  #old = new Set<string>();

  constructor(size: number) {
    this.#half = Math.ceil(size / 2);
  }

  /** Whether `verify` holds for what this names, asked once while it is remembered. What is false is not remembered. */
  has(name: string | undefined, verify: () => boolean): boolean {
    if (name === undefined) return false;
    if (this.#young.has(name)) return true;
    if (!this.#old.has(name) && !verify()) return false;
    if (this.#half === 0) return true;
    if (this.#young.size >= this.#half) {
      this.#old = this.#young;
      this.#young = new Set();
    }
    this.#young.add(name);
    return true;
  }
}

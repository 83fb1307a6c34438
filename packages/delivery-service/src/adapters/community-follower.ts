import {
  type AccountId,
  type Bytes,
  type DeviceAddress,
  equalBytes,
  RejectionError,
  toHex,
} from "@murmuration/base";
import {
  accountFingerprint,
  BanList,
  type CommunityContext,
  cheapestCommitter,
  committerForLeaving,
  communityContextOf,
  decodeMlsMessage,
  describeCommit,
  deviceOf,
  expectedAccount,
  type FollowedCommit,
  type InviteLink,
  joinTicketOf,
  leavesOfAccount,
  linkOf,
  nextWarmUpLeaf,
  PublicGroup,
  type RatchetTree,
  roleOf,
  silentAccounts,
  trimWelcomes,
  verifyLeafSignature,
} from "@murmuration/mls-groups/public-group";
import { GROUP_ACCESS_LABEL, limits } from "@murmuration/wire";
import { groupCrypto } from "../core/leaf-signatures.ts";
import type {
  CommitRequest,
  ExpectedRequest,
  FollowedLeaf,
  FollowerSource,
  NextTurn,
  NextTurnRequest,
  PastCommit,
  ProposalRequest,
  ValidatedCommit,
  ValidatedGroup,
  ValidatedPastCommit,
} from "../ports/commit-validator.ts";
import { banListOf, type CommunityRules } from "./community-rules.ts";

/** Deltas may weigh as much as a snapshot, and at least this, before a new snapshot is due. */
const MIN_DELTA_BYTES = 64 * 1024;

type Banned = Pick<CommitRequest, "banned" | "bannedAccounts">;

interface Staged {
  readonly commit: FollowedCommit;
  readonly banList: BanList;
  readonly deltaBytes: number;
}

/** One community in one epoch: the engine's follower with the policy that members run, and what the service asks of it. */
export class CommunityFollower {
  private readonly group: PublicGroup;
  private readonly rules: CommunityRules;
  private banList: BanList;
  /** Of the tree when it was last stored as a whole, and of what was stored of it since. */
  private snapshotBytes: number;
  private deltaBytes: number;
  private staged: Staged | undefined;
  /** Of those that are followed one after the other: banned accounts that a list has named by then. */
  private readonly listed = new Set<string>();
  /** Proposals that the follower has taken in, by their references. */
  private readonly proposals = new Map<string, Bytes>();

  private constructor(
    group: PublicGroup,
    rules: CommunityRules,
    stored: Pick<FollowerSource, "banList" | "snapshot" | "deltas">,
  ) {
    this.group = group;
    this.rules = rules;
    this.banList = banListOf(stored.banList);
    this.snapshotBytes = stored.snapshot.length;
    this.deltaBytes = stored.deltas.reduce((bytes, delta) => bytes + delta.length, 0);
  }

  /** Validates the first epoch of a community. O(members), which is one. Throws RejectionError. */
  static validateFirst(
    rules: CommunityRules,
    request: { readonly groupInfo: Bytes; readonly ratchetTree: Bytes },
  ): ValidatedGroup {
    const { context, tree } = PublicGroup.follow(groupCrypto, request, rules.policy);
    // Whoever begins with others in the tree has not asked them.
    if (tree.memberCount !== 1) throw new RejectionError("community/first-epoch-members");
    return {
      groupId: context.groupId.slice(),
      epoch: Number(context.epoch),
      treeHash: context.treeHash.slice(),
    };
  }

  /** O(members) hashes. Throws InvariantError when what was stored does not fit together. */
  static restore(rules: CommunityRules, source: FollowerSource): CommunityFollower {
    const { groupInfo, snapshot, deltas } = source;
    const group = PublicGroup.restore(groupCrypto, { groupInfo, snapshot, deltas }, rules.policy);
    return new CommunityFollower(group, rules, source);
  }

  get estimatedBytes(): number {
    return this.group.estimatedBytes + 16 * this.banList.size;
  }

  get tree(): RatchetTree {
    return this.group.tree;
  }

  /** Validates a commit with all that comes with it. O(log N + proposals). Throws RejectionError. */
  stage(request: CommitRequest): ValidatedCommit {
    const { commit, brought } = this.judge(request);
    const external = commit.external;
    if (
      external !== (request.committer === undefined) ||
      (!external && commit.sender !== request.committer)
    ) {
      throw new RejectionError("community/not-the-senders-leaf");
    }
    this.group.validateGroupInfo(commit, request.groupInfo);
    const { before } = contextsOf(commit);
    requireValidNow(commit, request.nowSeconds);
    const welcomes = welcomesFor(commit, request.welcome);
    return {
      ...this.keep(commit, brought),
      snapshotDue: this.staged!.deltaBytes > Math.max(MIN_DELTA_BYTES, this.snapshotBytes),
      welcomes,
      sender: commit.sender,
      senderRole: roleOf(before, deviceOf(commit.next.tree.leaf(commit.sender)!.credential).accountId),
      external,
      addedDevices: commit.public.addedLeaves.map((leaf) =>
        deviceOf(commit.next.tree.leaf(leaf)!.credential),
      ),
      ...this.bansIn(commit, request),
      joinedBy: joinOf(commit, before),
    };
  }

  /**
   * Validates a commit that members have followed already, and goes on to its epoch. Who hands it in need not have made it,
   * and no clock is looked at: it was in time. Throws RejectionError.
   */
  follow(past: PastCommit, banned: Banned): ValidatedPastCommit {
    const { commit, brought } = this.judge(past);
    const bannedAccounts = banned.bannedAccounts.filter((account) => !this.listed.has(toHex(account)));
    const kept = this.keep(commit, brought);
    const validated = { ...kept, ...this.bansIn(commit, { ...banned, bannedAccounts }) };
    for (const account of validated.listed) this.listed.add(toHex(account));
    this.merge();
    return validated;
  }

  /** Signature key of the leaf that signed this GroupInfo of the present epoch. Throws RejectionError. */
  signerOf(groupInfo: Bytes): Bytes {
    return this.group.tree.signatureKey(this.group.signerOfGroupInfo(groupInfo))!;
  }

  private judge(request: PastCommit): {
    readonly commit: FollowedCommit;
    readonly brought: BanList | undefined;
  } {
    this.takeProposals(request.proposals);
    const brought = request.banList && banListOf(request.banList);
    const followed = this.rules.withLists([this.banList, brought], () =>
      this.group.receive(request.commit, limits.addsPerCommit),
    );
    if (followed.kind !== "commit") throw new RejectionError("community/not-a-commit");
    return { commit: followed.commit, brought };
  }

  /** What is to be stored of a commit; it is staged from here on. */
  private keep(
    commit: FollowedCommit,
    brought: BanList | undefined,
  ): Omit<ValidatedPastCommit, "bringsBanned" | "listed"> {
    const { before, after } = contextsOf(commit);
    const banListChanged = !equalBytes(before.banListHash, after.banListHash);
    const banList = banListChanged ? (brought ?? BanList.empty) : this.banList;
    // The policy asks for none where the context names none, and one that comes all the same would be kept.
    if (banListChanged && !equalBytes(banList.hash(), after.banListHash))
      throw new RejectionError("community/ban-list-unknown");
    const referenced = commit.references.map((reference) => this.waitingProposal(reference));
    const delta = this.group.treeDelta(commit);
    const deltaBytes = this.deltaBytes + delta.length;
    this.staged = { commit, banList, deltaBytes };
    const { tree } = commit.next;
    return {
      treeHash: tree.treeHash(),
      treeDelta: delta,
      referenced,
      removed: commit.removedKeys,
      leafReplaced: commit.public.plan.removes.length > commit.removedKeys.length,
      added: commit.public.addedLeaves.map((leaf) => tree.signatureKey(leaf)!),
      senderKey: tree.signatureKey(commit.sender)!,
      silent: silentAccounts(describeCommit(commit.public, commit.from), commit.from.tree),
      banListChanged,
    };
  }

  /** The staged commit was stored. False when there is none: this follower is of an epoch that is over. */
  merge(): boolean {
    if (this.staged === undefined) return false;
    const { commit, banList, deltaBytes } = this.staged;
    this.group.merge(commit);
    this.banList = banList;
    this.deltaBytes = deltaBytes;
    this.drop();
    this.proposals.clear();
    return true;
  }

  drop(): void {
    this.staged = undefined;
  }

  /** O(proposals). Throws RejectionError. */
  checkProposal(request: ProposalRequest): void {
    // First: the engine's follower keeps every proposal that it was given until the next commit.
    requireMayWait(request);
    this.takeProposals(request.proposals);
    this.takeProposal(request.proposal);
  }

  leaf(leafIndex: number): FollowedLeaf | undefined {
    return this.toLeaf(this.group.leaf(leafIndex));
  }

  leafOfKey(signatureKey: Bytes): FollowedLeaf | undefined {
    return this.toLeaf(this.group.leafOfKey(signatureKey));
  }

  /** A link signs in the same way as a leaf. One signature verification. */
  verifyLink(linkId: Bytes, content: Bytes, signature: Bytes): InviteLink | undefined {
    const link = linkOf(this.settings, linkId);
    if (link === undefined) return undefined;
    const signed = verifyLeafSignature(groupCrypto, link.publicKey, GROUP_ACCESS_LABEL, content, signature);
    return signed ? link : undefined;
  }

  /** Two signature verifications, where the cheap questions have the right answers. O(leaves of the account + banned). */
  isExpected({ banned, credential, signatureKey }: ExpectedRequest): boolean {
    const basic = { kind: "basic", identity: credential } as const;
    const device = deviceIn(basic);
    const expected = device && expectedAccount(this.settings, device.accountId);
    if (expected === undefined || !equalBytes(expected.fingerprint, accountFingerprint(basic))) return false;
    const { context, tree } = this.group;
    if (this.banList.has(context.groupId, device!.accountId)) return false;
    const known = leavesOfAccount(tree, device!.accountId).some(
      (leaf) =>
        deviceOf(tree.leaf(leaf)!.credential).deviceId === device!.deviceId ||
        banned.some((key) => equalBytes(key, tree.signatureKey(leaf)!)),
    );
    return !known && this.rules.policy.credentialIsValid(basic, signatureKey);
  }

  /** O(online x log N). */
  nextTurn({ online, leaving, bannedLeaves }: NextTurnRequest): NextTurn | undefined {
    const { tree } = this.group;
    const here = online.filter((leaf) => tree.hasMember(leaf) && !bannedLeaves.includes(leaf));
    if (bannedLeaves.length > 0) {
      const able = here.filter((leaf) => this.leaf(leaf)?.role !== "member");
      const admin = cheapestCommitter(tree, able);
      if (admin !== undefined) return { leafIndex: admin.leaf, reason: "ban" };
    }
    if (leaving.length > 0) {
      const member = committerForLeaving(tree, leaving, here);
      if (member !== undefined) return { leafIndex: member, reason: "proposals" };
    }
    const warmUp = nextWarmUpLeaf(tree, here);
    return warmUp === undefined ? undefined : { leafIndex: warmUp, reason: "warm-up" };
  }

  /** The whole tree, from which deltas count anew. O(members). */
  snapshot(): Bytes {
    const snapshot = this.group.treeSnapshot();
    this.snapshotBytes = snapshot.length;
    this.deltaBytes = 0;
    return snapshot;
  }

  private get settings(): CommunityContext {
    return communityContextOf(this.group.context.extensions);
  }

  private toLeaf(leaf: ReturnType<PublicGroup["leaf"]>): FollowedLeaf | undefined {
    if (leaf === undefined) return undefined;
    const { leafIndex, signatureKey, role, device } = leaf;
    const { announcementOnly, slowModeSeconds } = this.settings;
    return {
      leafIndex,
      signatureKey,
      accountId: device.accountId,
      role,
      settings: { announcementOnly, slowModeSeconds },
    };
  }

  /** As it came: it is stored with the commit that refers to it. */
  private waitingProposal(reference: Bytes): Bytes {
    const proposal = this.proposals.get(toHex(reference));
    if (proposal === undefined) throw new RejectionError("community/proposal-not-waiting");
    return proposal;
  }

  /**
   * A ban names leaves; the account's other devices come in by no door either, also when its leaves are gone: until a ban
   * list names it, which then says who may come in. Of the staged commit. O(banned + added).
   */
  private bansIn(
    commit: FollowedCommit,
    { banned, bannedAccounts }: Banned,
  ): Pick<ValidatedPastCommit, "bringsBanned" | "listed"> {
    if (banned.length === 0 && bannedAccounts.length === 0) return { bringsBanned: false, listed: [] };
    const { groupId } = commit.from.context;
    const lists = [this.banList, this.staged!.banList];
    const isListed = (account: AccountId) => lists.some((list) => list.has(groupId, account));
    const accounts = new Set(banned.map((key) => this.group.leafOfKey(key)).map(accountNameOf));
    for (const account of bannedAccounts) if (!isListed(account)) accounts.add(toHex(account));
    const { added } = describeCommit(commit.public, commit.from);
    return {
      bringsBanned: added.some((leaf) => accounts.has(accountNameOf(leaf))),
      listed: bannedAccounts.filter(isListed),
    };
  }

  /**
   * Those that wait at the service. One that is refused, or of an epoch that another node led on to, is passed over: a commit
   * that refers to it is refused, since the reference leads nowhere, and no other commit has anything to do with it.
   */
  private takeProposals(waiting: readonly Bytes[]): void {
    for (const proposal of waiting) {
      try {
        this.takeProposal(proposal);
      } catch (error) {
        if (!(error instanceof RejectionError)) throw error;
      }
    }
  }

  private takeProposal(proposal: Bytes): void {
    const followed = this.group.receive(proposal);
    if (followed.kind !== "proposal") throw new RejectionError("community/not-a-proposal");
    this.proposals.set(toHex(followed.proposal.reference), proposal);
  }
}

/** By what the message says of itself: the signature is looked at when it is taken in. O(its length). Throws RejectionError. */
function requireMayWait({ proposal: message, sender: leafIndex }: ProposalRequest): void {
  const decoded = decodeMlsMessage(message);
  const content =
    decoded.wireFormat === "mls_public_message" ? decoded.publicMessage.authenticated.content : undefined;
  if (content?.contentType !== "proposal") throw new RejectionError("community/not-a-proposal");
  const { proposal, sender } = content;
  if (sender.kind !== "member" || sender.leafIndex !== leafIndex) {
    throw new RejectionError("community/not-the-senders-leaf");
  }
  // What else a member may want it can commit itself, or ask somebody for.
  if (proposal.kind !== "self_remove") throw new RejectionError("community/proposal-may-not-wait");
}

/** Undefined for what is no credential of a member. */
function deviceIn(credential: Parameters<typeof deviceOf>[0]): DeviceAddress | undefined {
  try {
    return deviceOf(credential);
  } catch (error) {
    if (error instanceof RejectionError) return undefined;
    throw error;
  }
}

function accountNameOf(leaf: { readonly device: DeviceAddress } | undefined): string | undefined {
  return leaf && toHex(leaf.device.accountId);
}

function contextsOf(commit: FollowedCommit): {
  readonly before: CommunityContext;
  readonly after: CommunityContext;
} {
  return {
    before: communityContextOf(commit.from.context.extensions),
    after: communityContextOf(commit.next.context.extensions),
  };
}

/** A member that comes back brings the ticket of its first join: that is no use of the link. */
function joinOf(commit: FollowedCommit, before: CommunityContext): ValidatedCommit["joinedBy"] {
  if (!commit.external || describeCommit(commit.public, commit.from).resync) return undefined;
  const ticket = joinTicketOf(commit.next.tree.leaf(commit.sender)!.extensions);
  const link = ticket && linkOf(before, ticket.linkId);
  return link && { link, perMinute: before.joinsPerMinute };
}

/** Lifetimes are looked at here and by whoever creates an Add, and by nobody else: no clock decides validity later. */
function requireValidNow(commit: FollowedCommit, nowSeconds: number): void {
  const now = BigInt(nowSeconds);
  for (const { proposal } of commit.public.proposals) {
    if (proposal.kind !== "add" || proposal.keyPackage.leafNode.source.kind !== "key_package") continue;
    const { notBefore, notAfter } = proposal.keyPackage.leafNode.source.lifetime;
    if (now < notBefore || now > notAfter) throw new RejectionError("community/key-package-expired");
  }
}

/**
 * Throws RejectionError `group/welcome-mismatch` unless there is one for each member that is added, and no more, and each
 * fits its envelope. What is cut is bounded by the Adds of a commit that a frame can name recipients for.
 */
function welcomesFor(commit: FollowedCommit, welcome: Bytes | undefined): readonly Bytes[] {
  const joiners = commit.addedCount;
  if (joiners > limits.addsPerCommit || (welcome === undefined) !== (joiners === 0)) {
    throw new RejectionError("group/welcome-mismatch");
  }
  if (welcome === undefined) return [];
  try {
    return trimWelcomes(welcome, { joiners, maxBytes: limits.trimmedWelcomeBytes });
  } catch (error) {
    if (error instanceof RejectionError) throw new RejectionError("group/welcome-mismatch");
    throw error;
  }
}

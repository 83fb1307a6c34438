import { type Bytes, RejectionError, refuseUnless, toHex, UsageError } from "@murmuration/base";
import { makeProposalRef } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import {
  type AuthenticatedContent,
  authenticatedContentBytes,
  decodeAuthenticatedContent,
} from "../structs/authenticated-content.ts";
import type { Sender } from "../structs/framed-content.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { GroupPolicy } from "./policy.ts";
import { applyProposals, type CommittedProposal, planProposals, type Signatures } from "./proposal-list.ts";
import type { PskSource } from "./psk-source.ts";
import type { PublicEpoch } from "./public-epoch.ts";

export interface CachedProposal extends CommittedProposal {
  readonly reference: Bytes;
  /** Order of arrival. */
  readonly order: number;
  readonly authenticated: AuthenticatedContent;
}

const NO_REFERENCE = new Uint8Array(0);

/**
 * What one sender may have waiting in one epoch. All newcomers together are one sender, since anybody can be many of
 * them. The bound cannot divide a group: every member and every follower counts each sender for itself, in the order of
 * the group log, and refuses the same ones; a sender holds itself to it as well. Each commit starts anew.
 */
export const PROPOSALS_PER_SENDER = 256;
export const PROPOSAL_BYTES_PER_SENDER = 1 << 20;

/** The proposals of the current epoch that were verified, by their ProposalRef (12.1). */
export class ProposalCache {
  readonly #byReference = new Map<string, CachedProposal>();
  readonly #bySender = new Map<string, { proposals: number; bytes: number }>();
  /** What {@link ProposalCache.validAlone} found. */
  readonly #validAlone = new Map<CachedProposal, boolean>();
  #arrivals = 0;

  /** Whether verified content may still be added, or is there already. O(its length). */
  hasRoomFor(crypto: CryptoProvider, { content: { sender }, ...verified }: AuthenticatedContent): boolean {
    const { length } = verified.bytes;
    const { proposals, bytes } = this.#bySender.get(senderKey(sender)) ?? { proposals: 0, bytes: 0 };
    if (proposals < PROPOSALS_PER_SENDER && bytes + length <= PROPOSAL_BYTES_PER_SENDER) return true;
    return this.get(makeProposalRef(crypto, verified.bytes.subarray(2))) !== undefined;
  }

  /** {@link ProposalCache.add} for what arrived. Throws RejectionError `mls/proposal-limit-reached`. */
  receive(crypto: CryptoProvider, verified: AuthenticatedContent): CachedProposal {
    refuseUnless(this.hasRoomFor(crypto, verified), "mls/proposal-limit-reached");
    return this.add(crypto, verified);
  }

  /**
   * Caches verified content that holds a proposal, decoded from a copy of its own bytes: whoever made or received the
   * content may go on with theirs. The same proposal twice is one entry. O(its length).
   */
  add(
    crypto: CryptoProvider,
    verified: AuthenticatedContent,
    order: number = this.#arrivals,
  ): CachedProposal {
    const bytes = authenticatedContentBytes(verified);
    const authenticated = decodeAuthenticatedContent(bytes);
    const { content } = authenticated;
    if (content.contentType !== "proposal") throw new UsageError("mls/not-a-proposal");
    const reference = makeProposalRef(crypto, bytes);
    const key = toHex(reference);
    const known = this.#byReference.get(key);
    if (known !== undefined) return known;
    const cached = { proposal: content.proposal, sender: content.sender, reference, order, authenticated };
    this.#byReference.set(key, cached);
    const waiting = this.#bySender.get(senderKey(content.sender)) ?? { proposals: 0, bytes: 0 };
    this.#bySender.set(senderKey(content.sender), {
      proposals: waiting.proposals + 1,
      bytes: waiting.bytes + verified.bytes.length,
    });
    this.#arrivals = Math.max(this.#arrivals, order + 1);
    return cached;
  }

  get(reference: Uint8Array): CachedProposal | undefined {
    return this.#byReference.get(toHex(reference));
  }

  get size(): number {
    return this.#byReference.size;
  }

  clear(): void {
    this.#byReference.clear();
    this.#bySender.clear();
    this.#validAlone.clear();
    this.#arrivals = 0;
  }

  /** The answer of `validate`, which is asked once for each proposal: the epoch it is asked about does not change. */
  validAlone(candidate: CachedProposal, validate: () => boolean): boolean {
    const known = this.#validAlone.get(candidate) ?? validate();
    this.#validAlone.set(candidate, known);
    return known;
  }

  /** In order of arrival. */
  all(): CachedProposal[] {
    return [...this.#byReference.values()].sort((a, b) => a.order - b.order);
  }
}

function senderKey(sender: Sender): string {
  if (sender.kind === "member") return `member ${sender.leafIndex}`;
  return sender.kind === "external" ? `external ${sender.senderIndex}` : "newcomers";
}

export interface SelectProposals {
  readonly ownLeaf: LeafIndex;
  readonly policy: GroupPolicy;
  readonly psks: PskSource;
  /** The committer's own. They win over cached ones that exclude them. */
  readonly byValue: readonly CommittedProposal[];
}

/**
 * The cached proposals that a committer should cover (12.4): all that are valid together and beside its own. Of
 * several changes to one leaf a Remove wins over an Update and a later Update over an earlier one (12.2). A ReInit is
 * left for another commit when there is anything else. No proposal of another member can make the commit fail, or
 * somebody could keep itself in the group by proposing an Update. Signatures are verified once for each proposal and
 * epoch; beside that O(proposals x log N), and at most {@link MOST_ATTEMPTS} times as much when some are valid only
 * without the others.
 */
export function selectProposals(
  epoch: PublicEpoch,
  cache: ProposalCache,
  request: SelectProposals,
): CachedProposal[] {
  const { byValue } = request;
  if (byValue.some(({ proposal }) => proposal.kind === "reinit")) return [];
  const taken = new Set(byValue.map(slotOf));
  const usable = cache
    .all()
    .filter((candidate) => !taken.has(slotOf(candidate)) && isValidAlone(epoch, cache, candidate, request));
  const chosen = new Map<string, CachedProposal>();
  for (const candidate of usable) {
    const slot = slotOf(candidate);
    const rival = chosen.get(slot);
    const keepsRival =
      rival !== undefined && rival.proposal.kind !== "update" && candidate.proposal.kind === "update";
    if (!keepsRival) chosen.set(slot, candidate);
  }
  const list = [...chosen.values()].sort((a, b) => a.order - b.order);
  const reinit = list.find(({ proposal }) => proposal.kind === "reinit");
  const rest = list.length + byValue.length > 1 ? list.filter((candidate) => candidate !== reinit) : list;
  return validTogether(epoch, rest, request);
}

/**
 * Whether somebody proposed what a commit could cover (12.4). One signature verification or two for each proposal,
 * once in an epoch.
 */
export function hasValidProposal(
  epoch: PublicEpoch,
  cache: ProposalCache,
  request: SelectProposals,
): boolean {
  return cache.size > 0 && cache.all().some((candidate) => isValidAlone(epoch, cache, candidate, request));
}

function isValidAlone(
  epoch: PublicEpoch,
  cache: ProposalCache,
  candidate: CachedProposal,
  request: SelectProposals,
): boolean {
  const { proposal } = candidate;
  // Outside of what is remembered: a PSK may be there later on.
  if (proposal.kind === "psk" && request.psks(proposal.psk) === undefined) return false;
  return cache.validAlone(candidate, () => isValid(epoch, [candidate], request, "verify"));
}

/** How often a committer tries which of the cached proposals go together, before it leaves the rest to later. */
const MOST_ATTEMPTS = 64;

/**
 * First come, first served, those that are valid beside the committer's own proposals and those before them; removals
 * come before all others, so that nothing that is proposed can keep somebody in the group. Halves what is not valid as
 * a whole, so that one proposal in the way costs O(log proposals) attempts.
 */
function validTogether(
  epoch: PublicEpoch,
  list: readonly CachedProposal[],
  request: SelectProposals,
): CachedProposal[] {
  const { byValue } = request;
  // Nothing to choose: the committer's own proposals are validated when they are committed, and not twice.
  if (list.length === 0) return [];
  if (list.length + byValue.length < 2) return [...list];
  const kept: CachedProposal[] = [];
  let attempts = 0;
  const take = (candidates: readonly CachedProposal[]): void => {
    if (candidates.length === 0 || attempts++ >= MOST_ATTEMPTS) return;
    if (isValid(epoch, [...kept, ...candidates, ...byValue], request, "verified")) {
      kept.push(...candidates);
    } else if (candidates.length > 1) {
      const middle = candidates.length >>> 1;
      take(candidates.slice(0, middle));
      take(candidates.slice(middle));
    }
  };
  const isRemoval = ({ proposal }: CachedProposal) =>
    proposal.kind === "remove" || proposal.kind === "self_remove";
  take([...list.filter(isRemoval), ...list.filter((candidate) => !isRemoval(candidate))]);
  return kept.sort((a, b) => a.order - b.order);
}

/** Two proposals of one slot exclude each other. */
function slotOf({ proposal, sender, reference = NO_REFERENCE }: CommittedProposal): string {
  switch (proposal.kind) {
    case "update":
    case "self_remove":
      return sender.kind === "member" ? `leaf ${sender.leafIndex}` : `ref ${toHex(reference)}`;
    case "remove":
      return `leaf ${proposal.removed}`;
    case "add":
      return `client ${toHex(proposal.keyPackage.leafNode.signatureKey)}`;
    case "psk":
      return proposal.psk.kind === "external"
        ? `psk ${toHex(proposal.psk.pskId)} ${toHex(proposal.psk.pskNonce)}`
        : `psk ${toHex(proposal.psk.pskGroupId)} ${proposal.psk.pskEpoch} ${toHex(proposal.psk.pskNonce)}`;
    case "reinit":
    case "group_context_extensions":
      return proposal.kind;
    default:
      return `ref ${toHex(reference)}`;
  }
}

function isValid(
  epoch: PublicEpoch,
  proposals: readonly CommittedProposal[],
  { ownLeaf, policy, psks }: SelectProposals,
  signatures: Signatures,
): boolean {
  try {
    const plan = planProposals(epoch, proposals, { kind: "member", leaf: ownLeaf });
    applyProposals(epoch, plan, policy, signatures);
    policy.authorize?.({ epoch, committer: ownLeaf, proposals, pathLeaf: undefined });
    return plan.psks.every((id) => psks(id) !== undefined);
  } catch (error) {
    if (error instanceof RejectionError) return false;
    throw error;
  }
}

import { type Bytes, RejectionError, toHex, UsageError } from "@murmuration/base";
import { makeProposalRef } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import {
  type AuthenticatedContent,
  authenticatedContentBytes,
  decodeAuthenticatedContent,
} from "../structs/authenticated-content.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { GroupPolicy } from "./policy.ts";
import { applyProposals, type CommittedProposal, planProposals } from "./proposal-list.ts";
import type { PskSource } from "./psk-source.ts";
import type { PublicEpoch } from "./public-epoch.ts";

export interface CachedProposal extends CommittedProposal {
  readonly reference: Bytes;
  /** Order of arrival. */
  readonly order: number;
  readonly authenticated: AuthenticatedContent;
}

const NO_REFERENCE = new Uint8Array(0);

/** The proposals of the current epoch that were verified, by their ProposalRef (12.1). */
export class ProposalCache {
  readonly #byReference = new Map<string, CachedProposal>();
  #arrivals = 0;

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
    this.#arrivals = 0;
  }

  /** In order of arrival. */
  all(): CachedProposal[] {
    return [...this.#byReference.values()].sort((a, b) => a.order - b.order);
  }
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
 * somebody could keep itself in the group by proposing an Update. O(proposals x log N); O(proposals^2 x log N) when
 * some are valid only without the others.
 */
export function selectProposals(
  epoch: PublicEpoch,
  cached: readonly CachedProposal[],
  request: SelectProposals,
): CachedProposal[] {
  const { byValue } = request;
  if (byValue.some(({ proposal }) => proposal.kind === "reinit")) return [];
  const taken = new Set(byValue.map(slotOf));
  const usable = cached.filter(
    (candidate) => !taken.has(slotOf(candidate)) && isValid(epoch, [candidate], request),
  );
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

/** The longest run of first come, first served that is valid beside the committer's own proposals. */
function validTogether(
  epoch: PublicEpoch,
  list: readonly CachedProposal[],
  request: SelectProposals,
): CachedProposal[] {
  const { byValue } = request;
  // Nothing to choose: the committer's own proposals are validated when they are committed, and not twice.
  if (list.length === 0) return [];
  if (list.length + byValue.length < 2 || isValid(epoch, [...list, ...byValue], request)) return [...list];
  const kept: CachedProposal[] = [];
  for (const candidate of list) {
    if (isValid(epoch, [...kept, candidate, ...byValue], request)) kept.push(candidate);
  }
  return kept;
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
): boolean {
  try {
    const plan = planProposals(epoch, proposals, { kind: "member", leaf: ownLeaf });
    applyProposals(epoch, plan, policy);
    policy.authorize?.({ epoch, committer: ownLeaf, proposals, pathLeaf: undefined });
    return plan.psks.every((id) => psks(id) !== undefined);
  } catch (error) {
    if (error instanceof RejectionError) return false;
    throw error;
  }
}

import { type Bytes, RejectionError, toHex, UsageError } from "@murmuration/base";
import { makeProposalRef } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import { type AuthenticatedContent, authenticatedContentBytes } from "../structs/authenticated-content.ts";
import type { LeafIndex } from "../tree/math.ts";
import type { GroupPolicy } from "./policy.ts";
import { applyProposals, type CommittedProposal, planProposals } from "./proposal-list.ts";
import type { PublicEpoch } from "./public-epoch.ts";

export interface CachedProposal extends CommittedProposal {
  readonly reference: Bytes;
  /** Order of arrival. */
  readonly order: number;
  readonly authenticated: AuthenticatedContent;
}

/** The proposals of the current epoch that were verified, by their ProposalRef (12.1). */
export class ProposalCache {
  readonly #byReference = new Map<string, CachedProposal>();
  #arrivals = 0;

  /** Caches verified content that holds a proposal. The same proposal twice is one entry. O(its length). */
  add(
    crypto: CryptoProvider,
    authenticated: AuthenticatedContent,
    order: number = this.#arrivals,
  ): CachedProposal {
    const { content } = authenticated;
    if (content.contentType !== "proposal") throw new UsageError("mls/not-a-proposal");
    const reference = makeProposalRef(crypto, authenticatedContentBytes(authenticated));
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

/**
 * The cached proposals that a committer should cover (12.4): all that are valid together. Of several changes to
 * one leaf a Remove wins over an Update and a later Update over an earlier one (12.2). A ReInit is left for
 * another commit when there is anything else. Each proposal is tried on the epoch by itself, so an invalid one
 * cannot make the commit fail. O(proposals x log N).
 */
export function selectProposals(
  epoch: PublicEpoch,
  cached: readonly CachedProposal[],
  ownLeaf: LeafIndex,
  policy: GroupPolicy,
): CachedProposal[] {
  const usable = cached.filter((candidate) => isValidAlone(epoch, candidate, ownLeaf, policy));
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
  return list.length > 1 ? list.filter((candidate) => candidate !== reinit) : list;
}

/** Two proposals of one slot exclude each other. */
function slotOf({ proposal, sender, reference }: CachedProposal): string {
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

function isValidAlone(
  epoch: PublicEpoch,
  candidate: CachedProposal,
  ownLeaf: LeafIndex,
  policy: GroupPolicy,
): boolean {
  try {
    const plan = planProposals(epoch, [candidate], { kind: "member", leaf: ownLeaf });
    applyProposals(epoch, plan, policy);
    policy.authorize?.({ epoch, committer: ownLeaf, proposals: [candidate], pathLeaf: undefined });
    return true;
  } catch (error) {
    if (error instanceof RejectionError) return false;
    throw error;
  }
}

import type { Bytes } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { signContent } from "../framing/content.ts";
import { protectPublicMessage } from "../framing/public-message.ts";
import type { Sender } from "../structs/framed-content.ts";
import type { Proposal } from "../structs/proposal.ts";
import type { KeyPackageBundle } from "./key-package.ts";

/** The group and epoch that a proposal from outside is for. */
export interface ProposalTarget {
  readonly groupId: Uint8Array;
  readonly epoch: bigint;
}

const EMPTY = new Uint8Array(0);

/** A proposal of a sender listed in the group's external_senders extension (12.1.8), as a PublicMessage. */
export function createExternalProposal(
  crypto: CryptoProvider,
  target: ProposalTarget,
  senderIndex: number,
  signaturePrivateKey: Uint8Array,
  proposal: Proposal,
  authenticatedData: Uint8Array = EMPTY,
): Bytes {
  return create(
    crypto,
    target,
    { kind: "external", senderIndex },
    signaturePrivateKey,
    proposal,
    authenticatedData,
  );
}

/** A newcomer's proposal to add itself (12.1.8, new_member_proposal), as a PublicMessage. */
export function createNewMemberProposal(
  crypto: CryptoProvider,
  target: ProposalTarget,
  bundle: KeyPackageBundle,
  authenticatedData: Uint8Array = EMPTY,
): Bytes {
  const proposal = { kind: "add", keyPackage: bundle.keyPackage } as const;
  const sender = { kind: "new_member_proposal" } as const;
  return create(crypto, target, sender, bundle.signaturePrivateKey, proposal, authenticatedData);
}

function create(
  crypto: CryptoProvider,
  target: ProposalTarget,
  sender: Sender,
  signaturePrivateKey: Uint8Array,
  proposal: Proposal,
  authenticatedData: Uint8Array,
): Bytes {
  const content = signContent(crypto, {
    wireFormat: "mls_public_message",
    content: { ...target, sender, authenticatedData, contentType: "proposal", proposal },
    signaturePrivateKey,
    groupContext: EMPTY,
  });
  return protectPublicMessage(crypto, content, undefined);
}

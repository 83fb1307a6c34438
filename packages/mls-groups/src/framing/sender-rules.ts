import { check } from "../rules.ts";
import type { AuthenticatedContent, FramingWireFormat } from "../structs/authenticated-content.ts";
import type { FramedContent } from "../structs/framed-content.ts";
import { isAllowedFromExternalSender } from "../structs/proposal.ts";

/** Whether this sender may send this content in this wire format (RFC 9420 sections 6, 6.1, 12.1.8). */
export function senderMaySend(wireFormat: FramingWireFormat, content: FramedContent): boolean {
  if (wireFormat === "mls_private_message") return content.sender.kind === "member";
  return (
    isEncryptedIfApplication(wireFormat, content) &&
    externalSendsProposal(content) &&
    externalProposalTypeIsAllowed(content) &&
    newMemberProposalIsAdd(content) &&
    newMemberCommitIsCommit(content) &&
    newMemberCommitHasPath(content)
  );
}

/**
 * The same for what was received, each rule with its code `mls/framing/...`. That a PrivateMessage comes from
 * a member is no rule: its SenderData has room for nothing but a leaf index.
 */
export function checkSenderAndContent({ wireFormat, content }: AuthenticatedContent): void {
  check("framing/application-data-encrypted", isEncryptedIfApplication(wireFormat, content));
  check("framing/external-sends-proposal", externalSendsProposal(content));
  check("framing/external-proposal-type", externalProposalTypeIsAllowed(content));
  check("framing/new-member-proposal-sends-add", newMemberProposalIsAdd(content));
  check("framing/new-member-commit-sends-commit", newMemberCommitIsCommit(content));
  check("framing/new-member-commit-has-path", newMemberCommitHasPath(content));
}

function isEncryptedIfApplication(wireFormat: FramingWireFormat, content: FramedContent): boolean {
  return content.contentType !== "application" || wireFormat === "mls_private_message";
}

function externalSendsProposal(content: FramedContent): boolean {
  return content.sender.kind !== "external" || content.contentType === "proposal";
}

function externalProposalTypeIsAllowed(content: FramedContent): boolean {
  if (content.sender.kind !== "external" || content.contentType !== "proposal") return true;
  return isAllowedFromExternalSender(content.proposal);
}

function newMemberProposalIsAdd(content: FramedContent): boolean {
  if (content.sender.kind !== "new_member_proposal") return true;
  return content.contentType === "proposal" && content.proposal.kind === "add";
}

function newMemberCommitIsCommit(content: FramedContent): boolean {
  return content.sender.kind !== "new_member_commit" || content.contentType === "commit";
}

function newMemberCommitHasPath(content: FramedContent): boolean {
  if (content.sender.kind !== "new_member_commit" || content.contentType !== "commit") return true;
  return content.commit.path !== undefined;
}

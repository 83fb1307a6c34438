import { type Reader, RejectionError, type Writer } from "@murmuration/base";
import { type DecodeLimits, defaultLimits, withinLimit } from "./limits.ts";
import { type Proposal, readProposal, writeProposal } from "./proposal.ts";
import { readUpdatePath, type UpdatePath, writeUpdatePath } from "./update-path.ts";

/**
 * RFC 9420 section 12.4.
 *
 *   enum { reserved(0), proposal(1), reference(2), (255) } ProposalOrRefType;
 *   struct {
 *     ProposalOrRefType type;
 *     select (type) {
 *       case proposal:  Proposal proposal;
 *       case reference: ProposalRef reference;
 *     };
 *   } ProposalOrRef;
 */
export type ProposalOrRef =
  | { readonly kind: "proposal"; readonly proposal: Proposal }
  | { readonly kind: "reference"; readonly reference: Uint8Array };

/**
 *   struct {
 *     ProposalOrRef proposals<V>;
 *     optional<UpdatePath> path;
 *   } Commit;
 */
export interface Commit {
  readonly proposals: readonly ProposalOrRef[];
  readonly path: UpdatePath | undefined;
}

const typeCodes = { proposal: 1, reference: 2 } as const;

function readProposalOrRef(reader: Reader): ProposalOrRef {
  const type = reader.uint8();
  if (type === typeCodes.proposal) return { kind: "proposal", proposal: readProposal(reader) };
  if (type === typeCodes.reference) return { kind: "reference", reference: reader.bytes() };
  throw new RejectionError("mls/decode-unknown-proposal-or-ref-type");
}

function writeProposalOrRef(writer: Writer, item: ProposalOrRef): void {
  writer.uint8(typeCodes[item.kind]);
  if (item.kind === "proposal") writeProposal(writer, item.proposal);
  else writer.bytes(item.reference);
}

/** O(size); the path's ciphertexts become objects only when asked for. */
export function readCommit(reader: Reader, limits: DecodeLimits = defaultLimits): Commit {
  let count = 0;
  const proposals = reader.vector((inner) => {
    withinLimit(++count, limits.proposals);
    return readProposalOrRef(inner);
  });
  return { proposals, path: reader.optional((inner) => readUpdatePath(inner, limits)) };
}

export function writeCommit(writer: Writer, commit: Commit): void {
  writer.vector(commit.proposals, writeProposalOrRef);
  writer.optional(commit.path, writeUpdatePath);
}

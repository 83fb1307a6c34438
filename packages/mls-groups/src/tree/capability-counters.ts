import { isDefaultExtensionType, isDefaultProposalType } from "../structs/code-points.ts";
import { contentEnd, contentStart, type LeafFields, uint16At } from "./encoded-node.ts";

/** Lists up to this length are searched for repetitions directly; longer ones through a Set. */
const SHORT_LIST = 64;

/** Calls `visit` once for each distinct value of the `uint16 values<V>` at `at`. */
function forEachDistinct(bytes: Uint8Array, at: number, visit: (value: number) => void): void {
  const start = contentStart(bytes, at);
  const end = contentEnd(bytes, at);
  const seen = end - start > SHORT_LIST * 2 ? new Set<number>() : undefined;
  for (let i = start; i < end; i += 2) {
    const value = uint16At(bytes, i);
    if (seen !== undefined) {
      if (seen.has(value)) continue;
      seen.add(value);
    } else if (listed(bytes, start, i, value)) continue;
    visit(value);
  }
}

function listed(bytes: Uint8Array, start: number, end: number, value: number): boolean {
  for (let i = start; i < end; i += 2) if (uint16At(bytes, i) === value) return true;
  return false;
}

function add(counts: Map<number, number>, type: number, difference: number): void {
  const count = (counts.get(type) ?? 0) + difference;
  if (count === 0) counts.delete(type);
  else counts.set(type, count);
}

/**
 * How many members support each extension, proposal and credential type (LeafNode.capabilities, RFC 9420
 * section 7.2) and how many use each credential type. Answers "does everybody support t" in O(1).
 */
export class CapabilityCounters {
  private readonly extensions = new Map<number, number>();
  private readonly proposals = new Map<number, number>();
  private readonly credentials = new Map<number, number>();
  private readonly used = new Map<number, number>();

  /** Counts a leaf in (+1) or out (-1). O(its capabilities). */
  count(bytes: Uint8Array, fields: LeafFields, difference: 1 | -1): void {
    const [, , extensionsAt, proposalsAt, credentialsAt] = fields.capabilitiesAt;
    forEachDistinct(bytes, extensionsAt, (type) => add(this.extensions, type, difference));
    forEachDistinct(bytes, proposalsAt, (type) => add(this.proposals, type, difference));
    forEachDistinct(bytes, credentialsAt, (type) => add(this.credentials, type, difference));
    add(this.used, uint16At(bytes, fields.credentialAt), difference);
  }

  supportingExtension(type: number): number | undefined {
    return isDefaultExtensionType(type) ? undefined : (this.extensions.get(type) ?? 0);
  }

  supportingProposal(type: number): number | undefined {
    return isDefaultProposalType(type) ? undefined : (this.proposals.get(type) ?? 0);
  }

  supportingCredential(type: number): number {
    return this.credentials.get(type) ?? 0;
  }

  /** Credential types that leaves use, with how many use each. */
  get credentialsInUse(): ReadonlyMap<number, number> {
    return this.used;
  }
}

/** Whether the `uint16 values<V>` at `at` has this value. */
export function listsType(bytes: Uint8Array, at: number, type: number): boolean {
  return listed(bytes, contentStart(bytes, at), contentEnd(bytes, at), type);
}

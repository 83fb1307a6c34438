import type { Reader, Writer } from "@murmuration/base";
import { proposalTypes } from "./code-points.ts";
import { type Extension, readDistinctExtensions, writeExtensions } from "./extension.ts";
import { type KeyPackage, readKeyPackage, writeKeyPackage } from "./key-package.ts";
import { type LeafNode, readLeafNode, writeLeafNode } from "./leaf-node.ts";
import { type PreSharedKeyId, readPreSharedKeyId, writePreSharedKeyId } from "./psk-id.ts";

/** Section 12.1.1: `struct { KeyPackage key_package; } Add`. */
export interface Add {
  readonly kind: "add";
  readonly keyPackage: KeyPackage;
}

/** Section 12.1.2: `struct { LeafNode leaf_node; } Update`. */
export interface Update {
  readonly kind: "update";
  readonly leafNode: LeafNode;
}

/** Section 12.1.3: `struct { uint32 removed; } Remove`, a leaf index. */
export interface Remove {
  readonly kind: "remove";
  readonly removed: number;
}

/** Section 12.1.4: `struct { PreSharedKeyID psk; } PreSharedKey`. */
export interface PreSharedKey {
  readonly kind: "psk";
  readonly psk: PreSharedKeyId;
}

/**
 * Section 12.1.5. The version is kept as it came: it names the version of the group to be created.
 *
 *   struct {
 *     opaque group_id<V>;
 *     ProtocolVersion version;
 *     CipherSuite cipher_suite;
 *     Extension extensions<V>;
 *   } ReInit;
 */
export interface ReInit {
  readonly kind: "reinit";
  readonly groupId: Uint8Array;
  readonly version: number;
  readonly cipherSuite: number;
  readonly extensions: readonly Extension[];
}

/** Section 12.1.6: `struct { opaque kem_output<V>; } ExternalInit`. */
export interface ExternalInit {
  readonly kind: "external_init";
  readonly kemOutput: Uint8Array;
}

/** Section 12.1.7: `struct { Extension extensions<V>; } GroupContextExtensions`. */
export interface GroupContextExtensions {
  readonly kind: "group_context_extensions";
  readonly extensions: readonly Extension[];
}

/** draft-ietf-mls-extensions: `struct {} SelfRemove`. The sender is the one who leaves. */
export interface SelfRemove {
  readonly kind: "self_remove";
}

/**
 * A type that this engine does not know. The RFC gives it no frame; like the private-use proposals of other
 * implementations it is read as one opaque<V>, so that it survives and can be refused by its type.
 */
export interface UnknownProposal {
  readonly kind: "unknown";
  readonly type: number;
  readonly content: Uint8Array;
}

/**
 * RFC 9420 section 12.1.
 *
 *   uint16 ProposalType;
 *   struct {
 *     ProposalType proposal_type;
 *     select (proposal_type) { ... };
 *   } Proposal;
 */
export type Proposal =
  | Add
  | Update
  | Remove
  | PreSharedKey
  | ReInit
  | ExternalInit
  | GroupContextExtensions
  | SelfRemove
  | UnknownProposal;

/** The code point of a proposal's type. */
export function proposalType(proposal: Proposal): number {
  return proposal.kind === "unknown" ? proposal.type : proposalTypes[proposal.kind];
}

export function readProposal(reader: Reader): Proposal {
  return readProposalBody(reader, reader.uint16());
}

/** Reads a proposal's struct without the type before it: Add, Update, Remove and so on. */
export function readProposalBody(reader: Reader, type: number): Proposal {
  switch (type) {
    case proposalTypes.add:
      return { kind: "add", keyPackage: readKeyPackage(reader) };
    case proposalTypes.update:
      return { kind: "update", leafNode: readLeafNode(reader) };
    case proposalTypes.remove:
      return { kind: "remove", removed: reader.uint32() };
    case proposalTypes.psk:
      return { kind: "psk", psk: readPreSharedKeyId(reader) };
    case proposalTypes.reinit:
      return {
        kind: "reinit",
        groupId: reader.bytes(),
        version: reader.uint16(),
        cipherSuite: reader.uint16(),
        extensions: readDistinctExtensions(reader),
      };
    case proposalTypes.external_init:
      return { kind: "external_init", kemOutput: reader.bytes() };
    case proposalTypes.group_context_extensions:
      return { kind: "group_context_extensions", extensions: readDistinctExtensions(reader) };
    case proposalTypes.self_remove:
      return { kind: "self_remove" };
    default:
      return { kind: "unknown", type, content: reader.bytes() };
  }
}

export function writeProposal(writer: Writer, proposal: Proposal): void {
  writer.uint16(proposalType(proposal));
  writeProposalBody(writer, proposal);
}

/** The inverse of {@link readProposalBody}. */
export function writeProposalBody(writer: Writer, proposal: Proposal): void {
  switch (proposal.kind) {
    case "add":
      writeKeyPackage(writer, proposal.keyPackage);
      break;
    case "update":
      writeLeafNode(writer, proposal.leafNode);
      break;
    case "remove":
      writer.uint32(proposal.removed);
      break;
    case "psk":
      writePreSharedKeyId(writer, proposal.psk);
      break;
    case "reinit":
      writer.bytes(proposal.groupId).uint16(proposal.version).uint16(proposal.cipherSuite);
      writeExtensions(writer, proposal.extensions);
      break;
    case "external_init":
      writer.bytes(proposal.kemOutput);
      break;
    case "group_context_extensions":
      writeExtensions(writer, proposal.extensions);
      break;
    case "self_remove":
      break;
    case "unknown":
      writer.bytes(proposal.content);
      break;
  }
}

/** Whether an `external` sender may send this proposal (sections 12.1.8 and 17.4, column Ext). */
export function isAllowedFromExternalSender(proposal: Proposal): boolean {
  switch (proposal.kind) {
    case "add":
    case "remove":
    case "psk":
    case "reinit":
    case "group_context_extensions":
      return true;
    default:
      return false;
  }
}

/**
 * Whether a Commit that covers this proposal needs a path (sections 12.4 and 17.4, column Path). Only add, psk
 * and reinit do without; what is unknown is taken to need one.
 */
export function requiresPath(proposal: Proposal): boolean {
  return proposal.kind !== "add" && proposal.kind !== "psk" && proposal.kind !== "reinit";
}

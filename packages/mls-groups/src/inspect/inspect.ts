import { decodeWhole, type Reader, RejectionError } from "@murmuration/base";
import { MLS10, wireFormats } from "../structs/code-points.ts";
import { readCommit } from "../structs/commit.ts";
import { readGroupContext } from "../structs/group-context.ts";
import { readGroupInfo } from "../structs/group-info.ts";
import { readKeyPackage } from "../structs/key-package.ts";
import { readLeafNode } from "../structs/leaf-node.ts";
import { defaultLimits, withinLimit } from "../structs/limits.ts";
import { decodeMlsMessage } from "../structs/mls-message.ts";
import { readProposal } from "../structs/proposal.ts";
import { readRatchetTree } from "../structs/ratchet-tree.ts";
import { readGroupSecrets, readWelcome } from "../structs/welcome.ts";
import { annotate, type InspectLimits, type InspectNode } from "./annotate.ts";

const whole =
  (read: (reader: Reader) => unknown) =>
  (bytes: Uint8Array): unknown =>
    decodeWhole(bytes, read);

/** What can be inspected, in the order in which unnamed bytes are tried. */
const structures = {
  MLSMessage: (bytes: Uint8Array) => decodeMlsMessage(bytes),
  KeyPackage: whole(readKeyPackage),
  GroupInfo: whole(readGroupInfo),
  GroupContext: whole(readGroupContext),
  LeafNode: whole(readLeafNode),
  ratchet_tree: whole((reader) => readRatchetTree(reader)),
  Welcome: whole((reader) => readWelcome(reader)),
  GroupSecrets: whole(readGroupSecrets),
  Commit: whole((reader) => readCommit(reader)),
  Proposal: whole(readProposal),
} as const;

/** RFC 9420's name of a structure that {@link inspect} knows. */
export type StructureName = keyof typeof structures;

export const structureNames = Object.keys(structures) as readonly StructureName[];

const defaultShown: InspectLimits = { elements: 64, bytes: 64 };

/**
 * An annotated view of an MLS structure: every field with its RFC name, code points by name, secrets and
 * application data elided. Without `as` the structure is recognised: an MLSMessage by its head, the others
 * by decoding completely. Nothing is verified. Throws RejectionError: the code of the failed decoding, or
 * `mls/inspect-not-recognised`. O(length).
 */
export function inspect(
  bytes: Uint8Array,
  as?: StructureName,
  shown: InspectLimits = defaultShown,
): InspectNode {
  withinLimit(bytes.length, defaultLimits.messageBytes);
  if (as !== undefined) return annotate(as, structures[as](bytes), shown);
  let refusal = new RejectionError("mls/inspect-not-recognised");
  for (const name of structureNames) {
    try {
      return annotate(name, structures[name](bytes), shown);
    } catch (error) {
      if (!(error instanceof RejectionError)) throw error;
      if (name === "MLSMessage" && startsLikeMlsMessage(bytes)) refusal = error;
    }
  }
  throw refusal;
}

/** version mls10 and one of the five wire formats: if nothing decodes, what is wrong with the MLSMessage says most. */
function startsLikeMlsMessage(bytes: Uint8Array): boolean {
  return (
    bytes.length >= 4 &&
    bytes[0] === 0 &&
    bytes[1] === MLS10 &&
    bytes[2] === 0 &&
    bytes[3]! >= wireFormats.mls_public_message &&
    bytes[3]! <= wireFormats.mls_key_package
  );
}

/** One line a field, children indented by two spaces. */
export function renderInspection(node: InspectNode): string {
  const lines: string[] = [];
  const render = (current: InspectNode, indent: string): void => {
    lines.push(
      current.value === undefined ? `${indent}${current.name}` : `${indent}${current.name}: ${current.value}`,
    );
    for (const child of current.children) render(child, `${indent}  `);
  };
  render(node, "");
  return lines.join("\n");
}

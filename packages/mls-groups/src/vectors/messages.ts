import { decodeWhole, encode, equalBytes, fromHex, type Reader, type Writer } from "@murmuration/base";
import { proposalTypes } from "../structs/code-points.ts";
import { readCommit, writeCommit } from "../structs/commit.ts";
import { decodeMlsMessage, encodeMlsMessage } from "../structs/mls-message.ts";
import { readProposalBody, writeProposalBody } from "../structs/proposal.ts";
import { readRatchetTree, writeRatchetTree } from "../structs/ratchet-tree.ts";
import { readGroupSecrets, writeGroupSecrets } from "../structs/welcome.ts";
import { copyFields, copyMessage } from "./copy-fields.ts";

const wireFormatOf = {
  mls_welcome: "mls_welcome",
  mls_group_info: "mls_group_info",
  mls_key_package: "mls_key_package",
  public_message_application: "mls_public_message",
  public_message_proposal: "mls_public_message",
  public_message_commit: "mls_public_message",
  private_message: "mls_private_message",
} as const;

const proposalTypeOf = {
  add_proposal: proposalTypes.add,
  update_proposal: proposalTypes.update,
  remove_proposal: proposalTypes.remove,
  pre_shared_key_proposal: proposalTypes.psk,
  re_init_proposal: proposalTypes.reinit,
  external_init_proposal: proposalTypes.external_init,
  group_context_extensions_proposal: proposalTypes.group_context_extensions,
} as const;

const structOf = {
  ratchet_tree: struct(readRatchetTree, writeRatchetTree),
  group_secrets: struct(readGroupSecrets, writeGroupSecrets),
  commit: struct(readCommit, writeCommit),
} as const;

/** A case of messages.json: every field is one struct in hexadecimal. */
export type MessagesVector = Readonly<
  Record<keyof typeof wireFormatOf | keyof typeof proposalTypeOf | keyof typeof structOf, string>
>;

/** Decodes the bytes and encodes the result, with and without the received bytes at hand. */
type ReEncode = (bytes: Uint8Array) => readonly Uint8Array[];

function struct<T>(read: (reader: Reader) => T, write: (writer: Writer, value: T) => void): ReEncode {
  return (bytes) => {
    const value = decodeWhole(bytes, (reader) => read(reader));
    return [encode(value, write), encode(copyFields(value), write)];
  };
}

function message(wireFormat: string): ReEncode {
  return (bytes) => {
    const decoded = decodeMlsMessage(bytes);
    if (decoded.wireFormat !== wireFormat) throw new Error(`wire format is ${decoded.wireFormat}`);
    return [encodeMlsMessage(decoded), encodeMlsMessage(copyMessage(decoded))];
  };
}

/**
 * Verifies one case of messages.json: each field decodes as its struct, and both the decoded object and a copy
 * of its fields encode to the same bytes. Throws an Error that names the field.
 */
export function verifyMessages(vector: MessagesVector): void {
  const verify = (field: keyof MessagesVector, reEncode: ReEncode): void => {
    const bytes = fromHex(vector[field]);
    for (const encoded of reEncode(bytes)) {
      if (!equalBytes(encoded, bytes)) throw new Error(`${field}: encoded to other bytes`);
    }
  };
  for (const [field, wireFormat] of Object.entries(wireFormatOf)) {
    verify(field as keyof typeof wireFormatOf, message(wireFormat));
  }
  for (const [field, type] of Object.entries(proposalTypeOf)) {
    verify(
      field as keyof typeof proposalTypeOf,
      struct((reader) => readProposalBody(reader, type), writeProposalBody),
    );
  }
  for (const [field, reEncode] of Object.entries(structOf)) verify(field as keyof typeof structOf, reEncode);
}

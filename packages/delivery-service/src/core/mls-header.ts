import { Reader, RejectionError } from "@murmuration/base";

/** Who signed a PublicMessage, as far as the service has to tell senders apart (RFC 9420 section 6). */
export type HandshakeSender =
  | { readonly kind: "member"; readonly leafIndex: number }
  /** An external commit. */
  | { readonly kind: "new-member" }
  | { readonly kind: "stranger" };

/** What an MLSMessage says of itself in the clear. Nothing is verified. */
export interface MlsHeader {
  readonly groupId: Uint8Array;
  readonly epoch: number;
  readonly content: "application" | "proposal" | "commit";
  /** Undefined in a PrivateMessage, whose sender is encrypted. */
  readonly sender: HandshakeSender | undefined;
}

const MLS10 = 1;
const PUBLIC_MESSAGE = 1;
const PRIVATE_MESSAGE = 2;
const CONTENT = [undefined, "application", "proposal", "commit"] as const;
const MEMBER = 1;
const EXTERNAL = 2;
const NEW_MEMBER_PROPOSAL = 3;
const NEW_MEMBER_COMMIT = 4;

/**
 * Reads the header of an MLSMessage with a PublicMessage or a PrivateMessage. O(1). Throws RejectionError
 * `wire/invalid-field` for anything else, and for an epoch that no group here reaches (2^53).
 */
export function readMlsHeader(message: Uint8Array): MlsHeader {
  try {
    return readHeader(new Reader(message));
  } catch (error) {
    if (error instanceof RejectionError) throw new RejectionError("wire/invalid-field", "MLSMessage");
    throw error;
  }
}

function readHeader(reader: Reader): MlsHeader {
  if (reader.uint16() !== MLS10) throw new RejectionError("wire/invalid-field");
  const format = reader.uint16();
  if (format !== PUBLIC_MESSAGE && format !== PRIVATE_MESSAGE) throw new RejectionError("wire/invalid-field");
  const groupId = reader.bytes();
  const epoch = Number(reader.uint64());
  if (!Number.isSafeInteger(epoch)) throw new RejectionError("wire/invalid-field");
  const sender = format === PUBLIC_MESSAGE ? readSender(reader) : undefined;
  if (format === PUBLIC_MESSAGE) reader.skipBytes();
  const content = CONTENT[reader.uint8()];
  if (content === undefined) throw new RejectionError("wire/invalid-field");
  return { groupId, epoch, content, sender };
}

function readSender(reader: Reader): HandshakeSender {
  switch (reader.uint8()) {
    case MEMBER:
      return { kind: "member", leafIndex: reader.uint32() };
    case EXTERNAL:
      reader.uint32();
      return { kind: "stranger" };
    case NEW_MEMBER_PROPOSAL:
      return { kind: "stranger" };
    case NEW_MEMBER_COMMIT:
      return { kind: "new-member" };
    default:
      throw new RejectionError("wire/invalid-field");
  }
}

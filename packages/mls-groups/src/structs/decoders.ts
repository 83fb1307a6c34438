import { decodeWhole, type Reader } from "@murmuration/base";
import { decodeAuthenticatedContent } from "./authenticated-content.ts";
import { readCapabilities } from "./capabilities.ts";
import { readCommit } from "./commit.ts";
import { readCredential } from "./credential.ts";
import { readDistinctExtensions, readExternalSenders, readRequiredCapabilities } from "./extension.ts";
import { readFramedContent } from "./framed-content.ts";
import { readGroupContext } from "./group-context.ts";
import { readGroupInfo } from "./group-info.ts";
import { readHpkeCiphertext } from "./hpke-ciphertext.ts";
import { readKeyPackage } from "./key-package.ts";
import { readLeafNode } from "./leaf-node.ts";
import { decodeMlsMessage } from "./mls-message.ts";
import { readParentNode } from "./parent-node.ts";
import { readPrivateMessage, readSenderData } from "./private-message.ts";
import { readProposal } from "./proposal.ts";
import { readPreSharedKeyId } from "./psk-id.ts";
import { readRatchetTree } from "./ratchet-tree.ts";
import { readUpdatePath } from "./update-path.ts";
import { readGroupSecrets, readWelcome } from "./welcome.ts";

const whole =
  <T>(read: (reader: Reader) => T) =>
  (bytes: Uint8Array): T =>
    decodeWhole(bytes, (reader) => read(reader));

/**
 * Every decoder of this folder under the RFC's name of its struct: the target list of the adversary tests and
 * of fuzzing. Each takes any bytes and returns a value or throws a RejectionError.
 */
export const decoders = {
  MLSMessage: (bytes) => decodeMlsMessage(bytes),
  AuthenticatedContent: (bytes) => decodeAuthenticatedContent(bytes),
  FramedContent: whole(readFramedContent),
  PrivateMessage: whole(readPrivateMessage),
  SenderData: whole(readSenderData),
  Welcome: whole(readWelcome),
  GroupSecrets: whole(readGroupSecrets),
  GroupInfo: whole(readGroupInfo),
  GroupContext: whole(readGroupContext),
  KeyPackage: whole(readKeyPackage),
  LeafNode: whole(readLeafNode),
  ParentNode: whole(readParentNode),
  // Elements are decoded when asked for; a hostile one must be refused then, so all of them are asked for.
  ratchet_tree: (bytes) => Array.from(decodeWhole(bytes, (reader) => readRatchetTree(reader))),
  Commit: whole(readCommit),
  Proposal: whole(readProposal),
  UpdatePath: whole(readUpdatePath),
  HPKECiphertext: whole(readHpkeCiphertext),
  PreSharedKeyID: whole(readPreSharedKeyId),
  Credential: whole(readCredential),
  Capabilities: whole(readCapabilities),
  Extensions: whole(readDistinctExtensions),
  RequiredCapabilities: whole(readRequiredCapabilities),
  ExternalSenders: whole(readExternalSenders),
} satisfies Record<string, (bytes: Uint8Array) => unknown>;

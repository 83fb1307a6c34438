import {
  type Bytes,
  concatBytes,
  decodeWhole,
  encode,
  equalBytes,
  fromHex,
  UsageError,
} from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import {
  confirmCommit,
  signCommit,
  signContent,
  type VerifiedContent,
  verifyContent,
} from "../framing/content.ts";
import { padToMultipleOf } from "../framing/padding.ts";
import {
  openSenderData,
  protectPrivateMessage,
  unprotectPrivateMessage,
} from "../framing/private-message.ts";
import { protectPublicMessage, unprotectPublicMessage } from "../framing/public-message.ts";
import { SecretTree } from "../schedule/secret-tree.ts";
import type { FramingWireFormat } from "../structs/authenticated-content.ts";
import {
  type ContentType,
  type FramedBody,
  type FramedContent,
  readFramedBody,
  writeFramedBody,
} from "../structs/framed-content.ts";
import { writeGroupContext } from "../structs/group-context.ts";
import { decodeMlsMessage } from "../structs/mls-message.ts";

/** A case of message-protection.json; binary values are hexadecimal. The sender is leaf 1 of two. */
export interface MessageProtectionVector {
  readonly cipher_suite: number;
  readonly group_id: string;
  readonly epoch: number;
  readonly tree_hash: string;
  readonly confirmed_transcript_hash: string;
  readonly signature_priv: string;
  readonly signature_pub: string;
  readonly encryption_secret: string;
  readonly sender_data_secret: string;
  readonly membership_key: string;
  readonly proposal: string;
  readonly proposal_pub: string;
  readonly proposal_priv: string;
  readonly commit: string;
  readonly commit_pub: string;
  readonly commit_priv: string;
  readonly application: string;
  readonly application_priv: string;
}

const SENDER = 1;
const MEMBERS = 2;

/**
 * Verifies one case of message-protection.json: the given messages unprotect to the given content, and what
 * this engine protects unprotects again. Throws an Error that says which step failed.
 */
export function verifyMessageProtection(
  vector: MessageProtectionVector,
  makeProvider: (cipherSuite: number) => CryptoProvider,
): void {
  const peer = new Peer(vector, makeProvider(vector.cipher_suite));
  for (const contentType of ["proposal", "commit"] as const) {
    const expected = fromHex(vector[contentType]);
    expectBody(`${contentType}_pub`, peer.openPublic(fromHex(vector[`${contentType}_pub`])), expected);
    const own = peer.sign("mls_public_message", contentType, expected);
    expectBody(`${contentType}, protected as PublicMessage`, peer.openPublic(peer.sealPublic(own)), expected);
  }
  for (const contentType of ["proposal", "commit", "application"] as const) {
    const expected = fromHex(vector[contentType]);
    expectBody(`${contentType}_priv`, peer.openPrivate(fromHex(vector[`${contentType}_priv`])), expected);
    const own = peer.sign("mls_private_message", contentType, expected);
    expectBody(
      `${contentType}, protected as PrivateMessage`,
      peer.openPrivate(peer.sealPrivate(own)),
      expected,
    );
  }
  if (!refuses(() => peer.sign("mls_public_message", "application", fromHex(vector.application)))) {
    throw new Error("application: was signed as PublicMessage");
  }
}

function refuses(run: () => unknown): boolean {
  try {
    run();
    return false;
  } catch (error) {
    if (error instanceof UsageError) return true;
    throw error;
  }
}

/** The raw proposal, commit or application data of a content: application data stands without a header. */
function expectBody(step: string, content: VerifiedContent, expected: Uint8Array): void {
  const body: FramedBody = content.content;
  const raw = body.contentType === "application" ? body.applicationData : encode(body, writeFramedBody);
  if (!equalBytes(raw, expected)) throw new Error(`${step}: other content`);
}

function bodyOf(contentType: ContentType, raw: Uint8Array): FramedBody {
  if (contentType === "application") return { contentType, applicationData: raw };
  return decodeWhole(raw, (reader) => readFramedBody(reader, contentType));
}

/** The official file leaves out leading zeros of an ECDSA private key, which the encoding has. */
function scalarOrSeed({ suite }: CryptoProvider, key: Bytes): Bytes {
  const { name, privateKeyLength } = suite.kem;
  return suite.signature === name ? concatBytes(new Uint8Array(privateKeyLength - key.length), key) : key;
}

/** The group of one case, as sender and as receiver. Each message is taken with a fresh secret tree. */
class Peer {
  private readonly vector: MessageProtectionVector;
  private readonly crypto: CryptoProvider;
  private readonly groupContext: Uint8Array;

  constructor(vector: MessageProtectionVector, crypto: CryptoProvider) {
    this.vector = vector;
    this.crypto = crypto;
    this.groupContext = encode(
      {
        cipherSuite: vector.cipher_suite,
        groupId: fromHex(vector.group_id),
        epoch: BigInt(vector.epoch),
        treeHash: fromHex(vector.tree_hash),
        confirmedTranscriptHash: fromHex(vector.confirmed_transcript_hash),
        extensions: [],
      },
      writeGroupContext,
    );
  }

  private secretTree(): SecretTree {
    return SecretTree.create(this.crypto, fromHex(this.vector.encryption_secret), MEMBERS);
  }

  private get publicProtection() {
    return { membershipKey: fromHex(this.vector.membership_key), groupContext: this.groupContext };
  }

  sign(wireFormat: FramingWireFormat, contentType: ContentType, raw: Uint8Array): VerifiedContent {
    const content: FramedContent = {
      groupId: fromHex(this.vector.group_id),
      epoch: BigInt(this.vector.epoch),
      sender: { kind: "member", leafIndex: SENDER },
      authenticatedData: new Uint8Array(0),
      ...bodyOf(contentType, raw),
    };
    const signaturePrivateKey = scalarOrSeed(this.crypto, fromHex(this.vector.signature_priv));
    const request = { wireFormat, content, signaturePrivateKey, groupContext: this.groupContext };
    if (contentType !== "commit") return signContent(this.crypto, request);
    const tag = this.crypto.mac(fromHex(this.vector.membership_key), raw);
    return confirmCommit(signCommit(this.crypto, request), tag);
  }

  sealPublic(content: VerifiedContent): Uint8Array {
    return protectPublicMessage(this.crypto, content, this.publicProtection);
  }

  openPublic(bytes: Uint8Array): VerifiedContent {
    const message = decodeMlsMessage(bytes);
    if (message.wireFormat !== "mls_public_message") throw new Error("not a PublicMessage");
    const unverified = unprotectPublicMessage(this.crypto, message.publicMessage, this.publicProtection);
    return verifyContent(this.crypto, unverified, fromHex(this.vector.signature_pub), this.groupContext);
  }

  sealPrivate(content: VerifiedContent): Uint8Array {
    const ratchet = content.content.contentType === "application" ? "application" : "handshake";
    return protectPrivateMessage(this.crypto, content, {
      senderDataSecret: fromHex(this.vector.sender_data_secret),
      messageKey: this.secretTree().stageSend(SENDER, ratchet),
      padding: padToMultipleOf(64),
    });
  }

  openPrivate(bytes: Uint8Array): VerifiedContent {
    const message = decodeMlsMessage(bytes);
    if (message.wireFormat !== "mls_private_message") throw new Error("not a PrivateMessage");
    const { privateMessage } = message;
    const secret = fromHex(this.vector.sender_data_secret);
    const senderData = openSenderData(this.crypto, privateMessage, secret);
    if (senderData.leafIndex !== SENDER) throw new Error("other sender");
    const ratchet = privateMessage.contentType === "application" ? "application" : "handshake";
    const staged = this.secretTree().stageReceive(SENDER, ratchet, senderData.generation);
    const unverified = unprotectPrivateMessage(this.crypto, privateMessage, senderData, staged);
    return verifyContent(this.crypto, unverified, fromHex(this.vector.signature_pub), this.groupContext);
  }
}

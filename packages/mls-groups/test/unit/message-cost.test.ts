import { type Bytes, utf8 } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { counting, type OperationCounts } from "../../src/crypto/counting.ts";
import { nativeCrypto } from "../../src/crypto/native.ts";
import type { CryptoProvider } from "../../src/crypto/provider.ts";
import { signContent, verifyContent } from "../../src/framing/content.ts";
import { noPadding } from "../../src/framing/padding.ts";
import {
  openSenderData,
  protectPrivateMessage,
  unprotectPrivateMessage,
} from "../../src/framing/private-message.ts";
import { SecretTree } from "../../src/schedule/secret-tree.ts";
import { decodeMlsMessage } from "../../src/structs/mls-message.ts";
import { expectCode } from "../expect-error.ts";
import { seededRandom } from "../seeded.ts";

const wireFormat = "mls_private_message";
const groupContext = utf8("an encoded group context");
const random = seededRandom("message cost");
const inner = nativeCrypto(1, { random });
const signer = inner.generateSignatureKeyPair();
const senderDataSecret = random(32);
const leafIndex = 777;

/** One application message, from plaintext to bytes, as a member sends it. */
function send(crypto: CryptoProvider, tree: SecretTree): Bytes {
  const content = signContent(crypto, {
    wireFormat,
    content: {
      groupId: utf8("group"),
      epoch: 3n,
      sender: { kind: "member", leafIndex },
      authenticatedData: new Uint8Array(0),
      contentType: "application",
      applicationData: utf8("hello"),
    },
    signaturePrivateKey: signer.privateKey,
    groupContext,
  });
  const messageKey = tree.stageSend(leafIndex, "application");
  const padding = noPadding;
  const sent = protectPrivateMessage(crypto, content, { senderDataSecret, messageKey, padding });
  messageKey.merge();
  return sent;
}

/** The same message from bytes to verified content, consumed only when everything held. */
function receive(crypto: CryptoProvider, tree: SecretTree, bytes: Uint8Array): void {
  const message = decodeMlsMessage(bytes);
  if (message.wireFormat !== wireFormat) throw new TypeError("not a PrivateMessage");
  const { privateMessage } = message;
  const senderData = openSenderData(crypto, privateMessage, senderDataSecret);
  const staged = tree.stageReceive(senderData.leafIndex, "application", senderData.generation);
  try {
    const unverified = unprotectPrivateMessage(crypto, privateMessage, senderData, staged);
    verifyContent(crypto, unverified, signer.publicKey, groupContext);
    staged.merge();
  } finally {
    staged.discard();
  }
}

function nonZero(counts: Readonly<OperationCounts>): Partial<OperationCounts> {
  return Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0));
}

describe("operations of one application message (RFC 9420 section 15)", () => {
  test.each([1000, 16_384])("in the steady state they are the same few at %i members", (members) => {
    const { provider, counts, reset } = counting(inner);
    const secret = random(32);
    const [own, theirs] = [secret, secret.slice() as Bytes].map((root) =>
      SecretTree.create(provider, root, members),
    );
    receive(provider, theirs!, send(provider, own!));

    reset();
    const bytes = send(provider, own!);
    // Three steps of the ratchet, two for the sender data; content and sender data sealed; the reuse guard.
    expect(nonZero(counts)).toEqual({ expand: 5, seal: 2, sign: 1, random: 1 });

    reset();
    receive(provider, theirs!, bytes);
    expect(nonZero(counts)).toEqual({ expand: 5, open: 2, verify: 1 });

    reset();
    expectCode(() => receive(provider, theirs!, bytes), "mls/generation-spent");
    expect(nonZero(counts)).toEqual({ expand: 2, open: 1 });
  });

  test("a forged ciphertext uses up nothing: the honest message of that generation still opens", () => {
    const secret = random(32);
    const [own, theirs] = [secret, secret.slice() as Bytes].map((root) =>
      SecretTree.create(inner, root, 64 * 16),
    );
    const bytes = send(inner, own!);
    const forged = bytes.slice();
    forged[forged.length - 1]! ^= 1;
    expectCode(() => receive(inner, theirs!, forged), "mls/decryption-failed");
    receive(inner, theirs!, bytes);
    expectCode(() => receive(inner, theirs!, bytes), "mls/generation-spent");
  });
});

import { createHash } from "node:crypto";
import type { Bytes } from "@murmuration/base";
import { utf8 } from "@murmuration/base";
import { nativeCrypto } from "../../src/crypto/native.ts";
import type { CryptoProvider, RandomSource, SignatureKeyPair } from "../../src/crypto/provider.ts";
import type { Commit } from "../../src/structs/commit.ts";
import type { FramedBody, FramedContent, Sender } from "../../src/structs/framed-content.ts";
import { type GroupContext, groupContextBytes } from "../../src/structs/group-context.ts";
import { hpkeCiphertextVector } from "../../src/structs/hpke-ciphertext.ts";
import type { KeyPackage } from "../../src/structs/key-package.ts";
import type { LeafNode, LeafNodeSource } from "../../src/structs/leaf-node.ts";
import type { UpdatePath } from "../../src/structs/update-path.ts";

/*
 * Small structs for unit tests. Signatures of leaves and KeyPackages are placeholders: the codec and the
 * framing do not look at them.
 */

/** The same bytes in every run. */
function fixedRandom(seed: string): RandomSource {
  let counter = 0;
  return (length) => {
    const out = new Uint8Array(length);
    for (let at = 0; at < length; at += 32) {
      const block = createHash("sha256").update(`${seed}/${counter++}`).digest();
      out.set(block.subarray(0, Math.min(32, length - at)), at);
    }
    return out;
  };
}

export const crypto: CryptoProvider = nativeCrypto(1, { random: fixedRandom("samples") });

export const bytes = (length: number, value: number): Bytes => new Uint8Array(length).fill(value);

export const alice: SignatureKeyPair = crypto.generateSignatureKeyPair();
export const bob: SignatureKeyPair = crypto.generateSignatureKeyPair();

export function leafNode(source: LeafNodeSource, signatureKey: Uint8Array = alice.publicKey): LeafNode {
  return {
    encryptionKey: bytes(32, 1),
    signatureKey,
    credential: { kind: "basic", identity: utf8("alice") },
    capabilities: {
      versions: [1],
      cipherSuites: [1, 0x0a0a],
      extensions: [],
      proposals: [],
      credentials: [1],
    },
    source,
    extensions: [{ type: 0x1a1a, data: bytes(3, 9) }],
    signature: bytes(64, 2),
  };
}

export function keyPackage(signatureKey?: Uint8Array): KeyPackage {
  const lifetime = { notBefore: 0n, notAfter: 2n ** 64n - 1n };
  return {
    cipherSuite: 1,
    initKey: bytes(32, 3),
    leafNode: leafNode({ kind: "key_package", lifetime }, signatureKey),
    extensions: [],
    signature: bytes(64, 4),
  };
}

export function updatePath(signatureKey?: Uint8Array): UpdatePath {
  const ciphertext = { kemOutput: bytes(32, 5), ciphertext: bytes(48, 6) };
  return {
    leafNode: leafNode({ kind: "commit", parentHash: bytes(32, 7) }, signatureKey),
    nodes: [{ encryptionKey: bytes(32, 8), encryptedPathSecret: hpkeCiphertextVector([ciphertext]) }],
  };
}

export const groupContext: GroupContext = {
  cipherSuite: 1,
  groupId: utf8("group"),
  epoch: 7n,
  treeHash: bytes(32, 10),
  confirmedTranscriptHash: bytes(32, 11),
  extensions: [],
};

export const context = groupContextBytes(groupContext);

export const member: Sender = { kind: "member", leafIndex: 1 };
export const emptyCommit: Commit = { proposals: [], path: undefined };

export function content(sender: Sender, body: FramedBody): FramedContent {
  return {
    groupId: groupContext.groupId,
    epoch: groupContext.epoch,
    sender,
    authenticatedData: utf8("aad"),
    ...body,
  };
}

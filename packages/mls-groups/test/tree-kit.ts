import { type Bytes, encode, utf8 } from "@murmuration/base";
import { signWithLabel } from "../src/crypto/labeled.ts";
import type { CryptoProvider, SignatureKeyPair } from "../src/crypto/provider.ts";
import {
  type LeafNode,
  type LeafNodeContent,
  type LeafNodePosition,
  leafNodeTbs,
  writeLeafNode,
} from "../src/structs/leaf-node.ts";

/** A number source that a seed decides (mulberry32), for choosing operations. */
export function seededNumbers(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

export const plainCapabilities = {
  versions: [1],
  cipherSuites: [1, 2, 3, 4, 5, 6, 7],
  extensions: [],
  proposals: [],
  credentials: [1],
} as const;

/** The content of a LeafNode of source key_package for tests; `fields` replaces parts of it. */
export function leafContent(
  encryptionKey: Uint8Array,
  signatureKey: Uint8Array,
  fields: Partial<LeafNodeContent> = {},
): LeafNodeContent {
  return {
    encryptionKey,
    signatureKey,
    credential: { kind: "basic", identity: utf8("somebody") },
    capabilities: plainCapabilities,
    source: { kind: "key_package", lifetime: { notBefore: 0n, notAfter: 0xffff_ffffn } },
    extensions: [],
    ...fields,
  };
}

export function signLeaf(
  crypto: CryptoProvider,
  signatureKey: SignatureKeyPair,
  content: LeafNodeContent,
  position?: LeafNodePosition,
): LeafNode {
  const tbs = leafNodeTbs(content, position);
  return { ...content, signature: signWithLabel(crypto, signatureKey.privateKey, "LeafNodeTBS", tbs) };
}

export const encodeLeaf = (leafNode: LeafNode): Bytes => encode(leafNode, writeLeafNode, 512);

import { fromHex } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import { type RatchetType, SecretTree } from "../schedule/secret-tree.ts";
import { deriveSenderDataKey } from "../schedule/sender-data.ts";
import { expectBytes, type MakeProvider, providerOf } from "./expect.ts";

interface SecretTreeVectorKeys {
  readonly generation: number;
  readonly handshake_key: string;
  readonly handshake_nonce: string;
  readonly application_key: string;
  readonly application_nonce: string;
}

/** A case of secret-tree.json. */
export interface SecretTreeVector {
  readonly cipher_suite: number;
  readonly sender_data: {
    readonly sender_data_secret: string;
    readonly ciphertext: string;
    readonly key: string;
    readonly nonce: string;
  };
  readonly encryption_secret: string;
  readonly leaves: readonly (readonly SecretTreeVectorKeys[])[];
}

/** Verifies one case of secret-tree (RFC 9420 sections 6.3.2 and 9). Throws VectorMismatch. */
export function runSecretTree(vector: SecretTreeVector, makeProvider: MakeProvider): void {
  const crypto = providerOf(vector, makeProvider);
  runSenderData(crypto, vector.sender_data);
  const tree = SecretTree.create(crypto, fromHex(vector.encryption_secret), vector.leaves.length);
  for (const [leaf, generations] of vector.leaves.entries()) {
    for (const keys of generations) {
      expectKey(tree, leaf, "handshake", keys.generation, keys.handshake_key, keys.handshake_nonce);
      expectKey(tree, leaf, "application", keys.generation, keys.application_key, keys.application_nonce);
    }
  }
}

function runSenderData(crypto: CryptoProvider, vector: SecretTreeVector["sender_data"]): void {
  const secret = fromHex(vector.sender_data_secret);
  const { key, nonce } = deriveSenderDataKey(crypto, secret, fromHex(vector.ciphertext));
  expectBytes("sender_data_key", key, vector.key);
  expectBytes("sender_data_nonce", nonce, vector.nonce);
}

function expectKey(
  tree: SecretTree,
  leaf: number,
  type: RatchetType,
  generation: number,
  key: string,
  nonce: string,
): void {
  const staged = tree.stageReceive(leaf, type, generation);
  expectBytes(`${type} key of leaf ${leaf}, generation ${generation}`, staged.key, key);
  expectBytes(`${type} nonce of leaf ${leaf}, generation ${generation}`, staged.nonce, nonce);
  staged.merge();
}

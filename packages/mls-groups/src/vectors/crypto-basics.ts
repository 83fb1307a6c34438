import { fromHex } from "@murmuration/base";
import {
  decryptWithLabel,
  deriveSecret,
  deriveTreeSecret,
  encryptWithLabel,
  expandWithLabel,
  refHash,
  signWithLabel,
  verifyWithLabel,
} from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import { expectBytes, expectTrue, type MakeProvider, providerOf } from "./expect.ts";

/** A case of crypto-basics.json. Binary values are hexadecimal here and in the other formats. */
export interface CryptoBasicsVector {
  readonly cipher_suite: number;
  readonly ref_hash: { readonly label: string; readonly value: string; readonly out: string };
  readonly expand_with_label: {
    readonly secret: string;
    readonly label: string;
    readonly context: string;
    readonly length: number;
    readonly out: string;
  };
  readonly derive_secret: { readonly secret: string; readonly label: string; readonly out: string };
  readonly derive_tree_secret: {
    readonly secret: string;
    readonly label: string;
    readonly generation: number;
    readonly length: number;
    readonly out: string;
  };
  readonly sign_with_label: {
    readonly priv: string;
    readonly pub: string;
    readonly content: string;
    readonly label: string;
    readonly signature: string;
  };
  readonly encrypt_with_label: {
    readonly priv: string;
    readonly pub: string;
    readonly label: string;
    readonly context: string;
    readonly plaintext: string;
    readonly kem_output: string;
    readonly ciphertext: string;
  };
}

/** Verifies one case of crypto-basics (RFC 9420 section 5). Throws VectorMismatch. */
export function runCryptoBasics(vector: CryptoBasicsVector, makeProvider: MakeProvider): void {
  const crypto = providerOf(vector, makeProvider);
  runDerivations(crypto, vector);
  runSignature(crypto, vector.sign_with_label);
  runEncryption(crypto, vector.encrypt_with_label);
}

function runDerivations(crypto: CryptoProvider, vector: CryptoBasicsVector): void {
  const {
    ref_hash: ref,
    expand_with_label: expand,
    derive_secret: derive,
    derive_tree_secret: tree,
  } = vector;
  expectBytes("ref_hash", refHash(crypto, ref.label, fromHex(ref.value)), ref.out);
  expectBytes(
    "expand_with_label",
    expandWithLabel(crypto, fromHex(expand.secret), expand.label, fromHex(expand.context), expand.length),
    expand.out,
  );
  expectBytes("derive_secret", deriveSecret(crypto, fromHex(derive.secret), derive.label), derive.out);
  expectBytes(
    "derive_tree_secret",
    deriveTreeSecret(crypto, fromHex(tree.secret), tree.label, tree.generation, tree.length),
    tree.out,
  );
}

function runSignature(crypto: CryptoProvider, vector: CryptoBasicsVector["sign_with_label"]): void {
  const { label } = vector;
  const publicKey = fromHex(vector.pub);
  const content = fromHex(vector.content);
  const verify = (signature: Uint8Array) => verifyWithLabel(crypto, publicKey, label, content, signature);
  expectTrue("sign_with_label: the given signature verifies", verify(fromHex(vector.signature)));
  const signature = signWithLabel(crypto, fromHex(vector.priv), label, content);
  expectTrue("sign_with_label: a fresh signature verifies", verify(signature));
  const other = verifyWithLabel(crypto, publicKey, `${label}x`, content, signature);
  expectTrue("sign_with_label: the label is signed", !other);
}

function runEncryption(crypto: CryptoProvider, vector: CryptoBasicsVector["encrypt_with_label"]): void {
  const { label } = vector;
  const privateKey = fromHex(vector.priv);
  const publicKey = fromHex(vector.pub);
  const context = fromHex(vector.context);
  const open = (own: Uint8Array | undefined, kemOutput: Uint8Array, ciphertext: Uint8Array) =>
    decryptWithLabel(crypto, privateKey, own, label, context, kemOutput, ciphertext);
  for (const own of [publicKey, undefined]) {
    const opened = open(own, fromHex(vector.kem_output), fromHex(vector.ciphertext));
    expectBytes("encrypt_with_label: the given ciphertext", opened, vector.plaintext);
  }
  const fresh = encryptWithLabel(crypto, publicKey, label, context, fromHex(vector.plaintext));
  const opened = open(publicKey, fresh.kemOutput, fresh.ciphertext);
  expectBytes("encrypt_with_label: a fresh ciphertext", opened, vector.plaintext);
}

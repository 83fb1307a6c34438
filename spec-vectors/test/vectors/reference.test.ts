import { describe, expect, test } from "vitest";
import { hex, treeMath } from "../../src/generate/derivations.ts";
import { decodeTree, encodeTree, ranges, resolution, treeHash } from "../../src/generate/naive-tree.ts";
import {
  deriveSecret,
  deriveTreeSecret,
  encodeGroupContext,
  expandWithLabel,
  exporter,
  keySchedule,
  labeledContent,
  leafSecrets,
  pskSecret,
  ratchetKey,
  refHash,
} from "../../src/generate/reference.ts";
import { referenceSuite, seededRandom } from "../../src/generate/suites.ts";
import { vectorCases } from "../../src/index.ts";

const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));
const suiteOf = (id: number) => referenceSuite(id, seededRandom("test"));

describe("the reference that makes the known answers agrees with the official files", () => {
  test.each(vectorCases("crypto-basics"))("labels, $title", async ({ vector }) => {
    const suite = suiteOf(vector.cipher_suite);
    const { ref_hash, expand_with_label, derive_secret, derive_tree_secret } = vector;
    expect(hex(refHash(suite, ref_hash.label, bytes(ref_hash.value)))).toBe(ref_hash.out);
    const { secret, label, context, length, out } = expand_with_label;
    expect(hex(expandWithLabel(suite, bytes(secret), label, bytes(context), length))).toBe(out);
    expect(hex(deriveSecret(suite, bytes(derive_secret.secret), derive_secret.label))).toBe(
      derive_secret.out,
    );
    const tree = derive_tree_secret;
    const derived = deriveTreeSecret(suite, bytes(tree.secret), tree.label, tree.generation, tree.length);
    expect(hex(derived)).toBe(tree.out);
    const signed = vector.sign_with_label;
    const content = labeledContent(signed.label, bytes(signed.content));
    expect(suite.signature.verify(bytes(signed.pub), content, bytes(signed.signature))).toBe(true);
    const sealed = vector.encrypt_with_label;
    const info = labeledContent(sealed.label, bytes(sealed.context));
    // Official private keys of P-521 may come without their leading zeros.
    const priv = vector.cipher_suite === 5 ? bytes(sealed.priv.padStart(132, "0")) : bytes(sealed.priv);
    const opened = suite.hpkeOpen(priv, bytes(sealed.kem_output), info, bytes(""), bytes(sealed.ciphertext));
    expect(hex(await opened)).toBe(sealed.plaintext);
  });

  test.each(vectorCases("key-schedule"))("key schedule, $title", async ({ vector }) => {
    const suite = suiteOf(vector.cipher_suite);
    let initSecret = bytes(vector.initial_init_secret);
    for (const [epoch, expected] of vector.epochs.entries()) {
      const context = encodeGroupContext(suite, {
        groupId: bytes(vector.group_id),
        epoch,
        treeHash: bytes(expected.tree_hash),
        confirmedTranscriptHash: bytes(expected.confirmed_transcript_hash),
      });
      expect(hex(context)).toBe(expected.group_context);
      const commitSecret = bytes(expected.commit_secret);
      const secrets = keySchedule(suite, initSecret, commitSecret, bytes(expected.psk_secret), context);
      for (const [name, value] of Object.entries(secrets)) {
        const key = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
        expect(hex(value), name).toBe((expected as unknown as Record<string, string>)[key]);
      }
      const { label, context: exported, length, secret } = expected.exporter;
      expect(hex(exporter(suite, secrets.exporterSecret, label, bytes(exported), length))).toBe(secret);
      expect(hex((await suite.deriveKeyPair(secrets.externalSecret)).pub)).toBe(expected.external_pub);
      initSecret = secrets.initSecret;
    }
  });

  test.each(vectorCases("psk_secret"))("PSK secret, $title", ({ vector }) => {
    const psks = vector.psks.map((each) => ({
      id: bytes(each.psk_id),
      nonce: bytes(each.psk_nonce),
      psk: bytes(each.psk),
    }));
    expect(hex(pskSecret(suiteOf(vector.cipher_suite), psks))).toBe(vector.psk_secret);
  });

  test.each(vectorCases("secret-tree"))("secret tree, $title", ({ vector }) => {
    const suite = suiteOf(vector.cipher_suite);
    const secrets = leafSecrets(suite, vector.leaves.length, bytes(vector.encryption_secret));
    for (const [leaf, generations] of vector.leaves.entries()) {
      for (const expected of generations) {
        const { key, nonce } = ratchetKey(suite, secrets[leaf]!, "application", expected.generation);
        expect(hex(key)).toBe(expected.application_key);
        expect(hex(nonce)).toBe(expected.application_nonce);
      }
    }
  });

  test.each(vectorCases("tree-validation"))("tree hashes and resolutions, $title", ({ vector }) => {
    const suite = suiteOf(vector.cipher_suite);
    const tree = decodeTree(bytes(vector.tree));
    expect(hex(encodeTree(tree))).toBe(vector.tree);
    const subtrees = ranges(tree);
    expect(subtrees.map((range) => resolution(tree, range))).toEqual(vector.resolutions);
    expect(subtrees.map((range) => hex(treeHash(suite, tree, range)))).toEqual(vector.tree_hashes);
  });

  test.each(vectorCases("tree-operations"))("tree hash before and after, $title", ({ vector }) => {
    const suite = suiteOf(vector.cipher_suite);
    expect(hex(treeHash(suite, decodeTree(bytes(vector.tree_before))))).toBe(vector.tree_hash_before);
    expect(hex(treeHash(suite, decodeTree(bytes(vector.tree_after))))).toBe(vector.tree_hash_after);
  });

  test("tree math, for each size that both have", () => {
    const official = vectorCases("tree-math").map(({ vector }) => vector);
    for (const ours of treeMath()) {
      expect(official.filter((each) => each.n_leaves === ours.n_leaves)).toContainEqual(ours);
    }
  });
});

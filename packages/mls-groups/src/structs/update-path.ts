import type { Reader, Writer } from "@murmuration/base";
import { type HpkeCiphertextVector, hpkeCiphertextCodec } from "./hpke-ciphertext.ts";
import { LazyVector } from "./lazy-vector.ts";
import { type LeafNode, readLeafNode, writeLeafNode } from "./leaf-node.ts";
import { type DecodeLimits, defaultLimits, withinLimit } from "./limits.ts";

/**
 * RFC 9420 section 7.6.
 *
 *   struct {
 *     HPKEPublicKey encryption_key;
 *     HPKECiphertext encrypted_path_secret<V>;
 *   } UpdatePathNode;
 */
export interface UpdatePathNode {
  readonly encryptionKey: Uint8Array;
  /** One for each node of the copath node's resolution without new leaves, in its order. */
  readonly encryptedPathSecret: HpkeCiphertextVector;
}

/**
 *   struct {
 *     LeafNode leaf_node;
 *     UpdatePathNode nodes<V>;
 *   } UpdatePath;
 */
export interface UpdatePath {
  readonly leafNode: LeafNode;
  /** For the sender's filtered direct path, from the leaf upwards. */
  readonly nodes: readonly UpdatePathNode[];
}

/** O(its ciphertexts), one scan over their lengths; a ciphertext becomes an object when it is asked for. */
export function readUpdatePath(reader: Reader, limits: DecodeLimits = defaultLimits): UpdatePath {
  const leafNode = readLeafNode(reader);
  let count = 0;
  const nodes = reader.vector((inner): UpdatePathNode => {
    withinLimit(++count, limits.pathNodes);
    return {
      encryptionKey: inner.bytes(),
      encryptedPathSecret: LazyVector.read(inner, hpkeCiphertextCodec, limits.elements),
    };
  });
  return { leafNode, nodes };
}

export function writeUpdatePath(writer: Writer, path: UpdatePath): void {
  writeLeafNode(writer, path.leafNode);
  writer.vector(path.nodes, (w, node) => {
    w.bytes(node.encryptionKey);
    node.encryptedPathSecret.write(w);
  });
}

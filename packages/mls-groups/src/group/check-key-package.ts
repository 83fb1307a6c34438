import { type Bytes, RejectionError } from "@murmuration/base";
import { makeKeyPackageRef, verifyWithLabel } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";
import { check } from "../rules.ts";
import type { Credential } from "../structs/credential.ts";
import { type Extension, isLastResort } from "../structs/extension.ts";
import { type KeyPackage, keyPackageBytes } from "../structs/key-package.ts";
import { leafNodeBytes, leafNodeTbs } from "../structs/leaf-node.ts";
import { decodeMlsMessage } from "../structs/mls-message.ts";
import { groupRequirements, validateLeafNodeAlone, validateLifetime } from "../tree/leaf-validation.ts";
import { validateKeyPackage } from "./key-package.ts";

/** What is known of a KeyPackage that passed {@link checkKeyPackage}. All of it is a copy. */
export interface CheckedKeyPackage {
  /** KeyPackageRef (5.2). */
  readonly reference: Bytes;
  readonly keyPackage: KeyPackage;
  readonly credential: Credential;
  readonly signatureKey: Uint8Array;
  /** End of its lifetime, seconds since 1970. */
  readonly notAfter: bigint;
  /** It may be used more than once (draft-ietf-mls-extensions). */
  readonly lastResort: boolean;
  readonly cipherSuite: number;
}

/**
 * Validates an MLSMessage with a KeyPackage by itself (RFC 9420 section 10.1): suite, keys, lifetime, both signatures,
 * and what its leaf says of itself; beside that, what a group with these extensions of its GroupContext requires of
 * every leaf (11.1, 13.4). Whether the credential may stand with the key is the policy's to say. For a directory that
 * takes it in and for whoever is about to add it. Two signature verifications. Throws RejectionError.
 */
export function checkKeyPackage(
  crypto: CryptoProvider,
  message: Uint8Array,
  nowSeconds: bigint,
  groupExtensions: readonly Extension[] = [],
): CheckedKeyPackage {
  // A copy: what is returned outlives the caller's receive buffer.
  const decoded = decodeMlsMessage(message.slice());
  if (decoded.wireFormat !== "mls_key_package") throw new RejectionError("mls/key-package/wire-format");
  const { keyPackage } = decoded;
  const { leafNode } = keyPackage;
  validateKeyPackage(crypto, keyPackage);
  if (leafNode.source.kind !== "key_package") throw new RejectionError("mls/key-package/leaf-source");
  validateLeafNodeAlone(crypto, leafNodeBytes(leafNode), groupRequirements(groupExtensions));
  validateLifetime(leafNode, nowSeconds);
  const signed = verifyWithLabel(
    crypto,
    leafNode.signatureKey,
    "LeafNodeTBS",
    leafNodeTbs(leafNode),
    leafNode.signature,
  );
  check("leaf-node/signature", signed);
  return {
    reference: makeKeyPackageRef(crypto, keyPackageBytes(keyPackage)),
    keyPackage,
    credential: leafNode.credential,
    signatureKey: leafNode.signatureKey,
    notAfter: leafNode.source.lifetime.notAfter,
    lastResort: isLastResort(keyPackage.extensions),
    cipherSuite: keyPackage.cipherSuite,
  };
}

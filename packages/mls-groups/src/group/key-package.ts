import type { Bytes } from "@murmuration/base";
import { equalBytes } from "@murmuration/base";
import { makeKeyPackageRef, signWithLabel, verifyWithLabel } from "../crypto/labeled.ts";
import type { CryptoProvider, SignatureKeyPair } from "../crypto/provider.ts";
import { check } from "../rules.ts";
import type { Capabilities } from "../structs/capabilities.ts";
import { MLS10, proposalTypes } from "../structs/code-points.ts";
import { type Credential, credentialType } from "../structs/credential.ts";
import type { Extension } from "../structs/extension.ts";
import { type KeyPackage, keyPackageBytes, keyPackageTbs } from "../structs/key-package.ts";
import { type LeafNode, type LeafNodeContent, type Lifetime, leafNodeTbs } from "../structs/leaf-node.ts";

/** What a member brings into groups: a credential and the signature key it speaks for. */
export interface MemberIdentity {
  readonly credential: Credential;
  readonly signatureKeys: SignatureKeyPair;
}

export interface LeafOptions {
  /** Defaults to {@link capabilitiesFor}. */
  readonly capabilities?: Capabilities;
  readonly extensions?: readonly Extension[];
}

export interface KeyPackageOptions extends LeafOptions {
  /** Extensions of the KeyPackage itself, such as last_resort. */
  readonly keyPackageExtensions?: readonly Extension[];
}

/** A KeyPackage with the private keys that its owner keeps until a Welcome uses it. */
export interface KeyPackageBundle {
  readonly keyPackage: KeyPackage;
  readonly initPrivateKey: Bytes;
  readonly leafPrivateKey: Bytes;
  readonly signaturePrivateKey: Bytes;
}

/**
 * The capabilities a leaf states by default: this version, this suite, SelfRemove, its own credential type, and
 * nothing else, since each of them is paid for in every leaf of every tree. GREASE values may be added by the caller.
 */
export function capabilitiesFor(
  suite: number,
  credential: Credential,
  extensions: readonly Extension[] = [],
): Capabilities {
  return {
    versions: [MLS10],
    cipherSuites: [suite],
    extensions: extensions.map(({ type }) => type).filter((type) => type > 5),
    proposals: [proposalTypes.self_remove],
    credentials: [credentialType(credential)],
  };
}

/** Generates a KeyPackage (section 10) with fresh init and encryption keys, valid within `lifetime`. */
export function generateKeyPackage(
  crypto: CryptoProvider,
  identity: MemberIdentity,
  lifetime: Lifetime,
  options: KeyPackageOptions = {},
): KeyPackageBundle {
  const init = crypto.generateHpkeKeyPair();
  const { leafNode, leafPrivateKey } = generateLeaf(
    crypto,
    identity,
    { kind: "key_package", lifetime },
    options,
  );
  const content = {
    cipherSuite: crypto.suite.id,
    initKey: init.publicKey,
    leafNode,
    extensions: options.keyPackageExtensions ?? [],
  };
  const signature = signWithLabel(
    crypto,
    identity.signatureKeys.privateKey,
    "KeyPackageTBS",
    keyPackageTbs(content),
  );
  return {
    keyPackage: { ...content, signature },
    initPrivateKey: init.privateKey,
    leafPrivateKey,
    signaturePrivateKey: identity.signatureKeys.privateKey.slice(),
  };
}

/** Generates and signs a LeafNode of source key_package or update; a path makes its own (7.5). */
export function generateLeaf(
  crypto: CryptoProvider,
  identity: MemberIdentity,
  source: Extract<LeafNode["source"], { kind: "key_package" | "update" }>,
  options: LeafOptions,
  position?: { readonly groupId: Uint8Array; readonly leafIndex: number },
): { leafNode: LeafNode; leafPrivateKey: Bytes } {
  const encryption = crypto.generateHpkeKeyPair();
  const extensions = options.extensions ?? [];
  const content: LeafNodeContent = {
    encryptionKey: encryption.publicKey,
    signatureKey: identity.signatureKeys.publicKey,
    credential: identity.credential,
    capabilities: options.capabilities ?? capabilitiesFor(crypto.suite.id, identity.credential, extensions),
    source,
    extensions,
  };
  const signature = signWithLabel(
    crypto,
    identity.signatureKeys.privateKey,
    "LeafNodeTBS",
    leafNodeTbs(content, position),
  );
  return { leafNode: { ...content, signature }, leafPrivateKey: encryption.privateKey };
}

/** KeyPackageRef (5.2). */
export function keyPackageRef(crypto: CryptoProvider, keyPackage: KeyPackage): Bytes {
  return makeKeyPackageRef(crypto, keyPackageBytes(keyPackage));
}

/**
 * What section 10.1 asks of a KeyPackage beyond its LeafNode, which is validated against the tree it enters:
 * suite, init key, source, signature. Throws RejectionError `mls/key-package/...`.
 */
export function validateKeyPackage(
  crypto: CryptoProvider,
  keyPackage: KeyPackage,
  signature: "verify" | "verified" = "verify",
): void {
  const { leafNode } = keyPackage;
  check("key-package/cipher-suite", keyPackage.cipherSuite === crypto.suite.id);
  check("key-package/leaf-source", leafNode.source.kind === "key_package");
  check("key-package/init-key-valid", crypto.isValidHpkePublicKey(keyPackage.initKey));
  check("key-package/init-key-differs", !equalBytes(keyPackage.initKey, leafNode.encryptionKey));
  if (signature === "verified") return;
  check(
    "key-package/signature",
    verifyWithLabel(
      crypto,
      leafNode.signatureKey,
      "KeyPackageTBS",
      keyPackageTbs(keyPackage),
      keyPackage.signature,
    ),
  );
}

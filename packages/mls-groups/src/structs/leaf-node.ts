import {
  type Bytes,
  decodeWhole,
  type Reader,
  RejectionError,
  UsageError,
  type Writer,
} from "@murmuration/base";
import { type Capabilities, readCapabilities, skipCapabilities, writeCapabilities } from "./capabilities.ts";
import { type Credential, readCredential, skipCredential, writeCredential } from "./credential.ts";
import {
  bytesOf,
  encodeParts,
  readKeepingBytes,
  receivedBytes,
  withoutLastField,
  writeBytesOr,
} from "./encoded.ts";
import { type Extension, readExtensions, skipExtensions, writeExtensions } from "./extension.ts";

/** RFC 9420 section 7.2. Seconds since 1970-01-01T00:00:00Z, both ends included. */
export interface Lifetime {
  readonly notBefore: bigint;
  readonly notAfter: bigint;
}

/** How a LeafNode came into the tree, with what only that way of coming carries. */
export type LeafNodeSource =
  | { readonly kind: "key_package"; readonly lifetime: Lifetime }
  | { readonly kind: "update" }
  | { readonly kind: "commit"; readonly parentHash: Uint8Array };

/**
 * RFC 9420 section 7.2.
 *
 *   enum { reserved(0), key_package(1), update(2), commit(3), (255) } LeafNodeSource;
 *   struct {
 *     HPKEPublicKey encryption_key;
 *     SignaturePublicKey signature_key;
 *     Credential credential;
 *     Capabilities capabilities;
 *     LeafNodeSource leaf_node_source;
 *     select (leaf_node_source) {
 *       case key_package: Lifetime lifetime;
 *       case update:      struct{};
 *       case commit:      opaque parent_hash<V>;
 *     };
 *     Extension extensions<V>;
 *     opaque signature<V>;      // SignWithLabel(., "LeafNodeTBS", LeafNodeTBS)
 *   } LeafNode;
 */
export interface LeafNode extends LeafNodeContent {
  readonly signature: Uint8Array;
}

/** A LeafNode before it is signed. */
export interface LeafNodeContent {
  readonly encryptionKey: Uint8Array;
  readonly signatureKey: Uint8Array;
  readonly credential: Credential;
  readonly capabilities: Capabilities;
  readonly source: LeafNodeSource;
  readonly extensions: readonly Extension[];
}

/** Where a LeafNode of source update or commit stands; a part of what it signs. */
export interface LeafNodePosition {
  readonly groupId: Uint8Array;
  readonly leafIndex: number;
}

const sourceCodes = { key_package: 1, update: 2, commit: 3 } as const;

function readSource(reader: Reader): LeafNodeSource {
  const code = reader.uint8();
  if (code === sourceCodes.key_package) {
    return { kind: "key_package", lifetime: { notBefore: reader.uint64(), notAfter: reader.uint64() } };
  }
  if (code === sourceCodes.update) return { kind: "update" };
  if (code === sourceCodes.commit) return { kind: "commit", parentHash: reader.bytes() };
  throw new RejectionError("mls/decode-unknown-leaf-node-source");
}

function writeSource(writer: Writer, source: LeafNodeSource): void {
  writer.uint8(sourceCodes[source.kind]);
  if (source.kind === "key_package") {
    writer.uint64(source.lifetime.notBefore).uint64(source.lifetime.notAfter);
  } else if (source.kind === "commit") writer.bytes(source.parentHash);
}

/** Reads a LeafNode and keeps its bytes, for {@link leafNodeTbs} and {@link leafNodeBytes}. */
export function readLeafNode(reader: Reader): LeafNode {
  return readKeepingBytes(reader, (r) => ({
    encryptionKey: r.bytes(),
    signatureKey: r.bytes(),
    credential: readCredential(r),
    capabilities: readCapabilities(r),
    source: readSource(r),
    extensions: readExtensions(r),
    signature: r.bytes(),
  }));
}

/** Decodes a whole LeafNode; trailing bytes are refused. */
export function decodeLeafNode(bytes: Uint8Array): LeafNode {
  return decodeWhole(bytes, readLeafNode);
}

/** Moves behind a LeafNode; refuses what {@link readLeafNode} refuses and makes no LeafNode. */
export function skipLeafNode(reader: Reader): void {
  reader.skipBytes();
  reader.skipBytes();
  skipCredential(reader);
  skipCapabilities(reader);
  const source = reader.uint8();
  if (source === sourceCodes.key_package) reader.fixed(16);
  else if (source === sourceCodes.commit) reader.skipBytes();
  else if (source !== sourceCodes.update) throw new RejectionError("mls/decode-unknown-leaf-node-source");
  skipExtensions(reader);
  reader.skipBytes();
}

function writeContent(writer: Writer, leafNode: LeafNodeContent): void {
  writer.bytes(leafNode.encryptionKey).bytes(leafNode.signatureKey);
  writeCredential(writer, leafNode.credential);
  writeCapabilities(writer, leafNode.capabilities);
  writeSource(writer, leafNode.source);
  writeExtensions(writer, leafNode.extensions);
}

export function writeLeafNode(writer: Writer, leafNode: LeafNode): void {
  writeBytesOr(writer, leafNode, (w, value) => {
    writeContent(w, value);
    w.bytes(value.signature);
  });
}

/** The encoded LeafNode: the received bytes where there are any. Not to be written to. */
export function leafNodeBytes(leafNode: LeafNode): Uint8Array {
  return bytesOf(leafNode, writeLeafNode);
}

/**
 * LeafNodeTBS (section 7.2): all fields above the signature and, for source update and commit, the group and
 * the leaf. Throws UsageError `mls/leaf-node-position` when the position is missing.
 *
 *   struct {
 *     ...                          // the fields of LeafNode without signature
 *     select (leaf_node_source) {
 *       case key_package: struct{};
 *       case update, commit:
 *         opaque group_id<V>;
 *         uint32 leaf_index;
 *     };
 *   } LeafNodeTBS;
 */
export function leafNodeTbs(leafNode: LeafNodeContent | LeafNode, position?: LeafNodePosition): Bytes {
  return encodeParts(512, (writer) => {
    const received = receivedBytes(leafNode);
    if (received !== undefined && "signature" in leafNode) {
      writer.fixed(withoutLastField(received, leafNode.signature.length));
    } else writeContent(writer, leafNode);
    if (leafNode.source.kind === "key_package") return;
    if (position === undefined) throw new UsageError("mls/leaf-node-position");
    writer.bytes(position.groupId).uint32(position.leafIndex);
  });
}

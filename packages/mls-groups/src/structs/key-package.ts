import type { Bytes, Reader, Writer } from "@murmuration/base";
import {
  bytesOf,
  encodeParts,
  readKeepingBytes,
  receivedBytes,
  withoutLastField,
  writeBytesOr,
} from "./encoded.ts";
import { type Extension, readDistinctExtensions, writeExtensions } from "./extension.ts";
import { type LeafNode, readLeafNode, writeLeafNode } from "./leaf-node.ts";
import { readProtocolVersion, writeProtocolVersion } from "./protocol-version.ts";

/** A KeyPackage before it is signed. */
export interface KeyPackageContent {
  readonly cipherSuite: number;
  readonly initKey: Uint8Array;
  readonly leafNode: LeafNode;
  readonly extensions: readonly Extension[];
}

/**
 * RFC 9420 section 10. A version other than mls10 is refused: the struct of another version is unknown.
 *
 *   struct {
 *     ProtocolVersion version;
 *     CipherSuite cipher_suite;
 *     HPKEPublicKey init_key;
 *     LeafNode leaf_node;
 *     Extension extensions<V>;
 *     opaque signature<V>;      // SignWithLabel(., "KeyPackageTBS", KeyPackageTBS)
 *   } KeyPackage;
 */
export interface KeyPackage extends KeyPackageContent {
  readonly signature: Uint8Array;
}

/** Reads a KeyPackage and keeps its bytes, for {@link keyPackageTbs} and {@link keyPackageBytes}. */
export function readKeyPackage(reader: Reader): KeyPackage {
  return readKeepingBytes(reader, (r) => {
    readProtocolVersion(r);
    return {
      cipherSuite: r.uint16(),
      initKey: r.bytes(),
      leafNode: readLeafNode(r),
      extensions: readDistinctExtensions(r),
      signature: r.bytes(),
    };
  });
}

function writeContent(writer: Writer, keyPackage: KeyPackageContent): void {
  writeProtocolVersion(writer);
  writer.uint16(keyPackage.cipherSuite).bytes(keyPackage.initKey);
  writeLeafNode(writer, keyPackage.leafNode);
  writeExtensions(writer, keyPackage.extensions);
}

export function writeKeyPackage(writer: Writer, keyPackage: KeyPackage): void {
  writeBytesOr(writer, keyPackage, (w, value) => {
    writeContent(w, value);
    w.bytes(value.signature);
  });
}

/** The encoded KeyPackage, input of MakeKeyPackageRef (section 5.2): the received bytes where there are any. */
export function keyPackageBytes(keyPackage: KeyPackage): Uint8Array {
  return bytesOf(keyPackage, writeKeyPackage);
}

/** KeyPackageTBS (section 10): the fields of a KeyPackage above the signature. */
export function keyPackageTbs(keyPackage: KeyPackageContent | KeyPackage): Bytes {
  return encodeParts(512, (writer) => {
    const received = receivedBytes(keyPackage);
    if (received !== undefined && "signature" in keyPackage) {
      writer.fixed(withoutLastField(received, keyPackage.signature.length));
    } else writeContent(writer, keyPackage);
  });
}

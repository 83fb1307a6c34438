import type { Reader, Writer } from "@murmuration/base";
import { credentialTypes } from "./code-points.ts";

/**
 * RFC 9420 section 5.3.
 *
 *   uint16 CredentialType;
 *   struct { opaque cert_data<V>; } Certificate;
 *   struct {
 *     CredentialType credential_type;
 *     select (credential_type) {
 *       case basic: opaque identity<V>;
 *       case x509:  Certificate certificates<V>;   // end-entity certificate first
 *     };
 *   } Credential;
 *
 * The RFC gives a credential of another type no frame. Every type registered so far is one vector, and a
 * member may meet types that others support, so an unknown type is read as one opaque<V> and kept.
 */
export type Credential =
  | { readonly kind: "basic"; readonly identity: Uint8Array }
  | { readonly kind: "x509"; readonly certificates: readonly Uint8Array[] }
  | { readonly kind: "unknown"; readonly type: number; readonly content: Uint8Array };

/** The code point of a credential's type. */
export function credentialType(credential: Credential): number {
  return credential.kind === "unknown" ? credential.type : credentialTypes[credential.kind];
}

export function readCredential(reader: Reader): Credential {
  const type = reader.uint16();
  if (type === credentialTypes.basic) return { kind: "basic", identity: reader.bytes() };
  if (type === credentialTypes.x509) {
    return { kind: "x509", certificates: reader.vector((inner) => inner.bytes()) };
  }
  return { kind: "unknown", type, content: reader.bytes() };
}

export function skipCredential(reader: Reader): void {
  const type = reader.uint16();
  const content = reader.nested();
  if (type !== credentialTypes.x509) return;
  while (content.offset < content.end) content.skipBytes();
}

export function writeCredential(writer: Writer, credential: Credential): void {
  writer.uint16(credentialType(credential));
  if (credential.kind === "basic") writer.bytes(credential.identity);
  else if (credential.kind === "x509") writer.vector(credential.certificates, (w, der) => w.bytes(der));
  else writer.bytes(credential.content);
}

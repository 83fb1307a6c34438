import { decodeWhole, encode, type Reader, type Writer } from "@murmuration/base";
import { check } from "../rules.ts";
import { readUint16Vector, writeUint16Vector } from "./capabilities.ts";
import { extensionTypes } from "./code-points.ts";
import { type Credential, readCredential, writeCredential } from "./credential.ts";

/**
 * RFC 9420 section 13.4 (type in 7.2). The data of every type, known or not, is kept as bytes; the functions
 * below decode it where it is used.
 *
 *   struct {
 *     ExtensionType extension_type;
 *     opaque extension_data<V>;
 *   } Extension;
 */
export interface Extension {
  readonly type: number;
  readonly data: Uint8Array;
}

/** Extension extensions<V>. Two of one type are left to the caller's rule; see {@link readDistinctExtensions}. */
export function readExtensions(reader: Reader): Extension[] {
  return reader.vector((inner) => ({ type: inner.uint16(), data: inner.bytes() }));
}

/** Extension extensions<V> of which no two have the same type (section 13.4). */
export function readDistinctExtensions(reader: Reader): Extension[] {
  const extensions = readExtensions(reader);
  check("extensions/distinct", areDistinct(extensions));
  return extensions;
}

/** Copies that outlive the message, or the caller's arrays, that the extensions came in. */
export function copyExtensions(extensions: readonly Extension[]): Extension[] {
  return extensions.map(({ type, data }) => ({ type, data: data.slice() }));
}

export function skipExtensions(reader: Reader): void {
  const inner = reader.nested();
  while (inner.offset < inner.end) {
    inner.uint16();
    inner.skipBytes();
  }
}

export function writeExtensions(writer: Writer, extensions: readonly Extension[]): void {
  writer.vector(extensions, (w, extension) => w.uint16(extension.type).bytes(extension.data));
}

/** Whether no two extensions have the same type (section 13.4). */
function areDistinct(extensions: readonly Extension[]): boolean {
  return extensions.length < 2 || new Set(extensions.map(({ type }) => type)).size === extensions.length;
}

/** The data of the extension of this type, if the list has it. */
export function findExtension(extensions: readonly Extension[], type: number): Uint8Array | undefined {
  return extensions.find((extension) => extension.type === type)?.data;
}

/**
 * RFC 9420 section 11.1: what every member must support beyond the default types.
 *
 *   struct {
 *     ExtensionType extension_types<V>;
 *     ProposalType proposal_types<V>;
 *     CredentialType credential_types<V>;
 *   } RequiredCapabilities;
 */
export interface RequiredCapabilities {
  readonly extensionTypes: readonly number[];
  readonly proposalTypes: readonly number[];
  readonly credentialTypes: readonly number[];
}

export function readRequiredCapabilities(reader: Reader): RequiredCapabilities {
  return {
    extensionTypes: readUint16Vector(reader),
    proposalTypes: readUint16Vector(reader),
    credentialTypes: readUint16Vector(reader),
  };
}

function writeRequiredCapabilities(writer: Writer, required: RequiredCapabilities): void {
  writeUint16Vector(writer, required.extensionTypes);
  writeUint16Vector(writer, required.proposalTypes);
  writeUint16Vector(writer, required.credentialTypes);
}

/** required_capabilities of a GroupContext's extensions. Throws RejectionError when it does not decode. */
export function requiredCapabilities(extensions: readonly Extension[]): RequiredCapabilities | undefined {
  const data = findExtension(extensions, extensionTypes.required_capabilities);
  return data === undefined ? undefined : decodeWhole(data, readRequiredCapabilities);
}

export function requiredCapabilitiesExtension(required: RequiredCapabilities): Extension {
  return { type: extensionTypes.required_capabilities, data: encode(required, writeRequiredCapabilities) };
}

/**
 * RFC 9420 section 12.1.8.1: who outside the group may send it proposals.
 *
 *   struct {
 *     SignaturePublicKey signature_key;
 *     Credential credential;
 *   } ExternalSender;
 *   ExternalSender external_senders<V>;
 */
export interface ExternalSender {
  readonly signatureKey: Uint8Array;
  readonly credential: Credential;
}

export function readExternalSenders(reader: Reader): ExternalSender[] {
  return reader.vector((inner) => ({ signatureKey: inner.bytes(), credential: readCredential(inner) }));
}

function writeExternalSenders(writer: Writer, senders: readonly ExternalSender[]): void {
  writer.vector(senders, (w, sender) => {
    w.bytes(sender.signatureKey);
    writeCredential(w, sender.credential);
  });
}

/** external_senders of a GroupContext's extensions, empty without the extension. Throws RejectionError. */
export function externalSenders(extensions: readonly Extension[]): ExternalSender[] {
  const data = findExtension(extensions, extensionTypes.external_senders);
  return data === undefined ? [] : decodeWhole(data, readExternalSenders);
}

export function externalSendersExtension(senders: readonly ExternalSender[]): Extension {
  return { type: extensionTypes.external_senders, data: encode(senders, writeExternalSenders) };
}

/** external_pub of a GroupInfo (section 12.4.3.2): `struct { HPKEPublicKey external_pub; } ExternalPub`. */
export function externalPub(extensions: readonly Extension[]): Uint8Array | undefined {
  const data = findExtension(extensions, extensionTypes.external_pub);
  return data === undefined ? undefined : decodeWhole(data, (reader) => reader.bytes());
}

export function externalPubExtension(publicKey: Uint8Array): Extension {
  return { type: extensionTypes.external_pub, data: encode(publicKey, (w, key) => w.bytes(key)) };
}

/** application_id of a LeafNode (section 5.3.3): `opaque application_id<V>`. */
export function applicationId(extensions: readonly Extension[]): Uint8Array | undefined {
  const data = findExtension(extensions, extensionTypes.application_id);
  return data === undefined ? undefined : decodeWhole(data, (reader) => reader.bytes());
}

export function applicationIdExtension(id: Uint8Array): Extension {
  return { type: extensionTypes.application_id, data: encode(id, (w, bytes) => w.bytes(bytes)) };
}

/** ratchet_tree of a GroupInfo (section 12.4.3.3), undecoded: the tree has a reader of its own. */
export function ratchetTreeExtension(ratchetTree: Uint8Array): Extension {
  return { type: extensionTypes.ratchet_tree, data: ratchetTree };
}

/**
 * last_resort_key_package of a KeyPackage (draft-ietf-mls-extensions): this KeyPackage may be used more than
 * once. An empty struct. Throws RejectionError when it has content.
 */
export function isLastResort(extensions: readonly Extension[]): boolean {
  const data = findExtension(extensions, extensionTypes.last_resort_key_package);
  if (data === undefined) return false;
  decodeWhole(data, () => undefined);
  return true;
}

export function lastResortExtension(): Extension {
  return { type: extensionTypes.last_resort_key_package, data: new Uint8Array(0) };
}

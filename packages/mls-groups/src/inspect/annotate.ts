import { decodeWhole, fromUtf8, type Reader, RejectionError, toHex } from "@murmuration/base";
import { cipherSuite, isCipherSuiteId } from "../crypto/suites.ts";
import {
  credentialTypes,
  extensionTypes,
  greaseValues,
  nameOf,
  proposalTypes,
} from "../structs/code-points.ts";
import { type Extension, readExternalSenders, readRequiredCapabilities } from "../structs/extension.ts";
import { LazyVector } from "../structs/lazy-vector.ts";
import { readRatchetTree } from "../structs/ratchet-tree.ts";

/** One field of a structure: RFC name, value as text, and the fields inside it. */
export interface InspectNode {
  readonly name: string;
  /** Undefined for a struct or a list that only has children. */
  readonly value: string | undefined;
  readonly children: readonly InspectNode[];
}

/** How much of a long value is shown. */
export interface InspectLimits {
  /** Elements of one list. */
  readonly elements: number;
  /** Bytes of one opaque value. */
  readonly bytes: number;
}

/** Secrets and what people wrote: their length is shown and nothing else. */
const elided = new Set(["joinerSecret", "pathSecret", "applicationData"]);

/** Fields that hold the bytes of their neighbours a second time, or name the kind that the parent shows. */
const hidden = new Set(["kind", "wireFormat", "contentType", "bytes", "contentEnd"]);

/** Annotates a decoded struct. Its fields get the names of RFC 9420. O(what is shown). */
export function annotate(name: string, value: unknown, limits: InspectLimits): InspectNode {
  return field(rfcName(name), name, value, limits);
}

function field(name: string, key: string, value: unknown, limits: InspectLimits): InspectNode {
  if (value === undefined) return leaf(name, "absent");
  if (value instanceof Uint8Array) return leaf(name, opaque(key, value, limits));
  if (typeof value === "number" || typeof value === "bigint") return leaf(name, integer(key, value));
  if (value instanceof LazyVector) return list(name, key, value, value.count, limits);
  if (Array.isArray(value)) return list(name, key, value, value.length, limits);
  if (typeof value === "object" && value !== null) return struct(name, value, limits);
  return leaf(name, String(value));
}

function leaf(name: string, value: string): InspectNode {
  return { name, value, children: [] };
}

function list(
  name: string,
  key: string,
  values: Iterable<unknown>,
  count: number,
  limits: InspectLimits,
): InspectNode {
  const children: InspectNode[] = [];
  for (const value of values) {
    if (children.length === limits.elements) break;
    children.push(field(`[${children.length}]`, key, value, limits));
  }
  if (count > children.length) children.push(leaf("...", `${count - children.length} more`));
  return { name, value: `${count} ${count === 1 ? "element" : "elements"}`, children };
}

function struct(name: string, value: object, limits: InspectLimits): InspectNode {
  if (isExtension(value)) return extension(name, value, limits);
  const { kind, wireFormat, contentType } = value as Record<string, unknown>;
  const shown = kind ?? contentType ?? wireFormat;
  const children = Object.entries(value)
    .filter(([key]) => !hidden.has(key))
    .map(([key, inner]) => annotate(key, inner, limits));
  return { name, value: typeof shown === "string" ? shown : undefined, children };
}

function isExtension(value: object): value is Extension {
  const keys = Object.keys(value);
  return keys.length === 2 && keys.includes("type") && keys.includes("data");
}

const extensionReaders: Readonly<Record<number, (reader: Reader) => unknown>> = {
  [extensionTypes.required_capabilities]: readRequiredCapabilities,
  [extensionTypes.external_senders]: readExternalSenders,
  [extensionTypes.external_pub]: (reader) => reader.bytes(),
  [extensionTypes.application_id]: (reader) => reader.bytes(),
  [extensionTypes.ratchet_tree]: (reader) => readRatchetTree(reader),
};

/** The data of a known type is decoded as well; one that does not decode says so and is shown as bytes. */
function extension(name: string, { type, data }: Extension, limits: InspectLimits): InspectNode {
  const raw = annotate("extensionData", data, limits);
  const read = extensionReaders[type];
  const children = read === undefined ? [raw] : decodedOrRaw(data, read, raw, limits);
  return { name, value: integer("extensionTypes", type), children };
}

function decodedOrRaw(
  data: Uint8Array,
  read: (reader: Reader) => unknown,
  raw: InspectNode,
  limits: InspectLimits,
): InspectNode[] {
  try {
    return [annotate("extensionData", decodeWhole(data, read), limits)];
  } catch (error) {
    if (!(error instanceof RejectionError)) throw error;
    return [raw, leaf("error", error.code)];
  }
}

function opaque(key: string, value: Uint8Array, limits: InspectLimits): string {
  const size = `${value.length} ${value.length === 1 ? "byte" : "bytes"}`;
  if (elided.has(key)) return `elided, ${size}`;
  if (value.length === 0) return "empty";
  const hex = toHex(value.subarray(0, limits.bytes));
  const more = value.length > limits.bytes ? "..." : "";
  return `${hex}${more} (${size}${quoted(key, value)})`;
}

/** Identities are mostly text. Only printable ASCII is repeated, so that nothing foreign steers a terminal. */
function quoted(key: string, value: Uint8Array): string {
  if (key !== "identity" || value.length > 128) return "";
  if (!value.every((byte) => byte >= 0x20 && byte <= 0x7e)) return "";
  return `, "${fromUtf8(value)}"`;
}

const tables: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  extensions: extensionTypes,
  extensionTypes,
  proposals: proposalTypes,
  proposalTypes,
  credentials: credentialTypes,
  credentialTypes,
};

function integer(key: string, value: number | bigint): string {
  if (key === "notBefore" || key === "notAfter") return `${value}${dateOf(BigInt(value))}`;
  if (typeof value === "bigint") return `${value}`;
  if (key === "cipherSuite" || key === "cipherSuites") return `${value}${noted(suiteName(value), value)}`;
  const table = tables[key];
  return table === undefined ? `${value}` : `${value}${noted(nameOf(table, value), value)}`;
}

function suiteName(code: number): string | undefined {
  return isCipherSuiteId(code) ? cipherSuite(code).name : undefined;
}

function noted(name: string | undefined, code: number): string {
  return ` (${name ?? (greaseValues.includes(code) ? "GREASE" : "unknown")})`;
}

/** The last second that a Date can hold. */
const LAST_SECOND = 8_640_000_000_000n;

function dateOf(seconds: bigint): string {
  return seconds > LAST_SECOND ? "" : ` (${new Date(Number(seconds) * 1000).toISOString()})`;
}

/** signatureKey becomes signature_key; a name that begins with a capital is the RFC's already. */
function rfcName(key: string): string {
  if (/^[A-Z]/.test(key)) return key;
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

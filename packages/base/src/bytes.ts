/*
 * Nothing here needs Node: where its Buffer and its constant-time comparison exist they are used, elsewhere (browsers,
 * other runtimes) the same results come from plain JavaScript.
 */

/** Bytes whose buffer is never shared between threads: what libsignal and WebCrypto accept. */
export type Bytes = Uint8Array<ArrayBuffer>;

const HEX = /^(?:[0-9a-f]{2})*$/i;
/** One character alone encodes nothing, so lengths of the form 4n + 1 do not occur. */
const BASE64URL = /^(?:[\w-]{4})*(?:[\w-]{2,3})?$/;

const hasBuffer = typeof Buffer !== "undefined";

function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Concatenates parts into one new array. O(total length). */
export function concatBytes(...parts: readonly Uint8Array[]): Bytes {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = new Uint8Array(length);
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
}

/** Byte equality for public values; its time depends on the content. Secrets use {@link equalSecret}. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

const timingSafeEqual = globalThis.process?.getBuiltinModule?.("node:crypto")?.timingSafeEqual;

/** Byte equality in time that depends on the lengths only: for tags, tokens and every other secret. */
export function equalSecret(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && (timingSafeEqual ?? portableEqual)(a, b);
}

/** The comparison for runtimes without Node's: every byte is looked at, whatever the first ones say. */
export function portableEqual(a: Uint8Array, b: Uint8Array): boolean {
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!;
  return difference === 0;
}

/** Lexicographic order of bytes, shorter first on a common prefix. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const difference = a[i]! - b[i]!;
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** Lower-case hexadecimal. */
export function toHex(bytes: Uint8Array): string {
  if (hasBuffer) return view(bytes).toString("hex");
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

/** Parses hexadecimal of either case. Throws RangeError on an odd length or another character. */
export function fromHex(hex: string): Bytes {
  if (!HEX.test(hex)) throw new RangeError("not hexadecimal");
  if (hasBuffer) return new Uint8Array(Buffer.from(hex, "hex"));
  const bytes = new Uint8Array(hex.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

/** Unpadded base64url (RFC 4648 section 5). */
export function toBase64Url(bytes: Uint8Array): string {
  if (hasBuffer) return view(bytes).toString("base64url");
  const text = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  return text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Parses unpadded base64url; the encoding must be canonical. Throws RangeError otherwise. */
export function fromBase64Url(text: string): Bytes {
  if (!BASE64URL.test(text)) throw new RangeError("not canonical base64url");
  const bytes = hasBuffer
    ? new Uint8Array(Buffer.from(text, "base64url"))
    : Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
  if (toBase64Url(bytes) !== text) throw new RangeError("not canonical base64url");
  return bytes;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** UTF-8 bytes of a string. */
export function utf8(text: string): Bytes {
  return encoder.encode(text);
}

/** Strict UTF-8. Throws TypeError on an invalid sequence. */
export function fromUtf8(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

/** Overwrites secrets that are no longer needed. JavaScript may have copied them; this removes ours. */
export function zeroize(...secrets: readonly (Uint8Array | undefined)[]): void {
  for (const secret of secrets) secret?.fill(0);
}

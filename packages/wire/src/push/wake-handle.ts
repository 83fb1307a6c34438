import { createHash } from "node:crypto";
import { type Bytes, concatBytes, equalBytes, refuseUnless, UsageError, utf8 } from "@murmuration/base";
import { type KeyPair, open, SEAL_OVERHEAD, seal } from "./hpke.ts";

/** What a handle says to the gateway, and to nobody else. */
export interface WakeHandle {
  /** 16 bytes that the gateway gave out for a push token. */
  readonly tokenId: Bytes;
  /** True where the device wants to be woken only by what mentions it. */
  readonly mentionOnly: boolean;
  /** Days since 1970; from this day on the handle wakes nobody. */
  readonly expiryDay: number;
}

/*
 * version(1) || key id(4) || HPKE(token id(16) || flags(1) || expiry day(4) || zeros(11))
 * The key id is the same for everybody who asked the gateway since its key is in use; all else is new in each handle, so
 * that two handles of one device have nothing in common for whoever lacks the key.
 */
const VERSION = 1;
const KEY_ID_BYTES = 4;
const HEADER_BYTES = 1 + KEY_ID_BYTES;
const TOKEN_ID_BYTES = 16;
const CONTENT_BYTES = 32;
const MENTION_ONLY = 1;
const INFO = utf8("Murmuration WakeHandle 1");

/** Length of every handle: it shows nothing. */
export const WAKE_HANDLE_BYTES = HEADER_BYTES + SEAL_OVERHEAD + CONTENT_BYTES;

/** Seals a handle to the gateway's public key (32 bytes). Never the same bytes twice. Two X25519 operations. */
export function sealWakeHandle(gatewayKey: Bytes, handle: WakeHandle): Bytes {
  if (handle.tokenId.length !== TOKEN_ID_BYTES) throw new UsageError("handle/token-id-length");
  const content = new Uint8Array(CONTENT_BYTES);
  content.set(handle.tokenId);
  content[TOKEN_ID_BYTES] = handle.mentionOnly ? MENTION_ONLY : 0;
  new DataView(content.buffer).setUint32(TOKEN_ID_BYTES + 1, handle.expiryDay);
  const header = headerOf(gatewayKey);
  return concatBytes(header, seal(gatewayKey, INFO, header, content));
}

/**
 * Opens a handle with the key that it names. One X25519 agreement. Throws RejectionError `handle/malformed`, `handle/unknown-key`,
 * `handle/cannot-open`.
 */
export function openWakeHandle(keys: readonly KeyPair[], handle: Bytes): WakeHandle {
  refuseUnless(handle.length === WAKE_HANDLE_BYTES && handle[0] === VERSION, "handle/malformed");
  const header = handle.slice(0, HEADER_BYTES);
  const key = keys.find(({ publicKey }) => equalBytes(headerOf(publicKey), header));
  refuseUnless(key !== undefined, "handle/unknown-key");
  const content = open(key, INFO, header, handle.slice(HEADER_BYTES));
  const flags = content[TOKEN_ID_BYTES]!;
  const rest = content.slice(TOKEN_ID_BYTES + 5);
  refuseUnless(
    (flags | MENTION_ONLY) === MENTION_ONLY && rest.every((byte) => byte === 0),
    "handle/malformed",
  );
  return {
    tokenId: content.slice(0, TOKEN_ID_BYTES),
    mentionOnly: flags === MENTION_ONLY,
    expiryDay: new DataView(content.buffer).getUint32(TOKEN_ID_BYTES + 1),
  };
}

function headerOf(publicKey: Bytes): Bytes {
  const digest = createHash("sha256").update(publicKey).digest();
  return concatBytes(Uint8Array.of(VERSION), digest.subarray(0, KEY_ID_BYTES));
}

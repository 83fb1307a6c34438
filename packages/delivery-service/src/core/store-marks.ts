import { createCipheriv, createDecipheriv } from "node:crypto";
import { type Bytes, concatBytes, Reader, type StoreId, Writer } from "@murmuration/base";
import { limits } from "@murmuration/wire";
import type { StoreState } from "../ports/mailboxes.ts";

/**
 * What devices keep of a store, to show it later: 12 bytes nonce, the state (8 bytes run, uint64 count) and 16 bytes
 * tag, by AES-256-GCM under a key of the service, bound to the store's id. Sealed, so that nobody counts what others do; and
 * authentic, so that nobody can say of a store that it was set back who has not seen it further.
 */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Seals a state under a key of 32 bytes; `nonce` is 12 random bytes. At most 2^32 times under one key. */
export function sealStoreMark(key: Bytes, nonce: Bytes, store: StoreId, { run, count }: StoreState): Bytes {
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  cipher.setAAD(store);
  const state = new Writer(16).fixed(run).uint64(BigInt(count)).finish();
  return concatBytes(nonce, cipher.update(state), cipher.final(), cipher.getAuthTag());
}

/** The state in a mark; undefined where the mark is not ours, or of another store. */
export function openStoreMark(key: Bytes, store: StoreId, mark: Bytes): StoreState | undefined {
  if (mark.length !== limits.storeMarkBytes) return undefined;
  const sealed = mark.subarray(NONCE_BYTES, -TAG_BYTES);
  const decipher = createDecipheriv("aes-256-gcm", key, mark.subarray(0, NONCE_BYTES));
  decipher.setAAD(store);
  decipher.setAuthTag(mark.subarray(-TAG_BYTES));
  let state: Bytes;
  try {
    state = concatBytes(decipher.update(sealed), decipher.final());
  } catch {
    return undefined;
  }
  const reader = new Reader(state);
  return { run: new Uint8Array(reader.fixed(8)), count: Number(reader.uint64()) };
}

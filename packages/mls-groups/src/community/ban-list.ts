import {
  type AccountId,
  type Bytes,
  compareBytes,
  concatBytes,
  equalBytes,
  type GroupId,
  RejectionError,
  UsageError,
  utf8,
} from "@murmuration/base";
import { sha256 } from "@noble/hashes/sha2.js";

/** Accounts on one list, at the most. */
export const MAX_BANNED = 4_096;
const ENTRY_BYTES = 16;
const PREFIX = utf8("Murmuration Banned");
const NO_HASH: Bytes = new Uint8Array(0);

/**
 * The accounts that a group has banned (docs/communities.md, Group context): for each the first 16 bytes of
 * SHA-256("Murmuration Banned" || group_id || account_id), in rising order. Immutable.
 */
export class BanList {
  /** Nobody is banned. */
  static readonly empty: BanList = new BanList(new Uint8Array(0));

  /** All entries, one behind the other. */
  readonly #entries: Bytes;
  #hash: Bytes | undefined;

  private constructor(entries: Bytes) {
    this.#entries = entries;
  }

  /** O(size). Throws RejectionError `community/ban-list-malformed`. */
  static decode(bytes: Uint8Array): BanList {
    const whole = bytes.length % ENTRY_BYTES === 0 && bytes.length <= MAX_BANNED * ENTRY_BYTES;
    if (!whole) throw new RejectionError("community/ban-list-malformed");
    const list = new BanList(new Uint8Array(bytes));
    for (let place = 1; place < list.size; place++) {
      if (compareBytes(list.#entry(place - 1), list.#entry(place)) >= 0) {
        throw new RejectionError("community/ban-list-malformed");
      }
    }
    return list;
  }

  /** The inverse of {@link BanList.decode}; no bytes for the empty list. */
  encode(): Bytes {
    return this.#entries.slice();
  }

  /** What a GroupContext says of this list: SHA-256 of its encoding, and no bytes for the empty list. O(size) once. */
  hash(): Bytes {
    this.#hash ??= this.size === 0 ? NO_HASH : new Uint8Array(sha256(this.#entries));
    return this.#hash.slice();
  }

  /** Number of banned accounts. */
  get size(): number {
    return this.#entries.length / ENTRY_BYTES;
  }

  /** One hash and O(log size). */
  has(groupId: GroupId | Uint8Array, accountId: AccountId): boolean {
    const entry = entryOf(groupId, accountId);
    const place = this.#place(entry);
    return place < this.size && equalBytes(this.#entry(place), entry);
  }

  /** The list with this account. O(size). Throws UsageError `community/ban-list-full`. */
  with(groupId: GroupId | Uint8Array, accountId: AccountId): BanList {
    if (this.has(groupId, accountId)) return this;
    if (this.size >= MAX_BANNED) throw new UsageError("community/ban-list-full");
    const entry = entryOf(groupId, accountId);
    const at = this.#place(entry) * ENTRY_BYTES;
    return new BanList(concatBytes(this.#entries.subarray(0, at), entry, this.#entries.subarray(at)));
  }

  /** The list without this account. O(size). */
  without(groupId: GroupId | Uint8Array, accountId: AccountId): BanList {
    if (!this.has(groupId, accountId)) return this;
    const at = this.#place(entryOf(groupId, accountId)) * ENTRY_BYTES;
    return new BanList(concatBytes(this.#entries.subarray(0, at), this.#entries.subarray(at + ENTRY_BYTES)));
  }

  #entry(place: number): Uint8Array {
    return this.#entries.subarray(place * ENTRY_BYTES, (place + 1) * ENTRY_BYTES);
  }

  /** Where the entry stands or would go. O(log size). */
  #place(entry: Uint8Array): number {
    let low = 0;
    let high = this.size;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareBytes(this.#entry(middle), entry) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function entryOf(groupId: Uint8Array, accountId: AccountId): Uint8Array {
  return sha256(concatBytes(PREFIX, groupId, accountId)).subarray(0, ENTRY_BYTES);
}

/** The profile key and what follows from it: who may send sealed envelopes, and how accounts introduce themselves. */
import { createHash } from "node:crypto";
import {
  type AccountId,
  accountId,
  type Bytes,
  decodeWhole,
  encode,
  fromBase64Url,
  fromUtf8,
  RejectionError,
  toBase64Url,
  utf8,
} from "@murmuration/base";
import { HASH_BYTES, MAX_NAME_BYTES, PROFILE_KEY_BYTES } from "./content.ts";

export interface ContactCard {
  readonly accountId: AccountId;
  readonly profileKey: Bytes;
  /** SHA-256 of the account identity key. */
  readonly fingerprint: Bytes;
  readonly name: string;
}

const PREFIX = "murmuration:";
const VERSION = 1;

export function fingerprintOf(accountIdentityKey: Uint8Array): Bytes {
  return new Uint8Array(createHash("sha256").update(accountIdentityKey).digest());
}

/** One line of text that introduces an account; whoever has it can send to the account. */
export function formatContactCard(card: ContactCard): string {
  const bytes = encode(card, (writer, { accountId: account, profileKey, fingerprint, name }) => {
    writer.uint8(VERSION).fixed(account).fixed(profileKey).fixed(fingerprint).bytes(utf8(name));
  });
  return PREFIX + toBase64Url(bytes);
}

export const isContactCard = (text: string): boolean => text.startsWith(PREFIX);

/** Throws RejectionError `contact/bad-card`. */
export function parseContactCard(text: string): ContactCard {
  try {
    return decodeWhole(fromBase64Url(text.slice(PREFIX.length)), (reader) => {
      if (reader.uint8() !== VERSION) throw new RejectionError("contact/bad-card");
      const account = accountId(reader.fixed(16));
      const profileKey = new Uint8Array(reader.fixed(PROFILE_KEY_BYTES));
      const fingerprint = new Uint8Array(reader.fixed(HASH_BYTES));
      const name = reader.bytes();
      if (name.length > MAX_NAME_BYTES) throw new RejectionError("contact/bad-card");
      return { accountId: account, profileKey, fingerprint, name: fromUtf8(name) };
    });
  } catch {
    throw new RejectionError("contact/bad-card");
  }
}

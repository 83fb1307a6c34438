/** Invite links: a secret in the fragment of a URL, which no server sees when it is opened. */
import {
  type Bytes,
  decodeWhole,
  encode,
  fromBase64Url,
  fromUtf8,
  type GroupId,
  groupId,
  RejectionError,
  toBase64Url,
  utf8,
} from "@murmuration/base";
import { HASH_BYTES, LINK_ID_BYTES, MAX_TITLE_BYTES, shorten } from "./content.ts";

export interface InviteLink {
  readonly groupId: GroupId;
  /** SHA-256 of the account identity key of whoever made the link: the joiner checks that the group has it. */
  readonly fingerprint: Bytes;
  readonly linkId: Bytes;
  /** Ed25519 seed, 32 bytes: whoever has it can join. */
  readonly seed: Bytes;
  /** What the group was called when the link was made, for whoever is about to join. */
  readonly title: string;
}

const LINK_SEED_BYTES = 32;
const VERSION = 1;
const PREFIX = "/join#";

/** The link as a URL of the service that carries the group. */
export function formatInviteLink(origin: string, link: InviteLink): string {
  const bytes = encode(link, (writer, { groupId: group, fingerprint, linkId, seed, title }) => {
    writer.uint8(VERSION).fixed(group).fixed(fingerprint).fixed(linkId).fixed(seed);
    writer.bytes(utf8(shorten(title, MAX_TITLE_BYTES)));
  });
  return `${origin}${PREFIX}${toBase64Url(bytes)}`;
}

/** Parses {@link formatInviteLink}, whatever stands before the fragment. RejectionError `link/malformed`. */
export function parseInviteLink(url: string): InviteLink {
  const at = url.lastIndexOf("#");
  try {
    return decodeWhole(fromBase64Url(url.slice(at + 1)), (reader) => {
      if (reader.uint8() !== VERSION) throw new RejectionError("link/malformed");
      const group = groupId(reader.fixed(16));
      const fingerprint = new Uint8Array(reader.fixed(HASH_BYTES));
      const linkId = new Uint8Array(reader.fixed(LINK_ID_BYTES));
      const seed = new Uint8Array(reader.fixed(LINK_SEED_BYTES));
      const title = reader.bytes();
      if (title.length > MAX_TITLE_BYTES) throw new RejectionError("link/malformed");
      return { groupId: group, fingerprint, linkId, seed, title: fromUtf8(title) };
    });
  } catch {
    throw new RejectionError("link/malformed");
  }
}

/** Content between clients; proto/content.proto says what each field means, here are its sizes. */
import {
  accountId,
  type Bytes,
  blobId,
  concatBytes,
  equalBytes,
  groupId,
  MAX_DEVICE_ID,
  type MessageId,
  messageId,
  RejectionError,
  utf8,
} from "@murmuration/base";
import {
  bool,
  bytes,
  id,
  type MessageOf,
  message,
  optional,
  repeated,
  required,
  text,
  uint,
} from "./protobuf.ts";

/** Most bytes of a message's text, in UTF-8. Longer text belongs into an attachment. */
export const MAX_TEXT_BYTES = 16_384;
export const MAX_ATTACHMENTS = 32;
export const MAX_MENTIONS = 32;
export const MAX_NAME_BYTES = 128;
export const MAX_TITLE_BYTES = 256;
export const MAX_DESCRIPTION_BYTES = 2048;
/** Most bytes of a group's picture: everybody loads it unasked. */
export const MAX_PICTURE_BYTES = 1024 * 1024;
/** Most message ids of one receipt, and most entries of one sync page. */
export const MAX_RECEIPT_IDS = 512;
export const SYNC_PAGE = 256;
/** Most messages of the past that are shared at a time, and most bytes of them in one message to a group. */
export const MAX_SHARED_ITEMS = 100;
export const MAX_SHARED_BYTES = 40_000;
/** Messages that a community has pinned at a time. */
export const MAX_PINS = 50;
/** Communities of which one content tells beside what it says. */
export const MAX_SEEN_EPOCHS = 4;
/** Four weeks: the longest timer of a disappearing message. */
export const MAX_EXPIRY_SECONDS = 28 * 86_400;
export const PROFILE_KEY_BYTES = 32;
export const GROUP_KEY_BYTES = 32;
export const FENCE_BYTES = 16;
export const HASH_BYTES = 32;
export const LINK_ID_BYTES = 16;
/** What the PSK of a switching commit is made of. */
export const MIGRATION_SECRET_BYTES = 32;
/** Ed25519, as the cipher suite of communities has it. */
const SIGNATURE_KEY_BYTES = 32;

const seconds = uint(MAX_EXPIRY_SECONDS);
const revision = uint(Number.MAX_SAFE_INTEGER, 1);

export const target = message("Target", {
  accountId: required(1, id(accountId)),
  messageId: required(2, id(messageId)),
});

export const attachment = message("Attachment", {
  blobId: required(1, id(blobId)),
  key: required(2, bytes(64)),
  digest: required(3, bytes(32)),
  incrementalMac: required(4, bytes({ min: 32, max: 32 * 256 })),
  chunkBytes: required(5, uint(0xffff_ffff, 1)),
  size: required(6, uint()),
  contentType: required(7, text(128)),
  fileName: required(8, text(256)),
});

const mentions = message("Mentions", { accounts: repeated(1, id(accountId), MAX_MENTIONS) });

export const textBody = message("Text", {
  text: required(1, text(MAX_TEXT_BYTES)),
  replyTo: optional(2, target),
  attachments: repeated(3, attachment, MAX_ATTACHMENTS),
  expireAfterSeconds: optional(4, seconds),
  mentions: optional(5, mentions),
});

const profile = message("Profile", {
  profileKey: required(1, bytes(PROFILE_KEY_BYTES)),
  name: required(2, text(MAX_NAME_BYTES)),
});

const groupContext = message("GroupContext", {
  groupId: required(1, id(groupId)),
  revision: required(2, uint()),
  name: optional(3, text(MAX_NAME_BYTES)),
  counter: optional(4, uint(Number.MAX_SAFE_INTEGER, 1)),
});
const edit = message("Edit", {
  messageId: required(1, id(messageId)),
  text: required(2, text(MAX_TEXT_BYTES)),
});
const reaction = message("Reaction", { target: required(1, target), emoji: optional(2, text(64)) });
const deletion = message("Delete", { target: required(1, target) });
const receipt = message("Receipt", {
  read: required(1, bool),
  messageIds: repeated(2, id(messageId), MAX_RECEIPT_IDS),
});
const typing = message("Typing", { started: required(1, bool) });
const expiry = message("Expiry", { seconds: required(1, seconds) });

export const groupInvite = message("GroupInvite", {
  groupKey: required(1, bytes(GROUP_KEY_BYTES)),
  fence: required(2, bytes(FENCE_BYTES)),
  revision: required(3, revision),
  hash: required(4, bytes(HASH_BYTES)),
});
const groupKey = message("GroupKey", {
  groupKey: required(1, bytes(GROUP_KEY_BYTES)),
  fence: required(2, bytes(FENCE_BYTES)),
  revision: required(3, revision),
});
const groupChange = message("GroupChange", { change: required(1, bytes({ min: 1, max: 48 * 1024 })) });

export const groupProfile = message("GroupProfile", {
  title: required(1, text(MAX_TITLE_BYTES)),
  description: required(2, text(MAX_DESCRIPTION_BYTES)),
  picture: optional(3, attachment),
});

const profileRequest = message("ProfileRequest", { hash: required(1, bytes(HASH_BYTES)) });

export const sharedMessage = message("SharedMessage", {
  accountId: required(1, id(accountId)),
  deviceId: required(2, uint(MAX_DEVICE_ID, 1)),
  messageId: required(3, id(messageId)),
  sentAtMs: required(4, uint()),
  edited: required(5, bool),
  body: optional(6, textBody),
});
const sharedHistory = message("SharedHistory", { items: repeated(1, sharedMessage, MAX_SHARED_ITEMS) });

const pin = message("Pin", { target: required(1, target), pinned: required(2, bool) });

const joinRequest = message("JoinRequest", {
  groupId: required(1, id(groupId)),
  linkId: required(2, bytes(LINK_ID_BYTES)),
  signatureKey: required(3, bytes(SIGNATURE_KEY_BYTES)),
  linkSignature: required(4, bytes(64)),
});
const joinApproval = message("JoinApproval", {
  groupId: required(1, id(groupId)),
  linkId: required(2, bytes(LINK_ID_BYTES)),
  signatureKey: required(3, bytes(SIGNATURE_KEY_BYTES)),
  approver: optional(4, uint(0xffff_ffff)),
  signature: optional(5, bytes({ min: 1, max: 256 })),
});

const epochReport = message("EpochReport", {
  groupId: required(1, id(groupId)),
  epoch: required(2, uint()),
  hash: required(3, bytes(HASH_BYTES)),
});

const seenEpochs = message("SeenEpochs", {
  reports: repeated(1, epochReport, MAX_SEEN_EPOCHS),
});
/** The part of {@link content} that is put beside what was written down before. */
const aside = message("Content", { seenEpochs: optional(4, seenEpochs) });

const migrationSecret = message("MigrationSecret", {
  generation: required(1, uint(0xffff_ffff, 1)),
  round: required(2, uint(0xffff_ffff, 1)),
  secret: required(3, bytes(MIGRATION_SECRET_BYTES)),
});
const migrationReady = message("MigrationReady", {
  generation: required(1, uint(0xffff_ffff, 1)),
  epoch: required(2, uint()),
  authenticator: required(3, bytes(HASH_BYTES)),
});

const syncSent = message("SyncSent", {
  conversationId: required(1, bytes(16)),
  content: required(2, bytes({ min: 1, max: 60 * 1024 })),
  sentAtMs: required(3, uint()),
});
const syncRead = message("SyncRead", {
  messages: repeated(1, target, SYNC_PAGE),
  readAtMs: required(2, uint()),
});
const syncContact = message("SyncContact", {
  accountId: required(1, id(accountId)),
  profileKey: optional(2, bytes(PROFILE_KEY_BYTES)),
  name: required(3, text(MAX_NAME_BYTES)),
  accepted: required(4, bool),
  blocked: required(5, bool),
  // Of the account identity key, from the contact card that one of the devices has.
  fingerprint: optional(6, bytes(HASH_BYTES)),
});
const syncContacts = message("SyncContacts", { contacts: repeated(1, syncContact, SYNC_PAGE) });
const syncGroup = message("SyncGroup", {
  groupId: required(1, id(groupId)),
  invite: required(2, groupInvite),
});
const syncGroups = message("SyncGroups", { groups: repeated(1, syncGroup, SYNC_PAGE) });
const syncConversation = message("SyncConversation", {
  conversationId: required(1, bytes(16)),
  accepted: required(2, bool),
});
const syncMuted = message("SyncMuted", {
  conversationId: required(1, bytes(16)),
  untilMs: required(2, uint()),
});
export const sync = message("Sync", {
  sent: optional(1, syncSent),
  read: optional(2, syncRead),
  contacts: optional(3, syncContacts),
  groups: optional(4, syncGroups),
  conversation: optional(5, syncConversation),
  muted: optional(6, syncMuted),
});

export const content = message("Content", {
  messageId: required(1, id(messageId)),
  group: optional(2, groupContext),
  profile: optional(3, profile),
  seenEpochs: optional(4, seenEpochs),
  text: optional(10, textBody),
  edit: optional(11, edit),
  reaction: optional(12, reaction),
  delete: optional(13, deletion),
  receipt: optional(14, receipt),
  typing: optional(15, typing),
  expiry: optional(16, expiry),
  groupInvite: optional(17, groupInvite),
  groupKey: optional(18, groupKey),
  groupChange: optional(19, groupChange),
  sync: optional(20, sync),
  groupProfile: optional(21, groupProfile),
  epochReport: optional(22, epochReport),
  profileRequest: optional(23, profileRequest),
  sharedHistory: optional(24, sharedHistory),
  pin: optional(25, pin),
  joinRequest: optional(26, joinRequest),
  joinApproval: optional(27, joinApproval),
  migrationSecret: optional(28, migrationSecret),
  migrationReady: optional(29, migrationReady),
});

export type Content = MessageOf<typeof content>;
export type Attachment = MessageOf<typeof attachment>;
export type Target = MessageOf<typeof target>;
export type GroupInvite = MessageOf<typeof groupInvite>;
export type GroupProfile = MessageOf<typeof groupProfile>;
export type SharedMessage = MessageOf<typeof sharedMessage>;
export type Sync = MessageOf<typeof sync>;
export type EpochReport = MessageOf<typeof epochReport>;

/** The kinds of body. */
export const bodyKinds = [
  "text",
  "edit",
  "reaction",
  "delete",
  "receipt",
  "typing",
  "expiry",
  "groupInvite",
  "groupKey",
  "groupChange",
  "sync",
  "groupProfile",
  "epochReport",
  "profileRequest",
  "sharedHistory",
  "pin",
  "joinRequest",
  "joinApproval",
  "migrationSecret",
  "migrationReady",
] as const;
export type BodyKind = (typeof bodyKinds)[number];

/** The one body that a content has; undefined for none. RejectionError `content/several-bodies`. */
export function bodyKind(value: Content): BodyKind | undefined {
  const present = bodyKinds.filter((kind) => value[kind] !== undefined);
  if (present.length > 1) throw new RejectionError("content/several-bodies");
  return present[0];
}

/** Decodes and checks that there is one body at most. */
export function decodeContent(input: Uint8Array): Content {
  const value = content.decode(input);
  bodyKind(value);
  return value;
}

export function encodeContent(value: Content): Bytes {
  return content.encode(value);
}

/**
 * An encoded content with reports beside what it says; it has none yet. The body stays byte for byte what it is. O(content
 * + reports). UsageError `content/cannot-encode` for more than {@link MAX_SEEN_EPOCHS}.
 */
export function withSeenEpochs(encoded: Bytes, reports: readonly EpochReport[]): Bytes {
  return reports.length === 0 ? encoded : concatBytes(encoded, aside.encode({ seenEpochs: { reports } }));
}

/**
 * A content of one's own without what it tells of a message that was deleted: an edit of it says nothing then, and a past
 * that is told to newcomers is told without it. The same bytes where it tells nothing of the message, undefined where nothing
 * is left. What only names it stays: replies, reactions, deletes, pins, receipts. `ownMessage`: only own ones are edited, and
 * others may have given theirs the same id. O(content).
 */
export function withoutTold(encoded: Bytes, told: Target, ownMessage: boolean): Bytes | undefined {
  const value = content.decode(encoded);
  const copy = value.sync?.sent?.content;
  // Nobody's past is told to the own other devices that way: it is a copy of an edit, or nothing of this.
  if (copy !== undefined) return withoutTold(copy, told, ownMessage) === undefined ? undefined : encoded;
  if (value.edit !== undefined)
    return ownMessage && equalBytes(value.edit.messageId, told.messageId) ? undefined : encoded;
  if (value.sharedHistory === undefined) return encoded;
  const { items } = value.sharedHistory;
  const rest = items.filter((item) => !isSameTarget(item, told));
  if (rest.length === items.length) return encoded;
  return rest.length === 0 ? undefined : content.encode({ ...value, sharedHistory: { items: rest } });
}

const isSameTarget = (a: Target, b: Target): boolean =>
  equalBytes(a.accountId, b.accountId) && equalBytes(a.messageId, b.messageId);

/** How a shared history begins in an encoded content: field 24, of a length. No text in UTF-8 has these two bytes. */
export const SHARED_HISTORY_TAG: Bytes = new Uint8Array([0xc2, 0x01]);

/** A content that says nothing: fills the other devices' places where only one device is meant. */
export function emptyContent(messageId: MessageId): Bytes {
  return content.encode({ messageId });
}

/** Shortens to at most `max` bytes of UTF-8 without breaking a character. */
export function shorten(value: string, max: number): string {
  if (utf8(value).length <= max) return value;
  let out = "";
  let used = 0;
  for (const character of value) {
    used += utf8(character).length;
    if (used > max) break;
    out += character;
  }
  return out;
}

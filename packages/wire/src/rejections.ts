/**
 * Every code that the delivery service answers with, what the client should do, and the HTTP status where it
 * comes over HTTP. A client acts on the `action` that a rejection carries, so that it also understands codes
 * which are younger than itself; this table is what the service fills it from.
 */
import { type Bytes, InvariantError } from "@murmuration/base";
import { type Action, type Rejection, rejection } from "./messages.ts";
import { encodeMessage } from "./shape.ts";

interface Row {
  readonly action: Action;
  readonly status: number;
  /** True where the service closes the socket after it said so. */
  readonly closes?: true;
  /** What the client should do, or why there is nothing to do. */
  readonly sentence: string;
}

const row = (action: Action, status: number, sentence: string): Row => ({ action, status, sentence });
const closing = (action: Action, status: number, sentence: string): Row => ({
  action,
  status,
  closes: true,
  sentence,
});

export const rejections = {
  // Bytes
  "wire/too-large": closing("give-up", 413, "The frame or body is larger than the limit: send less."),
  "wire/garbage": closing(
    "give-up",
    400,
    "The bytes are not the protobuf message they should be: a bug in the sender.",
  ),
  "wire/unknown-frame": row(
    "give-up",
    400,
    "The service does not know this kind of frame: use what the agreed version has.",
  ),
  "wire/wrong-direction": closing(
    "give-up",
    400,
    "Only the service sends this kind of frame: a bug in the sender.",
  ),
  "wire/missing-field": row("give-up", 400, "A required field is missing or empty: a bug in the sender."),
  "wire/invalid-field": row("give-up", 400, "A field has a value outside its range: a bug in the sender."),
  "wire/field-too-large": row("give-up", 413, "A field is larger than its limit: send less."),
  "wire/too-many": row("give-up", 413, "A list is longer than its limit: split the request."),

  // Connections
  "connection/hello-expected": closing("give-up", 400, "The first frame must be Hello: a bug in the sender."),
  "connection/hello-repeated": closing("give-up", 400, "Hello was said already: a bug in the sender."),
  "connection/hello-timeout": closing("retry-later", 408, "No Hello came in time: connect again."),
  "connection/silent": closing("retry", 408, "Nothing was heard for two ping intervals: connect again."),
  "connection/too-many": closing("retry-later", 429, "Too many connections: wait, then connect again."),
  "connection/replaced": closing(
    "retry-later",
    409,
    "The device connected a second time and the older connection ends: use the newer one.",
  ),
  "connection/text-frame": closing(
    "give-up",
    400,
    "Frames are binary WebSocket messages: a bug in the sender.",
  ),
  "version/unsupported": closing(
    "give-up",
    426,
    "No protocol version in common: update the client or the service.",
  ),

  // Authentication
  "auth/missing": row("fix-and-resend", 401, "This request needs an authorisation: send it with one."),
  "auth/malformed": row("give-up", 401, "The authorisation cannot be parsed: a bug in the sender."),
  "auth/invalid": closing(
    "re-register",
    401,
    "Unknown device or wrong token: the device was removed, or its account deleted.",
  ),
  "auth/access-denied": row(
    "repair-devices",
    401,
    "The access key is not the recipient's present one: fetch the profile key again, or send a message request.",
  ),

  // Accounts and devices
  "register/account-exists": row(
    "give-up",
    409,
    "Another registration holds this account id: choose a new one.",
  ),
  "register/account-deleted": row(
    "give-up",
    410,
    "This account id was deleted and is never given out again.",
  ),
  "register/not-invited": row(
    "fix-and-resend",
    403,
    "This service asks for a valid invite code: ask its operator for one.",
  ),
  "device-list/malformed": row("fix-and-resend", 422, "The device list cannot be parsed: sign a new one."),
  "device-list/unknown-format": row(
    "fix-and-resend",
    422,
    "The service does not know this format of device lists.",
  ),
  "device-list/no-devices": row(
    "fix-and-resend",
    422,
    "The device list names no device: delete the account instead.",
  ),
  "device-list/bad-signature": row(
    "fix-and-resend",
    422,
    "A signature on the device list does not fit: sign a new one.",
  ),
  "device-list/wrong-account": row(
    "give-up",
    422,
    "The device list names another account: a bug in the sender.",
  ),
  "device-list/too-many-devices": row(
    "give-up",
    422,
    "The device list names more devices than an account may have: remove one first.",
  ),
  "device-list/rolled-back": row(
    "fix-and-resend",
    409,
    "The stored list is newer: read it and sign its successor.",
  ),
  "device-list/conflict": row(
    "fix-and-resend",
    409,
    "Another list has this version already: read it and sign its successor.",
  ),
  "device-list/account-key-changed": row(
    "give-up",
    422,
    "The list is signed by another account identity key than before.",
  ),
  "devices/list-mismatch": row(
    "fix-and-resend",
    422,
    "The list's new devices are not those that the request brings.",
  ),
  "accounts/unknown": row("give-up", 404, "There is no such account (any more)."),

  // Keys
  "keys/bad-upload-id": row("give-up", 422, "The upload id must be 16 bytes: a bug in the sender."),
  "keys/bad-id": row("fix-and-resend", 422, "A prekey's id is out of range: generate it anew."),
  "keys/duplicate-id": row("fix-and-resend", 422, "Two prekeys have one id: generate them anew."),
  "keys/bad-signature": row(
    "fix-and-resend",
    422,
    "A prekey is not signed by the device's identity key: generate it anew.",
  ),
  "keys/bad-key": row("fix-and-resend", 422, "A public key is malformed: generate it anew."),
  "keys/too-many": row(
    "give-up",
    409,
    "The device has enough one-time keys stored: nothing needs to be done.",
  ),
  "keys/incomplete": row(
    "fix-and-resend",
    422,
    "A new device uploads a signed prekey and a last-resort Kyber key.",
  ),
  "keys/none": row("retry-later", 404, "The device has uploaded no prekeys yet: try again later."),

  // Submits
  "submit/sealed-on-authenticated": row(
    "fix-and-resend",
    400,
    "Sealed submits go over anonymous connections only: send it on one.",
  ),
  "submit/sealed-beside-group": row(
    "fix-and-resend",
    400,
    "A leaf has opened a group on this connection, and names its account: send it on a connection without groups.",
  ),
  "submit/identified-on-anonymous": row(
    "fix-and-resend",
    400,
    "A message request goes over the device's own connection: send it there.",
  ),
  "submit/duplicate-recipient": row(
    "give-up",
    400,
    "An account or device is named twice: a bug in the sender.",
  ),
  "submit/fence-outdated": row(
    "fix-and-resend",
    409,
    "The group's generation has changed or the group is gone: read the group record, then encrypt for its present members.",
  ),
  "submit/mailbox-full": row(
    "retry-later",
    507,
    "A recipient's mailbox is full: it has to come online first.",
  ),
  "submit/blocked": row("give-up", 403, "The recipient takes no message requests from this account."),

  // Mailbox
  "mailbox/needs-device": row(
    "fix-and-resend",
    400,
    "Only the device's own connection has a mailbox: send it there.",
  ),
  "mailbox/not-delivered": row(
    "give-up",
    409,
    "An envelope was acknowledged that was not delivered on this connection: a bug in the sender.",
  ),

  // Group records
  "group/unknown": row("give-up", 404, "There is no such group (any more)."),
  "group/access-denied": row(
    "fix-and-resend",
    403,
    "The signature is not by the group's present access key: this device was removed, or a newer generation is on its way.",
  ),
  "group/challenge-used": row(
    "fix-and-resend",
    403,
    "The challenge is used, expired or foreign: ask for a new one and sign again.",
  ),
  "group/revision-conflict": row(
    "fix-and-resend",
    409,
    "Another member wrote first: read the record, apply the change to it, write again.",
  ),
  "group/generation-missing": row("fix-and-resend", 422, "A new record needs an access key and a fence."),

  // Migrations
  "migration/not-possible": row(
    "fix-and-resend",
    409,
    "The group's state does not allow this step, or a write that is none: read the record.",
  ),
  "migration/lease-held": row(
    "retry-later",
    409,
    "Another member is at work on the migration: wait, and go on only if the record still says the same.",
  ),
  "migration/lease-lost": row(
    "fix-and-resend",
    409,
    "The token is not that of the present lease: read the record, and drop what was made for the lost one.",
  ),
  "migration/wrong-generation": row(
    "fix-and-resend",
    409,
    "The step leads to another generation than it should: read the record.",
  ),
  "migration/fence-missing": row(
    "fix-and-resend",
    422,
    "The switch needs a fence that is not the present one.",
  ),

  // MLS groups
  "group/needs-anonymous": row(
    "fix-and-resend",
    400,
    "Frames of MLS groups go over anonymous connections only: send it on one.",
  ),
  "group/exists": row("give-up", 409, "Another group has this id: draw a new one."),
  "group/not-open": row(
    "fix-and-resend",
    403,
    "The group is not open on this connection: send GroupAccess first.",
  ),
  "group/not-a-member": row(
    "give-up",
    403,
    "The signature is by no leaf of the group, or the leaf is removed or banned: the device is no member.",
  ),
  "group/link-expired": row("give-up", 410, "The invite link has expired: ask for another one."),
  "group/too-many-open": row(
    "fix-and-resend",
    409,
    "The connection has as many groups open as it may: open this one on another.",
  ),
  "group/rejoin": row(
    "fix-and-resend",
    410,
    "The entries that the device needs are gone: ask for the GroupInfo and join again by external commit.",
  ),
  "group/epoch-outdated": row(
    "fix-and-resend",
    409,
    "The message is of an epoch that is too old, or a member was removed since: take the commits, encrypt anew.",
  ),
  "group/epoch-unknown": row(
    "fix-and-resend",
    409,
    "The message is of an epoch that the service has not reached: the service was set back, or the client is wrong.",
  ),
  "group/commit-invalid": row(
    "give-up",
    422,
    "The members would refuse this commit or proposal: it breaks a rule of MLS or of the group.",
  ),
  "group/welcome-mismatch": row(
    "fix-and-resend",
    422,
    "The Welcome and its recipients do not fit the Adds of the commit.",
  ),
  "group/too-many-proposals": row(
    "retry-later",
    429,
    "Too many proposals wait: they have to be committed first.",
  ),
  "group/turn-passed": row("give-up", 409, "The turn is over: nothing needs to be done."),
  "group/not-allowed": row(
    "give-up",
    403,
    "The group's roles or settings do not allow this leaf to do that.",
  ),
  "group/slow-mode": row("retry-later", 429, "The group is in slow mode: wait, then send the same again."),
  "group/not-delivered": row(
    "give-up",
    409,
    "An entry was acknowledged that was not delivered on this connection: a bug in the sender.",
  ),
  "group/refeed-refused": row(
    "give-up",
    409,
    "What was fed again does not lead on from what the service has, or a member would refuse it: nothing is stored.",
  ),
  "group/busy": row("retry-later", 503, "The group has too much waiting: wait, then send the same again."),
  "key-packages/bad-key-package": row(
    "fix-and-resend",
    422,
    "A KeyPackage is malformed, expired, or not this device's: generate it anew.",
  ),
  "key-packages/too-many": row("give-up", 409, "The device has enough KeyPackages stored."),
  "trees/unknown": row("give-up", 404, "There is no such tree (any more): ask for the present GroupInfo."),

  // Blobs
  "blob/unknown": row("give-up", 404, "There is no such attachment, or it has expired."),
  "blob/exists": row("give-up", 409, "Another attachment has this id: choose a new one."),
  "blob/bad-range": row("fix-and-resend", 416, "The range lies outside the attachment."),

  // HTTP
  "http/body-incomplete": row(
    "retry",
    400,
    "The connection ended before the announced length: send it again.",
  ),
  "http/unknown-route": row("give-up", 404, "There is no such path: compare versions."),
  "http/method-not-allowed": row("give-up", 405, "The path knows other methods."),
  "http/bad-content-type": row(
    "give-up",
    415,
    "Bodies are application/x-protobuf, attachments application/octet-stream.",
  ),
  "http/length-required": row("give-up", 411, "An attachment's length must be announced."),
  "http/bad-path": row("give-up", 400, "An id in the path is malformed."),

  // The service itself
  "rate/limited": row("retry-later", 429, "Too many requests: wait, then send the same again."),
  "service/draining": closing(
    "retry-later",
    503,
    "The service is about to stop: connect again and send the same.",
  ),
  "service/overloaded": row(
    "retry-later",
    503,
    "The service has too much to do: wait, then send the same again.",
  ),
  "service/internal": row(
    "retry-later",
    500,
    "A bug in the service, which its log names: wait, then send the same again.",
  ),
} as const satisfies Readonly<Record<string, Row>>;

/** A stable code that the delivery service answers with. */
export type RejectionCode = keyof typeof rejections;

/** Whether a code is one of the table's. */
export function isRejectionCode(code: string): code is RejectionCode {
  return Object.hasOwn(rejections, code);
}

/** The table's row. Throws InvariantError `wire/unlisted-code` for a code that nobody listed. */
export function rejectionRow(code: string): Row {
  if (!isRejectionCode(code)) throw new InvariantError("wire/unlisted-code", code);
  return rejections[code];
}

/** The rejection message of a code, with the action of the table. */
export function createRejection(code: RejectionCode, retryAfterMs?: number): Rejection {
  const { action } = rejections[code];
  return retryAfterMs === undefined ? { code, action } : { code, action, retryAfterMs };
}

/** The body of an HTTP answer from 400 on. */
export function encodeRejection(code: RejectionCode, retryAfterMs?: number): Bytes {
  return encodeMessage(rejection, createRejection(code, retryAfterMs));
}

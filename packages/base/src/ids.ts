/**
 * The identifiers that client and delivery service share. An id of 16 random bytes is branded, so that an
 * account can never be passed where a group is meant; its text form is unpadded base64url (22 characters).
 * Nothing here makes randomness: whoever needs a new id draws 16 bytes and brands them.
 */
import { type Bytes, fromBase64Url, toBase64Url } from "./bytes.ts";
import { RejectionError } from "./errors.ts";

declare const brand: unique symbol;
type Branded<T, Name extends string> = T & { readonly [brand]: Name };

/** Names an account. Chosen by the client at registration. */
export type AccountId = Branded<Bytes, "AccountId">;
/** Names a conversation of more than two members. Chosen by its creator. */
export type GroupId = Branded<Bytes, "GroupId">;
/** Names an application message for its whole life, whichever protocol carries it. Chosen by the sender. */
export type MessageId = Branded<Bytes, "MessageId">;
/** Names an opaque attachment at the delivery service. Chosen by the uploader, unguessable. */
export type BlobId = Branded<Bytes, "BlobId">;
/** Names one submit, so that sending the same submit again stores nothing twice. Chosen by the sender. */
export type SubmitId = Branded<Bytes, "SubmitId">;
/** Names one mailbox store of a delivery service: a new one means that mailboxes were lost or replaced. */
export type StoreId = Branded<Bytes, "StoreId">;
/** A device within its account, 1 to 127. */
export type DeviceId = Branded<number, "DeviceId">;
/** The delivery service's number of an envelope within one mailbox: strictly rising, from 1. */
export type EnvelopeId = Branded<number, "EnvelopeId">;

/** Length of every random id, in bytes. */
export const ID_BYTES = 16;
/** Largest device id: it must fit the address of a Signal session. */
export const MAX_DEVICE_ID = 127;
/** Most devices that one account may have. Every other limit counts devices. */
export const MAX_DEVICES_PER_ACCOUNT = 5;
/** Length of the text form of a random id, in characters. */
export const ID_TEXT_LENGTH = 22;

/** One device of one account: where pairwise sessions lead and where mailboxes stand. */
export interface DeviceAddress {
  readonly accountId: AccountId;
  readonly deviceId: DeviceId;
}

function checkedId<T>(bytes: Uint8Array): T {
  if (bytes.length !== ID_BYTES) throw new RejectionError("id/bad-length");
  return new Uint8Array(bytes) as unknown as T;
}

function parsedId<T>(text: string): T {
  if (text.length !== ID_TEXT_LENGTH) throw new RejectionError("id/bad-text");
  try {
    return checkedId<T>(fromBase64Url(text));
  } catch {
    throw new RejectionError("id/bad-text");
  }
}

/** Brands a copy of 16 bytes. Throws RejectionError `id/bad-length`. So do its siblings below. */
export const accountId = (bytes: Uint8Array): AccountId => checkedId<AccountId>(bytes);
export const groupId = (bytes: Uint8Array): GroupId => checkedId<GroupId>(bytes);
export const messageId = (bytes: Uint8Array): MessageId => checkedId<MessageId>(bytes);
export const blobId = (bytes: Uint8Array): BlobId => checkedId<BlobId>(bytes);
export const submitId = (bytes: Uint8Array): SubmitId => checkedId<SubmitId>(bytes);
export const storeId = (bytes: Uint8Array): StoreId => checkedId<StoreId>(bytes);

/** Parses the text form. Throws RejectionError `id/bad-text`. So do its siblings below. */
export const parseAccountId = (text: string): AccountId => parsedId<AccountId>(text);
export const parseGroupId = (text: string): GroupId => parsedId<GroupId>(text);
export const parseMessageId = (text: string): MessageId => parsedId<MessageId>(text);
export const parseBlobId = (text: string): BlobId => parsedId<BlobId>(text);

/** Any random id. */
export type AnyId = AccountId | GroupId | MessageId | BlobId | SubmitId | StoreId;

/** The text form: unpadded base64url, fit for a URL, a map key and a screen. */
export function formatId(id: AnyId): string {
  return toBase64Url(id);
}

/** Brands a device id. Throws RejectionError `id/bad-device-id` outside 1 to 127. */
export function deviceId(value: number): DeviceId {
  if (!Number.isInteger(value) || value < 1 || value > MAX_DEVICE_ID) {
    throw new RejectionError("id/bad-device-id");
  }
  return value as DeviceId;
}

/** Brands an envelope id. Throws RejectionError `id/bad-envelope-id` unless it is an integer from 0 below 2^53. */
export function envelopeId(value: number): EnvelopeId {
  if (!Number.isSafeInteger(value) || value < 0) throw new RejectionError("id/bad-envelope-id");
  return value as EnvelopeId;
}

/** Text form of a device address, `<account>.<device>`: a map key, and the name of an address queue. */
export function formatAddress(address: DeviceAddress): string {
  return `${toBase64Url(address.accountId)}.${address.deviceId}`;
}

/** Parses {@link formatAddress}. Throws RejectionError `id/bad-text` or `id/bad-device-id`. */
export function parseAddress(text: string): DeviceAddress {
  const [account, device, ...rest] = text.split(".");
  if (account === undefined || device === undefined || rest.length > 0 || !/^[1-9][0-9]{0,2}$/.test(device)) {
    throw new RejectionError("id/bad-text");
  }
  return { accountId: parseAccountId(account), deviceId: deviceId(Number(device)) };
}

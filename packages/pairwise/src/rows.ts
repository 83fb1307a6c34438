import {
  type AccountId,
  accountId,
  type Bytes,
  decodeWhole,
  encode,
  ID_BYTES,
  type Reader,
  type Writer,
} from "@murmuration/base";
import { PUBLIC_KEY_BYTES } from "./public-keys.ts";

/**
 * The values of our own rows. Each begins with a format byte, so that a later version can tell. Session
 * rows are libsignal's serialized records as they are.
 */
const FORMAT = 1;

export interface RowCodec<T> {
  encode(value: T): Bytes;
  decode(bytes: Bytes): T;
}

function codec<T>(write: (writer: Writer, value: T) => void, read: (reader: Reader) => T): RowCodec<T> {
  return {
    encode: (value) => encode(value, (writer, item) => write(writer.uint8(FORMAT), item)),
    decode: (bytes) =>
      decodeWhole(bytes, (reader) => {
        reader.uint8();
        return read(reader);
      }),
  };
}

const own = (bytes: Uint8Array): Bytes => new Uint8Array(bytes);
const number64 = (reader: Reader): number => Number(reader.uint64());

/** Row `own/identity`: this device, complete once `deviceId` is not 0. */
export interface OwnIdentityRow {
  readonly accountId: AccountId;
  /** 0 while a link request waits for its device list. */
  readonly deviceId: number;
  readonly registrationId: number;
  /** Serialized IdentityKeyPair. */
  readonly deviceKeyPair: Bytes;
  readonly accountIdentityKey: Bytes;
  /** Serialized IdentityKeyPair of the account, on the device that signs lists. */
  readonly accountKeyPair: Bytes | undefined;
  /** The highest device id this account ever used: ids are not given to two devices. */
  readonly highestDeviceId: number;
}

export const ownIdentityRow = codec<OwnIdentityRow>(
  (writer, row) => {
    writer.fixed(row.accountId).uint8(row.deviceId).uint16(row.registrationId).bytes(row.deviceKeyPair);
    writer.fixed(row.accountIdentityKey);
    writer.optional(row.accountKeyPair, (inner, pair) => inner.bytes(pair)).uint8(row.highestDeviceId);
  },
  (reader) => ({
    accountId: accountId(reader.fixed(ID_BYTES)),
    deviceId: reader.uint8(),
    registrationId: reader.uint16(),
    deviceKeyPair: own(reader.bytes()),
    accountIdentityKey: own(reader.fixed(PUBLIC_KEY_BYTES)),
    accountKeyPair: reader.optional((inner) => own(inner.bytes())),
    highestDeviceId: reader.uint8(),
  }),
);

/** Row `account/<id>`. */
export interface AccountRow {
  readonly accountIdentityKey: Bytes;
  readonly verified: boolean;
  /** The verified signed list with another account key that awaits a decision. */
  readonly claim: Bytes | undefined;
}

export const accountRow = codec<AccountRow>(
  (writer, row) => {
    writer.fixed(row.accountIdentityKey).uint8(row.verified ? 1 : 0);
    writer.optional(row.claim, (inner, claim) => inner.bytes(claim));
  },
  (reader) => ({
    accountIdentityKey: own(reader.fixed(PUBLIC_KEY_BYTES)),
    verified: reader.uint8() === 1,
    claim: reader.optional((inner) => own(inner.bytes())),
  }),
);

/** Rows `pre-key/<id>`, `signed-pre-key/<id>` and `kyber-pre-key/<id>`. */
export interface TimedKeyRow {
  readonly lastResort: boolean;
  readonly createdAtMs: number;
  /** When a newer one took its place; 0 while it is the current one, and for one-time keys. */
  readonly replacedAtMs: number;
  readonly record: Bytes;
}

export const timedKeyRow = codec<TimedKeyRow>(
  (writer, row) => {
    writer.uint8(row.lastResort ? 1 : 0);
    writer.uint64(BigInt(row.createdAtMs)).uint64(BigInt(row.replacedAtMs)).bytes(row.record);
  },
  (reader) => ({
    lastResort: reader.uint8() === 1,
    createdAtMs: number64(reader),
    replacedAtMs: number64(reader),
    record: own(reader.bytes()),
  }),
);

/** Count of retries for one reference. */
export interface RetryCount {
  readonly reference: number;
  readonly count: number;
}

/** Row `received/<address>`: what tells a duplicate from a message that was never read, and counts retries. */
export interface ReceivedRow {
  /** Digests of the last accepted ciphertexts, newest last. */
  readonly digests: readonly Bytes[];
  readonly retries: readonly RetryCount[];
}

export const DIGEST_BYTES = 8;

function writeRetries(writer: Writer, retries: readonly RetryCount[]): void {
  writer.vector(retries, (inner, retry) => inner.uint64(BigInt(retry.reference)).uint8(retry.count));
}

function readRetries(reader: Reader): RetryCount[] {
  return reader.vector((inner) => ({ reference: number64(inner), count: inner.uint8() }));
}

export const receivedRow = codec<ReceivedRow>(
  (writer, row) => {
    writer.vector(row.digests, (inner, digest) => inner.fixed(digest));
    writeRetries(writer, row.retries);
  },
  (reader) => ({
    digests: reader.vector((inner) => own(inner.fixed(DIGEST_BYTES))),
    retries: readRetries(reader),
  }),
);

/** Row `resent/<address>`: how often each reference was asked for again. */
export const resentRow = codec<readonly RetryCount[]>(writeRetries, readRetries);

import {
  type Bytes,
  decodeWhole,
  encode,
  equalBytes,
  invariant,
  type Reader,
  toBase64Url,
  type Writer,
} from "@murmuration/base";
import {
  KEMKeyPair,
  KyberPreKeyRecord,
  PreKeyRecord,
  PrivateKey,
  SignedPreKeyRecord,
} from "@signalapp/libsignal-client";
import type { PreKeyCounts, PreKeyUpload, PublicPreKey, SignedPublicPreKey } from "./api.ts";
import type { Overlay } from "./overlay.ts";
import { type OwnDevice, requireOwnDevice } from "./own-identity.ts";
import { SIGNATURE_BYTES } from "./public-keys.ts";
import { type TimedKeyRow, timedKeyRow } from "./rows.ts";
import type { WorkMeter } from "./work-meter.ts";

const DAY_MS = 24 * 60 * 60 * 1_000;
/** One-time keys of each kind that the key directory has at most; as many as it should have, unless a device wants fewer. */
export const MAX_ONE_TIME = 100;
/** Below this part of what it should have, the directory is filled up. */
const REPLENISH_BELOW = 1 / 4;
/** Signed prekey and last-resort Kyber prekey are replaced this often. */
const ROTATE_AFTER_MS = 7 * DAY_MS;
/** A replaced key still opens first messages that lie in a mailbox: as long as those are kept. */
const KEEP_REPLACED_MS = 30 * DAY_MS;
/** One-time private keys kept of each kind; an attacker who claims bundles cannot fill our disk. */
const MAX_ONE_TIME_KEPT = 2_000;
/** libsignal's prekey ids are 24 bits; 0 is not used. */
export const MAX_PRE_KEY_ID = 0xff_ffff;

interface Generation {
  readonly overlay: Overlay;
  readonly own: OwnDevice;
  readonly nowMs: number;
  readonly random: (length: number) => Bytes;
  readonly meter: WorkMeter;
  readonly renew: boolean;
}

/**
 * Decides what the key directory lacks and generates it. The upload is a row until it is confirmed, so a crash
 * before or after the upload repeats the same bytes. At most 202 key generations.
 */
export async function preparePreKeys(
  overlay: Overlay,
  counts: PreKeyCounts,
  nowMs: number,
  random: (length: number) => Bytes,
  meter: WorkMeter,
  stock: number,
): Promise<PreKeyUpload | undefined> {
  const own = requireOwnDevice(overlay);
  const pending = readPendingUpload(overlay);
  // The directory may still hand out what this upload replaces.
  if (pending !== undefined) return pending;
  // Read once: the one-time Kyber keys among them are most of what a device stores for itself.
  const signed = replaceable(overlay, "signed-pre-key");
  const kyber = replaceable(overlay, "kyber-pre-key");
  expireReplaced(overlay, "signed-pre-key", signed, nowMs);
  expireReplaced(overlay, "kyber-pre-key", kyber, nowMs);
  const generation = { overlay, own, nowMs, random, meter, renew: counts.renew ?? false };
  const upload: PreKeyUpload = {
    uploadId: random(16),
    signedPreKey: await rotateSignedPreKey(generation, signed),
    lastResortKyberPreKey: await rotateLastResort(generation, kyber),
    preKeys: await generatePreKeys(generation, missing(counts.preKeys, stock)),
    kyberPreKeys: await generateKyberPreKeys(generation, missing(counts.kyberPreKeys, stock)),
  };
  if (isEmpty(upload)) return undefined;
  trimOneTimeKeys(overlay, "pre-key");
  trimOneTimeKeys(overlay, "kyber-pre-key");
  overlay.write("own", "upload", encodeUpload(upload));
  return upload;
}

function missing(count: number, stock: number): number {
  return count < stock * REPLENISH_BELOW ? stock - Math.max(0, count) : 0;
}

function isEmpty(upload: PreKeyUpload): boolean {
  const signed = upload.signedPreKey ?? upload.lastResortKyberPreKey;
  return signed === undefined && upload.preKeys.length === 0 && upload.kyberPreKeys.length === 0;
}

function readPendingUpload(overlay: Overlay): PreKeyUpload | undefined {
  const bytes = overlay.read("own", "upload");
  return bytes === undefined ? undefined : decodeUpload(bytes);
}

export function confirmPreKeyUpload(overlay: Overlay, uploadId: Bytes, nowMs: number): void {
  const pending = readPendingUpload(overlay);
  if (pending === undefined || !equalBytes(pending.uploadId, uploadId)) return;
  overlay.write("own", "upload", undefined);
  noteReplaced(overlay, "signed-pre-key", pending.signedPreKey, nowMs);
  noteReplaced(overlay, "kyber-pre-key", pending.lastResortKyberPreKey, nowMs);
}

/**
 * The directory has the successor from now on, not from when it was generated: a device that was off for weeks in
 * between still gets first messages made with the key before.
 */
function noteReplaced(
  overlay: Overlay,
  table: TimedTable,
  successor: SignedPublicPreKey | undefined,
  nowMs: number,
): void {
  if (successor === undefined) return;
  const { createdAtMs } = readTimed(overlay, table, String(successor.id));
  for (const { key, row } of replaceable(overlay, table)) {
    if (row.replacedAtMs !== createdAtMs) continue;
    overlay.write(table, key, timedKeyRow.encode({ ...row, replacedAtMs: Math.max(nowMs, createdAtMs) }));
  }
}

// Rotation.

type TimedTable = "pre-key" | "signed-pre-key" | "kyber-pre-key";

function readTimed(overlay: Overlay, table: TimedTable, key: string): TimedKeyRow {
  const bytes = overlay.read(table, key);
  invariant(bytes !== undefined, "pairwise/pre-key-row-missing");
  return timedKeyRow.decode(bytes);
}

interface Timed {
  readonly key: string;
  readonly row: TimedKeyRow;
}

/** Keys of a table that are rotated: all signed prekeys; of the Kyber prekeys the last-resort ones. Reads all rows. */
function replaceable(overlay: Overlay, table: TimedTable): readonly Timed[] {
  const rows = overlay.keys(table).map((key) => ({ key, row: readTimed(overlay, table, key) }));
  return table === "signed-pre-key" ? rows : rows.filter(({ row }) => row.lastResort);
}

/** True when there is no current key, it is a week old, or the clock went back behind its creation. */
function isDue(keys: readonly Timed[], nowMs: number): boolean {
  const current = keys.find(({ row }) => row.replacedAtMs === 0);
  if (current === undefined) return true;
  const ageMs = nowMs - current.row.createdAtMs;
  return ageMs >= ROTATE_AFTER_MS || ageMs < 0;
}

function markReplaced(overlay: Overlay, table: TimedTable, keys: readonly Timed[], nowMs: number): void {
  for (const { key, row } of keys) {
    if (row.replacedAtMs !== 0) continue;
    overlay.write(table, key, timedKeyRow.encode({ ...row, replacedAtMs: nowMs }));
  }
}

/** Deletes replaced keys 30 days after, and with a last-resort key the base keys seen with it. */
function expireReplaced(overlay: Overlay, table: TimedTable, keys: readonly Timed[], nowMs: number): void {
  for (const { key, row } of keys) {
    if (row.replacedAtMs === 0 || nowMs - row.replacedAtMs < KEEP_REPLACED_MS) continue;
    overlay.write(table, key, undefined);
    if (table === "kyber-pre-key") forgetBaseKeys(overlay, key);
  }
}

function forgetBaseKeys(overlay: Overlay, kyberKey: string): void {
  for (const key of overlay.keys("base-key")) {
    if (key.startsWith(`${kyberKey}.`)) overlay.write("base-key", key, undefined);
  }
}

async function rotateSignedPreKey(
  generation: Generation,
  keys: readonly Timed[],
): Promise<SignedPublicPreKey | undefined> {
  const { overlay, own, nowMs, random, meter, renew } = generation;
  if (!renew && !isDue(keys, nowMs)) return undefined;
  await meter.step();
  markReplaced(overlay, "signed-pre-key", keys, nowMs);
  const [id] = freshIds(overlay, "signed-pre-key", 1, random);
  const privateKey = PrivateKey.generate();
  const publicKey = privateKey.getPublicKey();
  const signature = own.identityKeyPair.privateKey.sign(publicKey.serialize());
  const record = SignedPreKeyRecord.new(id!, nowMs, publicKey, privateKey, signature).serialize();
  const row = { lastResort: false, createdAtMs: nowMs, replacedAtMs: 0, record };
  overlay.write("signed-pre-key", String(id), timedKeyRow.encode(row));
  return { id: id!, publicKey: publicKey.serialize(), signature };
}

async function rotateLastResort(
  generation: Generation,
  keys: readonly Timed[],
): Promise<SignedPublicPreKey | undefined> {
  const { overlay, nowMs, random, renew } = generation;
  if (!renew && !isDue(keys, nowMs)) return undefined;
  markReplaced(overlay, "kyber-pre-key", keys, nowMs);
  const [id] = freshIds(overlay, "kyber-pre-key", 1, random);
  return generateKyberPreKey(generation, id!, true);
}

async function generateKyberPreKey(
  { overlay, own, nowMs, meter }: Generation,
  id: number,
  lastResort: boolean,
): Promise<SignedPublicPreKey> {
  await meter.step();
  const pair = KEMKeyPair.generate();
  const publicKey = pair.getPublicKey().serialize();
  const signature = own.identityKeyPair.privateKey.sign(publicKey);
  const record = KyberPreKeyRecord.new(id, nowMs, pair, signature).serialize();
  const row = { lastResort, createdAtMs: nowMs, replacedAtMs: 0, record };
  overlay.write("kyber-pre-key", String(id), timedKeyRow.encode(row));
  return { id, publicKey, signature };
}

// One-time keys.

async function generatePreKeys(generation: Generation, count: number): Promise<PublicPreKey[]> {
  const { overlay, nowMs, random, meter } = generation;
  const keys: PublicPreKey[] = [];
  for (const id of freshIds(overlay, "pre-key", count, random)) {
    await meter.step();
    const privateKey = PrivateKey.generate();
    const publicKey = privateKey.getPublicKey();
    const record = PreKeyRecord.new(id, publicKey, privateKey).serialize();
    const row = { lastResort: false, createdAtMs: nowMs, replacedAtMs: 0, record };
    overlay.write("pre-key", String(id), timedKeyRow.encode(row));
    keys.push({ id, publicKey: publicKey.serialize() });
  }
  return keys;
}

async function generateKyberPreKeys(generation: Generation, count: number): Promise<SignedPublicPreKey[]> {
  const keys: SignedPublicPreKey[] = [];
  for (const id of freshIds(generation.overlay, "kyber-pre-key", count, generation.random)) {
    keys.push(await generateKyberPreKey(generation, id, false));
  }
  return keys;
}

/**
 * Successive ids from a random start that no row has. Random, because a database restored from an old copy
 * would count on from an old number and give an id, for which others hold a public key, to another key.
 */
function freshIds(
  overlay: Overlay,
  table: TimedTable,
  count: number,
  random: (length: number) => Bytes,
): number[] {
  const [high, middle, low] = random(3);
  let id = (high! << 16) | (middle! << 8) | low!;
  const ids: number[] = [];
  while (ids.length < count) {
    id = (id % MAX_PRE_KEY_ID) + 1;
    if (overlay.read(table, String(id)) === undefined) ids.push(id);
  }
  return ids;
}

/** Drops the oldest one-time keys of a kind beyond the limit. */
function trimOneTimeKeys(overlay: Overlay, table: "pre-key" | "kyber-pre-key"): void {
  const keys = overlay.keys(table);
  if (keys.length <= MAX_ONE_TIME_KEPT) return;
  const oldestFirst = keys
    .map((key) => ({ key, row: readTimed(overlay, table, key) }))
    .filter(({ row }) => !row.lastResort)
    .sort((a, b) => a.row.createdAtMs - b.row.createdAtMs);
  for (const { key } of oldestFirst.slice(0, Math.max(0, oldestFirst.length - MAX_ONE_TIME_KEPT))) {
    overlay.write(table, key, undefined);
  }
}

// Use of a Kyber prekey.

/**
 * A one-time key is deleted with its first use. The last-resort key stays, so for it each base key is noted:
 * a second first-message with the same base key is a replay. Returns false for such a one.
 */
export function useKyberPreKey(overlay: Overlay, kyberId: number, signedId: number, baseKey: Bytes): boolean {
  const key = String(kyberId);
  if (!readTimed(overlay, "kyber-pre-key", key).lastResort) {
    overlay.write("kyber-pre-key", key, undefined);
    return true;
  }
  const seen = `${key}.${signedId}.${toBase64Url(baseKey)}`;
  if (overlay.read("base-key", seen) !== undefined) return false;
  overlay.write("base-key", seen, new Uint8Array([1]));
  return true;
}

// The row of an upload that is not confirmed yet.

function writeKey(writer: Writer, key: PublicPreKey): void {
  writer.uint32(key.id).bytes(key.publicKey);
}

function writeSignedKey(writer: Writer, key: SignedPublicPreKey): void {
  writeKey(writer, key);
  writer.fixed(key.signature);
}

function readKey(reader: Reader): PublicPreKey {
  return { id: reader.uint32(), publicKey: new Uint8Array(reader.bytes()) };
}

function readSignedKey(reader: Reader): SignedPublicPreKey {
  return { ...readKey(reader), signature: new Uint8Array(reader.fixed(SIGNATURE_BYTES)) };
}

function encodeUpload(upload: PreKeyUpload): Bytes {
  return encode(upload, (writer, item) => {
    writer.fixed(item.uploadId);
    writer.optional(item.signedPreKey, writeSignedKey);
    writer.optional(item.lastResortKyberPreKey, writeSignedKey);
    writer.vector(item.preKeys, writeKey).vector(item.kyberPreKeys, writeSignedKey);
  });
}

function decodeUpload(bytes: Bytes): PreKeyUpload {
  return decodeWhole(bytes, (reader) => ({
    uploadId: new Uint8Array(reader.fixed(16)),
    signedPreKey: reader.optional(readSignedKey),
    lastResortKyberPreKey: reader.optional(readSignedKey),
    preKeys: reader.vector(readKey),
    kyberPreKeys: reader.vector(readSignedKey),
  }));
}

import {
  type Bytes,
  decodeWhole,
  InvariantError,
  RejectionError,
  UsageError,
  Writer,
  zeroize,
} from "@murmuration/base";
import { deriveTreeSecret } from "../crypto/labeled.ts";
import type { CryptoProvider } from "../crypto/provider.ts";

/** Key and nonce of one generation, before the reuse guard. */
export interface MessageKey {
  readonly generation: number;
  readonly key: Bytes;
  readonly nonce: Bytes;
}

/**
 * A sender ratchet (RFC 9420 section 9.1): the secret of the next generation, and keys of skipped generations
 * for messages that are still under way, oldest first.
 */
export interface HashRatchet {
  /** 0 to 2^32; at 2^32 the ratchet is used up. */
  readonly next: number;
  readonly secret: Bytes;
  readonly skipped: readonly MessageKey[];
}

/** How far a receiver follows a sender. */
export interface RatchetLimits {
  /** Generations that one message may skip; more is refused before any work. */
  readonly maxForward: number;
  /** Keys of skipped generations kept per ratchet; the oldest go first. */
  readonly maxSkipped: number;
}

const GENERATIONS = 2 ** 32;
const VERSION = 1;

/** The key of one generation and the ratchet as it will be once that generation is consumed. */
export interface RatchetStep {
  readonly messageKey: MessageKey;
  readonly after: HashRatchet;
}

/**
 * Finds the key of a generation without changing the ratchet. Three HMACs for the next generation, none for
 * a skipped one, and one to three for each generation that is skipped. Throws RejectionError
 * `mls/generation-too-far` before any work, or `mls/generation-spent` for a generation that was consumed or
 * let go.
 */
export function stepTo(
  crypto: CryptoProvider,
  ratchet: HashRatchet,
  generation: number,
  limits: RatchetLimits,
): RatchetStep {
  if (generation < ratchet.next) return takeSkipped(ratchet, generation);
  if (generation - ratchet.next > limits.maxForward) throw new RejectionError("mls/generation-too-far");
  const skipped = [...ratchet.skipped];
  const firstKept = generation - limits.maxSkipped;
  let secret = ratchet.secret;
  for (let i = ratchet.next; i < generation; i++) {
    if (i >= firstKept) skipped.push(keyOf(crypto, secret, i));
    const following = deriveTreeSecret(crypto, secret, "secret", i, crypto.suite.hashLength);
    if (secret !== ratchet.secret) zeroize(secret);
    secret = following;
  }
  const messageKey = keyOf(crypto, secret, generation);
  const following = deriveTreeSecret(crypto, secret, "secret", generation, crypto.suite.hashLength);
  if (secret !== ratchet.secret) zeroize(secret);
  const kept = skipped.slice(Math.max(0, skipped.length - limits.maxSkipped));
  return { messageKey, after: { next: generation + 1, secret: following, skipped: kept } };
}

/** The key to send with. Throws UsageError `mls/generations-exhausted` after 2^32 messages of one epoch. */
export function stepToSend(crypto: CryptoProvider, ratchet: HashRatchet, limits: RatchetLimits): RatchetStep {
  if (ratchet.next >= GENERATIONS) throw new UsageError("mls/generations-exhausted");
  return stepTo(crypto, ratchet, ratchet.next, limits);
}

function takeSkipped(ratchet: HashRatchet, generation: number): RatchetStep {
  const found = ratchet.skipped.find((key) => key.generation === generation);
  if (found === undefined) throw new RejectionError("mls/generation-spent");
  const messageKey = { generation, key: found.key.slice(), nonce: found.nonce.slice() };
  return {
    messageKey,
    after: { ...ratchet, skipped: ratchet.skipped.filter((key) => key !== found) },
  };
}

function keyOf(crypto: CryptoProvider, secret: Uint8Array, generation: number): MessageKey {
  const { keyLength, nonceLength } = crypto.suite;
  return {
    generation,
    key: deriveTreeSecret(crypto, secret, "key", generation, keyLength),
    nonce: deriveTreeSecret(crypto, secret, "nonce", generation, nonceLength),
  };
}

/** Wipes what `spent` holds and `kept` does not. Either may be missing. */
export function wipeRatchet(spent: HashRatchet | undefined, kept: HashRatchet | undefined): void {
  if (spent === undefined) return;
  if (spent.secret !== kept?.secret) zeroize(spent.secret);
  for (const key of spent.skipped) {
    if (!kept?.skipped.includes(key)) zeroize(key.key, key.nonce);
  }
}

/** uint8 version; uint64 next; opaque secret<V>; then uint32 generation, key and nonce for each skipped key. */
export function encodeRatchet(ratchet: HashRatchet): Bytes {
  const writer = new Writer(64 + ratchet.skipped.length * 48).uint8(VERSION);
  writer.uint64(BigInt(ratchet.next)).bytes(ratchet.secret);
  for (const { generation, key, nonce } of ratchet.skipped) writer.uint32(generation).fixed(key).fixed(nonce);
  return writer.finish();
}

/** Throws InvariantError `mls/bad-secret-tree-row` if the row is not one that {@link encodeRatchet} wrote. */
export function decodeRatchet(crypto: CryptoProvider, row: Uint8Array): HashRatchet {
  const { hashLength, keyLength, nonceLength } = crypto.suite;
  try {
    return decodeWhole(row, (reader) => {
      const version = reader.uint8();
      const next = Number(reader.uint64());
      const secret = reader.bytes().slice() as Bytes;
      if (version !== VERSION || next > GENERATIONS || secret.length !== hashLength) throw new RangeError();
      const skipped: MessageKey[] = [];
      while (reader.remaining > 0) {
        const generation = reader.uint32();
        const key = reader.fixed(keyLength).slice() as Bytes;
        skipped.push({ generation, key, nonce: reader.fixed(nonceLength).slice() as Bytes });
      }
      return { next, secret, skipped };
    });
  } catch {
    throw new InvariantError("mls/bad-secret-tree-row");
  }
}

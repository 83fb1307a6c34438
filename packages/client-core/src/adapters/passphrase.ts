/**
 * A database key from a passphrase: Argon2id, with the salt and the cost in a small file beside the database.
 * The salt is no secret, and without it the passphrase opens nothing: it belongs into every backup.
 */
import { argon2Sync, randomBytes } from "node:crypto";
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import {
  type Bytes,
  decodeWhole,
  encode,
  RejectionError,
  UsageError,
  utf8,
  zeroize,
} from "@murmuration/base";
import { argon2id } from "@noble/hashes/argon2.js";
import { DATABASE_KEY_BYTES } from "./sqlcipher.ts";

/** What one guess costs an attacker, and one unlock the user. */
export interface Argon2Cost {
  /** KiB of memory. Default 262,144 (256 MiB). */
  readonly memoryKib: number;
  /** Passes over it. Default 3. */
  readonly passes: number;
  /** Default 1. */
  readonly lanes: number;
}

export const DEFAULT_ARGON2_COST: Argon2Cost = { memoryKib: 262_144, passes: 3, lanes: 1 };
const SALT_BYTES = 16;
const VERSION = 1;
/** Largest cost that a salt file may demand: it lies unprotected and must not make an unlock run forever. */
const MAX_MEMORY_KIB = 4 * 1024 * 1024;
const MAX_PASSES = 64;

interface SaltFile {
  readonly salt: Bytes;
  readonly cost: Argon2Cost;
}

const encodeSaltFile = (file: SaltFile): Bytes =>
  encode(file, (writer, { salt, cost }) => {
    writer.uint8(VERSION).bytes(salt).uint32(cost.memoryKib).uint32(cost.passes).uint8(cost.lanes);
  });

function decodeSaltFile(input: Uint8Array): SaltFile {
  const file = decodeWhole(input, (reader) => ({
    version: reader.uint8(),
    salt: new Uint8Array(reader.bytes()),
    cost: { memoryKib: reader.uint32(), passes: reader.uint32(), lanes: reader.uint8() },
  }));
  const { version, salt, cost } = file;
  if (version !== VERSION || salt.length !== SALT_BYTES) throw new RejectionError("storage/bad-salt-file");
  if (cost.memoryKib > MAX_MEMORY_KIB || cost.passes > MAX_PASSES || cost.lanes < 1 || cost.passes < 1) {
    throw new RejectionError("storage/bad-salt-file");
  }
  return file;
}

/** Written beside and renamed, so that a crash leaves either no file or a whole one. */
function writeDurably(path: string, content: Bytes): void {
  const temporary = `${path}.new`;
  const file = openSync(temporary, "w", 0o600);
  try {
    writeSync(file, content);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
  const directory = openSync(dirname(path), "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/** Argon2id of a passphrase: with node:crypto where it has it (Node 24.7), else @noble/hashes (slower). */
function deriveKey(passphrase: string, salt: Bytes, cost: Argon2Cost): Bytes {
  const secret = utf8(passphrase.normalize("NFKC"));
  try {
    if (typeof argon2Sync === "function") {
      const derived = argon2Sync("argon2id", {
        message: secret,
        nonce: salt,
        parallelism: cost.lanes,
        tagLength: DATABASE_KEY_BYTES,
        memory: cost.memoryKib,
        passes: cost.passes,
      });
      return new Uint8Array(derived);
    }
    const derived = argon2id(secret, salt, {
      t: cost.passes,
      m: cost.memoryKib,
      p: cost.lanes,
      dkLen: DATABASE_KEY_BYTES,
      maxmem: 2 ** 32,
    });
    return new Uint8Array(derived);
  } finally {
    zeroize(secret);
  }
}

/**
 * The key of the database at `path`, made from a passphrase. The first call draws a salt and writes it to
 * `<path>.salt`; later ones read it, and with it the cost of then.
 */
export function keyFromPassphrase(
  path: string,
  passphrase: string,
  cost: Argon2Cost = DEFAULT_ARGON2_COST,
): Bytes {
  if (passphrase === "") throw new UsageError("storage/empty-passphrase");
  const saltPath = `${path}.salt`;
  if (!existsSync(saltPath)) {
    if (existsSync(path)) throw new RejectionError("storage/salt-file-missing");
    writeDurably(saltPath, encodeSaltFile({ salt: new Uint8Array(randomBytes(SALT_BYTES)), cost }));
  }
  const file = decodeSaltFile(readFileSync(saltPath));
  return deriveKey(passphrase, file.salt, file.cost);
}

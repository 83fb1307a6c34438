/**
 * Finds the official files. Each candidate's SHA-256 is compared with the manifest before anything is parsed:
 * a file that differs is an error and never "missing", so a damaged copy cannot turn a run green.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { VectorFormats } from "./formats.ts";
import { type ManifestEntry, manifestEntry, type VectorName } from "./manifest.ts";

/** A file with a known name and other bytes than the manifest states, or a download that went wrong. */
export class VectorFileError extends Error {
  readonly code: "spec-vectors/hash-mismatch" | "spec-vectors/download-failed";
  constructor(code: VectorFileError["code"], explanation: string) {
    super(`${code}: ${explanation}`);
    this.name = "VectorFileError";
    this.code = code;
  }
}

export interface LoadedVectors<N extends VectorName> {
  readonly cases: readonly VectorFormats[N][];
  /** Path of the file that was read. */
  readonly origin: string;
}

export interface MissingVectors {
  readonly missing: true;
  /** One sentence for a person. */
  readonly howToGet: string;
}

/** The folders that are searched, in order; tests and the command line may name their own. */
export interface VectorPlaces {
  readonly folders: readonly string[];
  /** Where {@link fetchVectors} stores what it downloaded. */
  readonly cache: string;
}

const repository = resolve(fileURLToPath(import.meta.url), "../../..");

/** `$SPEC_VECTORS_DIR`, the cache in the repository, and `shared/spec-vectors/mls` beside the repository. */
export function defaultPlaces(environment: NodeJS.ProcessEnv = process.env): VectorPlaces {
  const cache = join(repository, ".cache", "spec-vectors");
  const named = environment["SPEC_VECTORS_DIR"];
  const folders = [cache, resolve(repository, "../shared/spec-vectors/mls")];
  return { folders: named ? [resolve(named), ...folders] : folders, cache };
}

/** Throws `spec-vectors/hash-mismatch` unless the bytes are the ones the manifest pins. */
export function verifyVectorBytes(entry: ManifestEntry, bytes: Uint8Array, origin: string): void {
  if (createHash("sha256").update(bytes).digest("hex") === entry.sha256) return;
  throw new VectorFileError(
    "spec-vectors/hash-mismatch",
    `${origin} is not the ${entry.name}.json of the manifest; delete it, or correct SPEC_VECTORS_DIR`,
  );
}

const HOW_TO_GET =
  "run `npm run fetch -w spec-vectors` with a network, or point SPEC_VECTORS_DIR at a folder with the files";

/**
 * One official file from the first folder that has it, parsed. Never touches the network.
 *
 * @throws VectorFileError `spec-vectors/hash-mismatch` when that folder's file is not the pinned one.
 */
export function loadVectors<N extends VectorName>(
  name: N,
  places: VectorPlaces = defaultPlaces(),
): LoadedVectors<N> | MissingVectors {
  const entry = manifestEntry(name);
  for (const folder of places.folders) {
    const origin = join(folder, `${name}.json`);
    if (!existsSync(origin)) continue;
    const bytes = readFileSync(origin);
    verifyVectorBytes(entry, bytes, origin);
    return { cases: JSON.parse(bytes.toString("utf8")) as VectorFormats[N][], origin };
  }
  return { missing: true, howToGet: HOW_TO_GET };
}

/** Whether some folder has a file of this name; its hash is verified only when it is loaded. */
export function hasVectors(name: VectorName, places: VectorPlaces = defaultPlaces()): boolean {
  return places.folders.some((folder) => existsSync(join(folder, `${name}.json`)));
}

export interface FetchOptions {
  readonly places?: VectorPlaces;
  /** For the whole file, connecting included. */
  readonly timeoutMs?: number;
  readonly fetch?: (url: string, options: { signal: AbortSignal }) => Promise<Response>;
}

/**
 * Downloads one official file into the cache. It appears there, by a rename, only after its hash matched.
 *
 * @throws VectorFileError `spec-vectors/download-failed` (no network, time limit, HTTP status, size) or
 *   `spec-vectors/hash-mismatch`.
 */
export async function fetchVectors(name: VectorName, options: FetchOptions = {}): Promise<void> {
  const { places = defaultPlaces(), timeoutMs = 20_000, fetch: get = fetch } = options;
  const entry = manifestEntry(name);
  const bytes = await download(entry, timeoutMs, get);
  verifyVectorBytes(entry, bytes, entry.url);
  mkdirSync(places.cache, { recursive: true });
  const target = join(places.cache, `${name}.json`);
  const partial = `${target}.${process.pid}.partial`;
  writeFileSync(partial, bytes);
  renameSync(partial, target);
}

async function download(
  entry: ManifestEntry,
  timeoutMs: number,
  get: NonNullable<FetchOptions["fetch"]>,
): Promise<Uint8Array> {
  const failed = (why: string) =>
    new VectorFileError("spec-vectors/download-failed", `${entry.name}: ${why}`);
  try {
    const response = await get(entry.url, { signal: AbortSignal.timeout(timeoutMs) });
    if (!response.ok || response.body === null) throw failed(`HTTP status ${response.status}`);
    const parts: Uint8Array[] = [];
    let size = 0;
    for await (const part of response.body) {
      size += part.length;
      if (size > entry.size) throw failed("larger than the manifest states");
      parts.push(part);
    }
    return Buffer.concat(parts);
  } catch (error) {
    if (error instanceof VectorFileError) throw error;
    throw failed(
      error instanceof Error && error.name === "TimeoutError" ? "no answer in time" : "no connection",
    );
  }
}

/**
 * What a test file asks for: the cases of one format, official ones and known answers of our own together, and
 * the rule for a machine that cannot have the official ones.
 */
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { VectorFormats } from "./formats.ts";
import { defaultPlaces, fetchVectors, hasVectors, loadVectors, type VectorPlaces } from "./load.ts";
import { manifest, type VectorName } from "./manifest.ts";

const knownAnswersFolder = resolve(fileURLToPath(import.meta.url), "../../known-answers");

export interface VectorCase<T> {
  /** For a test title, such as `official 12 (suite 3)`. */
  readonly title: string;
  readonly source: "official" | "known-answers";
  /** Position in its file. */
  readonly index: number;
  readonly vector: T;
}

export interface CaseOptions {
  readonly places?: VectorPlaces;
  readonly environment?: NodeJS.ProcessEnv;
  /** Receives the one loud line; default: standard error. */
  readonly warn?: (line: string) => void;
}

/** The committed known answers of one format; empty where there are none. */
export function knownAnswers<N extends VectorName>(name: N): readonly VectorFormats[N][] {
  const path = join(knownAnswersFolder, `${name}.json`);
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as VectorFormats[N][]) : [];
}

function titled<T>(source: VectorCase<T>["source"], vectors: readonly T[]): VectorCase<T>[] {
  return vectors.map((vector, index) => {
    const suite = (vector as { cipher_suite?: number }).cipher_suite;
    const detail = suite === undefined ? "" : ` (suite ${suite})`;
    return { title: `${source} ${index}${detail}`, source, index, vector };
  });
}

/** Set by {@link ensureVectors} for the processes it starts, so that the line appears once a run. */
const REPORTED = "SPEC_VECTORS_REPORTED";

function reportMissing(names: readonly VectorName[], howToGet: string, options: CaseOptions): void {
  const environment = options.environment ?? process.env;
  const line = `OFFICIAL MLS VECTORS LEFT OUT: ${names.join(", ")}. To get them, ${howToGet}.`;
  if (isCi(environment)) throw new Error(line);
  if (environment[REPORTED] === "1") return;
  (options.warn ?? ((text) => process.stderr.write(`\n${text}\n`)))(line);
}

function isCi(environment: NodeJS.ProcessEnv): boolean {
  return ["1", "true"].includes(environment["CI"] ?? "");
}

/**
 * All cases of one format, for use while tests are collected: official ones first, then known answers.
 * Synchronous and without network. Where the official file is missing, one line on standard error says so and
 * how to get it; with CI=true that is an error.
 *
 *     describe("tree math, RFC 9420 appendix C", () => {
 *       test.each(vectorCases("tree-math"))("$title", ({ vector }) => { ... });
 *     });
 */
export function vectorCases<N extends VectorName>(
  name: N,
  options: CaseOptions = {},
): readonly VectorCase<VectorFormats[N]>[] {
  const known = titled("known-answers", knownAnswers(name));
  const loaded = loadVectors(name, options.places);
  if (!("missing" in loaded)) return [...titled("official", loaded.cases), ...known];
  reportMissing([name], loaded.howToGet, options);
  return known;
}

export interface EnsureOptions extends CaseOptions {
  /** Replaces the download in tests. */
  readonly fetch?: (name: VectorName) => Promise<void>;
}

/**
 * Once before a test run: downloads what no folder has, and says in one line what could not be had. The first
 * failed download ends the attempt, so a machine without network waits for one time limit only.
 */
export async function ensureVectors(options: EnsureOptions = {}): Promise<readonly VectorName[]> {
  const places = options.places ?? defaultPlaces(options.environment);
  const get = options.fetch ?? ((name) => fetchVectors(name, { places }));
  const absent = () => manifest.map((entry) => entry.name).filter((name) => !hasVectors(name, places));
  for (const name of absent()) {
    try {
      await get(name);
    } catch {
      break;
    }
  }
  const missing = absent();
  if (missing.length > 0) {
    const probe = loadVectors(missing[0]!, places);
    reportMissing(missing, "missing" in probe ? probe.howToGet : "", options);
    if (options.environment === undefined) process.env[REPORTED] = "1";
  }
  return missing;
}

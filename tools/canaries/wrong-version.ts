/** Puts the wrong version that MURMURATION_CANARY names into whatever loads the product's sources: Vitest, or Node itself. */
import { appendFileSync } from "node:fs";
import { resolve } from "node:path";
import { canaries } from "./canaries.ts";

const root = resolve(import.meta.dirname, "../..");
const { MURMURATION_CANARY: wanted, MURMURATION_CANARY_LOG: log } = process.env;
const named = canaries.find(({ name }) => name === wanted);

/** The source of a file in the wrong version; undefined where it is as ever. Notes in MURMURATION_CANARY_LOG that it was asked for. */
export function inWrongVersion(path: string, source: string): string | undefined {
  const edits = named?.edits.filter(({ file }) => resolve(root, file) === path) ?? [];
  if (edits.length === 0) return undefined;
  let wrong = source;
  for (const { file, find, replace } of edits) {
    if (wrong.split(find).length !== 2) throw new Error(`not there exactly once, in ${file}: ${find}`);
    wrong = wrong.replace(find, () => replace);
  }
  if (log !== undefined) appendFileSync(log, `${path}\n`);
  return wrong;
}

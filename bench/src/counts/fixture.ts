/** The reviewed counts, and how others differ from them. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { CountRow, CountsSection } from "../report/schema.ts";
import { COUNTED_MEMBERS, countOperations } from "./measure.ts";

const path = fileURLToPath(new URL("../../fixtures/counts.json", import.meta.url));

export function loadCounts(): CountRow[] {
  return JSON.parse(readFileSync(path, "utf8")) as CountRow[];
}

/** One operation a line, so that a review sees what changed. */
export function saveCounts(rows: readonly CountRow[]): void {
  writeFileSync(path, `[\n${rows.map((row) => `  ${JSON.stringify(row)}`).join(",\n")}\n]\n`);
}

const keyOf = ({ members, operation }: CountRow): string => `${operation} at ${members} members`;

/** Each difference as a sentence. */
export function differencesOf(reviewed: readonly CountRow[], counted: readonly CountRow[]): string[] {
  const now = new Map(counted.map((row) => [keyOf(row), row]));
  const before = new Set(reviewed.map(keyOf));
  const fresh = counted.filter((row) => !before.has(keyOf(row))).map((row) => `${keyOf(row)} is new`);
  const changed = reviewed.flatMap((row) => {
    const other = now.get(keyOf(row));
    if (other === undefined) return [`${keyOf(row)} is gone`];
    const names = [...new Set([...Object.keys(row.counts), ...Object.keys(other.counts)])].sort();
    return names
      .map((name) => [name, row.counts[name] ?? 0, other.counts[name] ?? 0] as const)
      .filter(([, was, is]) => was !== is)
      .map(([name, was, is]) => `${keyOf(row)}: ${name} was ${was} and is ${is}`);
  });
  return [...changed, ...fresh];
}

/** Counts now and holds it to what was reviewed. */
export function countsSection(): CountsSection {
  const rows = countOperations(COUNTED_MEMBERS);
  const differences = differencesOf(loadCounts(), rows);
  return { rows, equalsFixture: differences.length === 0, differences };
}

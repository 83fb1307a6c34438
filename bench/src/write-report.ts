import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** Written beside and renamed: an interrupt leaves the old report or the new one. */
export function writeReport(path: string, report: unknown): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.partial`, `${JSON.stringify(report, undefined, 1)}\n`);
  renameSync(`${path}.partial`, path);
}

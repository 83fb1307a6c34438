import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

/** Written beside and renamed: an interrupt leaves the old file or the new one. */
export function replaceFile(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.partial`, text);
  renameSync(`${path}.partial`, path);
}

export function writeReport(path: string, report: unknown): void {
  replaceFile(path, `${JSON.stringify(report, undefined, 1)}\n`);
}

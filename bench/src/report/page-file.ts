/** `report FILE.json`: the page of a report that was measured before. */
import { parseArguments } from "../arguments.ts";
import { replaceFile } from "../write-report.ts";
import { renderPage } from "./page.ts";
import { readReport } from "./read.ts";
import type { Report } from "./schema.ts";

export const pageHelp = `murmuration bench report FILE.json: the page of a report, one file that needs no network
  --out FILE.html    where to write it; without it beside the report, under its name`;

/** Writes the page beside the report that is at this path, and returns where it is. */
export function writePage(report: Report, reportPath: string): string {
  const path = `${reportPath.replace(/\.json$/, "")}.html`;
  replaceFile(path, renderPage(report));
  return path;
}

export function runPage(argv: readonly string[]): number {
  const { values, positional } = parseArguments(argv, {
    values: ["out"],
    switches: [],
    positional: ["FILE.json"],
  });
  const path = positional[0]!;
  const report = readReport(path);
  const out = values.get("out");
  if (out !== undefined) replaceFile(out, renderPage(report));
  console.log(`${out ?? writePage(report, path)}${report.partial ? ", of a partial run" : ""}`);
  return 0;
}

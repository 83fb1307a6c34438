/** `readme FILE.json`: puts the headline of a report into the README and keeps the report beside its chart. */
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArguments, usage } from "../arguments.ts";
import { replaceFile, writeReport } from "../write-report.ts";
import { HEADLINE_CHART, renderHeadline, renderHeadlineChart, withHeadline } from "./headline.ts";
import { readReport } from "./read.ts";

const repository = resolve(import.meta.dirname, "../../..");

export const readmeHelp = `murmuration bench readme FILE.json: the README's chart and tables from a complete report
  --root FOLDER      where README.md and docs/ are; this repository without it`;

export function runReadme(argv: readonly string[]): number {
  const { values, positional } = parseArguments(argv, {
    values: ["root"],
    switches: [],
    positional: ["FILE.json"],
  });
  const path = positional[0]!;
  const report = readReport(path);
  if (report.partial) throw usage(`${path} is of an interrupted run, and a headline takes a complete one`);
  if ((report.fanout?.rows ?? []).length === 0) throw usage(`${path} has no fan-out to make a headline of`);
  const day = /^\d{4}-\d{2}-\d{2}/.exec(report.startedAt)?.[0];
  if (day === undefined) throw usage(`${path} does not say on which day it was measured`);
  const root = values.get("root") ?? repository;
  const readmePath = join(root, "README.md");
  if (!existsSync(readmePath)) throw usage(`${readmePath} does not exist`);
  const stored = `docs/benchmarks-${day}.json`;
  const readme = withHeadline(readFileSync(readmePath, "utf8"), renderHeadline(report, stored));
  if (readme === undefined)
    throw usage(`${readmePath} has neither a headline nor the heading that it stands before`);
  writeReport(join(root, stored), report);
  replaceFile(join(root, HEADLINE_CHART), renderHeadlineChart(report));
  replaceFile(readmePath, readme);
  console.log(`${readmePath}, ${join(root, HEADLINE_CHART)} and ${join(root, stored)}`);
  return 0;
}

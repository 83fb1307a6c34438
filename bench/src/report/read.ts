import { readFileSync } from "node:fs";
import { usage } from "../arguments.ts";
import { REPORT_SCHEMA, type Report } from "./schema.ts";

/** Reads a report and refuses what is none, in one sentence. */
export function readReport(path: string): Report {
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(path, "utf8"));
  } catch {
    throw usage(`${path} is not a readable JSON file`);
  }
  const report = parsed as Partial<Report> | null;
  if (report?.benchmark !== "report") throw usage(`${path} is not a report of the whole benchmark`);
  if (report.schema !== REPORT_SCHEMA) {
    throw usage(`${path} has the schema "${report.schema}", and this version reads "${REPORT_SCHEMA}"`);
  }
  const incomplete = (["machine", "versions", "options", "peers"] as const).find(
    (key) => typeof report[key] !== "object" || report[key] === null,
  );
  if (incomplete !== undefined) throw usage(`${path} is no report: it has no "${incomplete}"`);
  return report as Report;
}

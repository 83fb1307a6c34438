/** `compare A.json B.json`: ratios of B to A, and a failure where B is worse than a stated bound. */
import { readFileSync } from "node:fs";
import { parseArguments, usage } from "./arguments.ts";
import type { MlsReport, Row } from "./mls/rows.ts";
import { alignTable, formatMs } from "./mls/table.ts";
import { type Comparable, driftOf, judgeReports, type ReportBounds } from "./report/compare.ts";
import { REPORT_SCHEMA } from "./report/schema.ts";

export interface Comparison {
  readonly key: string;
  readonly before: Row;
  readonly after: Row;
  /** Time of B over time of A; null where one of them was cut. */
  readonly timeRatio: number | null;
  readonly regressions: readonly string[];
}

export interface Bounds {
  /** Most that a median may grow, as a factor. */
  readonly time: number;
  /** Most that exact bytes and counts may grow, as a factor. */
  readonly exact: number;
}

const keyOf = (row: Row): string => `${row.operation} ${row.members} ${row.implementation}`;
/** Counts whose growth is a regression; hashBytes and random follow from the others. */
const JUDGED_COUNTS = ["sign", "verify", "hpkeSeal", "hpkeOpen", "hash", "expand", "deriveHpkeKeyPair"];

/** Compares rows that both reports have. Only our own implementation can regress; peers and floor are shown. */
export function compareReports(before: MlsReport, after: MlsReport, bounds: Bounds): Comparison[] {
  const earlier = new Map(before.rows.map((row) => [keyOf(row), row]));
  return after.rows.flatMap((row) => {
    const old = earlier.get(keyOf(row));
    if (old === undefined) return [];
    const timeRatio =
      old.medianMs === null || row.medianMs === null || old.medianMs === 0
        ? null
        : row.medianMs / old.medianMs;
    const regressions =
      row.implementation === "murmuration" ? regressionsOf(old, row, timeRatio, bounds) : [];
    return [{ key: keyOf(row), before: old, after: row, timeRatio, regressions }];
  });
}

function regressionsOf(old: Row, row: Row, timeRatio: number | null, bounds: Bounds): string[] {
  const found: string[] = [];
  if (timeRatio !== null && timeRatio > bounds.time) found.push(`time x${timeRatio.toFixed(2)}`);
  if (old.medianMs !== null && row.medianMs === null) found.push(row.cut ?? "not measured");
  const grows = (name: string, was: number, is: number): void => {
    if (is > was * bounds.exact + 1e-9) found.push(`${name} ${was} to ${is}`);
  };
  if (old.bytes !== null && row.bytes !== null) grows("bytes", old.bytes, row.bytes);
  for (const name of JUDGED_COUNTS) grows(name, old.counts?.[name] ?? 0, row.counts?.[name] ?? 0);
  return found;
}

export const compareHelp = `murmuration bench compare A.json B.json: ratios of B to A
  --time 1.25     most that a median of murmuration may grow (factor); 1.5 between reports of all sections or of
                  the fan-out, where groups of rows are judged after the weather of their section
  --exact 1.02    most that its bytes and counts may grow (factor)`;

function readReport(path: string): MlsReport | Comparable {
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(path, "utf8"));
  } catch {
    throw usage(`${path} is not a readable JSON file`);
  }
  const { benchmark, rows, schema } = (parsed ?? {}) as {
    benchmark?: string;
    rows?: unknown;
    schema?: string;
  };
  const hasSections = benchmark === "report" || benchmark === "fanout";
  if (hasSections && schema !== REPORT_SCHEMA) throw usage(`${path} is not of schema ${REPORT_SCHEMA}`);
  if (!hasSections && !Array.isArray(rows)) throw usage(`${path} is not a benchmark report`);
  return parsed as MlsReport | Comparable;
}

function factor(text: string | undefined, flag: string, otherwise: number): number {
  if (text === undefined) return otherwise;
  const value = Number(text);
  if (!(value >= 1)) throw usage(`--${flag} takes a factor of at least 1, not "${text}"`);
  return value;
}

/** Runs the sub-command; exit code 1 on a regression. */
export function runCompare(argv: readonly string[]): number {
  const { values, positional } = parseArguments(argv, {
    values: ["time", "exact"],
    switches: [],
    positional: ["A.json", "B.json"],
  });
  const reports = positional.map(readReport);
  const [hasA, hasB] = reports.map(({ benchmark }) => benchmark === "report" || benchmark === "fanout");
  if (hasA !== hasB || (hasA === true && reports[0]!.benchmark !== reports[1]!.benchmark)) {
    throw usage("the two reports are of different kinds");
  }
  if (reports[0]!.machine?.cpu !== reports[1]!.machine?.cpu) {
    console.log(`Different machines: ${reports[0]!.machine?.cpu}; ${reports[1]!.machine?.cpu}.`);
  }
  const exact = factor(values.get("exact"), "exact", 1.02);
  if (hasA === true) {
    const bounds = { time: factor(values.get("time"), "time", 1.5), exact };
    return compareSections(reports[0] as Comparable, reports[1] as Comparable, bounds);
  }
  const bounds = { time: factor(values.get("time"), "time", 1.25), exact };
  const [before, after] = reports as [MlsReport, MlsReport];
  const comparisons = compareReports(before, after, bounds);
  if (comparisons.length === 0) throw usage("the two reports have no row in common");
  const lines = comparisons.map((each) => [
    each.key,
    each.before.medianMs === null ? (each.before.cut ?? "") : formatMs(each.before.medianMs),
    each.after.medianMs === null ? (each.after.cut ?? "") : formatMs(each.after.medianMs),
    each.timeRatio === null ? "" : `x${each.timeRatio.toFixed(2)}`,
    each.regressions.join(", "),
  ]);
  console.log(alignTable(["", "A", "B", "B/A", "regression"], lines).join("\n"));
  const regressed = comparisons.filter(({ regressions }) => regressions.length > 0).length;
  console.log(`\n${comparisons.length} rows compared, ${regressed} regressed beyond the bounds.`);
  return regressed === 0 ? 0 : 1;
}

/** Prints every group of times, and of the exact figures those that changed. */
function compareSections(before: Comparable, after: Comparable, bounds: ReportBounds): number {
  const judgements = judgeReports(before, after, bounds);
  if (judgements.length === 0) throw usage("the two reports have no row in common");
  const shown = judgements.filter(({ bound, ratio }) => bound !== bounds.exact || ratio !== 1);
  const lines = shown.map(({ bound, ratio, regressed, what }) => [
    what,
    `x${ratio.toFixed(3)}`,
    `x${bound.toFixed(2)}`,
    regressed ? "regression" : "",
  ]);
  console.log(alignTable(["", "B/A", "at most", ""], lines).join("\n"));
  const regressed = judgements.filter((each) => each.regressed).length;
  const drift = driftOf(before, after).toFixed(2);
  console.log(
    `\nThe machine's primitives took x${drift} of A's time in B. ${judgements.length} figures compared, ${regressed} regressed beyond the bounds.`,
  );
  return regressed === 0 ? 0 : 1;
}

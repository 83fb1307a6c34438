import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  HEADLINE_CHART,
  headlineIn,
  renderHeadline,
  renderHeadlineChart,
  sourceOfHeadline,
  withHeadline,
} from "../../../src/report/headline.ts";
import { readReport } from "../../../src/report/read.ts";
import { runReadme } from "../../../src/report/readme.ts";
import type { Report } from "../../../src/report/schema.ts";
import { leanReport, reportOf } from "./constructed.ts";

const root = resolve(import.meta.dirname, "../../../..");
const README = "# Name\n\nText.\n\n## What works today\n\nMore.\n";

describe("the headline of this repository's README", () => {
  const readme = readFileSync(join(root, "README.md"), "utf8");
  const stored = sourceOfHeadline(readme);
  const ours = readdirSync(join(root, "docs")).filter((name) => /^benchmarks-.*\.(?:json|svg)$/.test(name));

  test("is what its stored report makes, or there is none and nothing of one lies about", () => {
    if (stored === undefined) return expect(ours).toEqual([]);
    const report = readReport(join(root, stored));
    expect(headlineIn(readme)).toBe(renderHeadline(report, stored));
    expect(readFileSync(join(root, HEADLINE_CHART), "utf8")).toBe(renderHeadlineChart(report));
  });
});

describe("a headline", () => {
  test("comes before what works today, and is replaced by the next one whole", () => {
    const first = withHeadline(README, renderHeadline(leanReport(), "docs/benchmarks-2000-01-01.json"))!;
    expect(first).toMatch(
      /^# Name\n\nText\.\n\n<!-- headline of .*<!-- end of headline -->\n\n## What works/s,
    );
    expect(sourceOfHeadline(first)).toBe("docs/benchmarks-2000-01-01.json");
    const next = renderHeadline(leanReport(), "docs/benchmarks-2000-01-02.json");
    const second = withHeadline(first, next)!;
    expect(headlineIn(second)).toBe(next);
    expect(second.replace(`${next}\n\n`, "")).toBe(README);
  });

  test("finds no place in a README of another kind", () => {
    expect(withHeadline("# Other\n", "x")).toBeUndefined();
  });

  test("has the day, the machine, and a cell for every protocol and size", () => {
    const headline = renderHeadline(leanReport(), "docs/benchmarks-2000-01-01.json");
    expect(headline).toContain("measured 2000-01-01 00:00 UTC on An invented processor, 2 cores");
    const rows = headline.split("\n").filter((line) => /^\| [\d,]+ \|/.test(line));
    expect(rows).toHaveLength(3 * 9);
    for (const row of rows) expect(row.split("|")).toHaveLength(5 + 3);
  });

  test("takes the text of a report as text", () => {
    const machine = { ...leanReport().machine, cpu: "<img src=x> [a](b) | `c`" };
    const headline = renderHeadline({ ...leanReport(), machine }, "docs/benchmarks-2000-01-01.json");
    expect(headline).toContain("\\<img src=x\\> \\[a\\](b) \\| \\`c\\`");
  });

  test("has a chart that stands alone, in light and dark", () => {
    const svg = renderHeadlineChart(leanReport());
    expect(svg).toMatch(/^<svg width="760" height="480" xmlns="[^"]*" viewBox="0 0 760 480">/);
    expect(svg).toContain("prefers-color-scheme:dark");
    expect(svg).toContain("pairwise, sealed sender");
    expect(svg).not.toMatch(/<script|href=/);
  });
});

describe("the command", () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "bench-readme-"));
    mkdirSync(join(folder, "docs"));
    writeFileSync(join(folder, "README.md"), README);
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));
  const run = (report: Report): number => {
    const path = join(folder, "report.json");
    writeFileSync(path, JSON.stringify(report));
    return runReadme([path, "--root", folder]);
  };

  test("writes README, chart and report, which belong together", () => {
    expect(run(leanReport())).toBe(0);
    const readme = readFileSync(join(folder, "README.md"), "utf8");
    const stored = sourceOfHeadline(readme)!;
    expect(stored).toBe("docs/benchmarks-2000-01-01.json");
    expect(headlineIn(readme)).toBe(renderHeadline(readReport(join(folder, stored)), stored));
    expect(existsSync(join(folder, HEADLINE_CHART))).toBe(true);
  });

  test.each([
    [{ ...leanReport(), partial: true }, "is of an interrupted run"],
    [reportOf(), "has no fan-out"],
    [{ ...leanReport(), startedAt: "../../etc" }, "does not say on which day"],
  ])("refuses what makes no headline, and writes nothing", (report, sentence) => {
    expect(() => run(report)).toThrow(sentence);
    expect(readFileSync(join(folder, "README.md"), "utf8")).toBe(README);
  });
});

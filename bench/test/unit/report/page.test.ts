import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { html } from "../../../src/report/html.ts";
import { renderPage } from "../../../src/report/page.ts";
import { runPage, writePage } from "../../../src/report/page-file.ts";
import { readReport } from "../../../src/report/read.ts";
import type { Report } from "../../../src/report/schema.ts";
import { writeReport } from "../../../src/write-report.ts";
import { fanoutOf, fanoutRows, handMadeReport, leanReport, reportOf } from "./constructed.ts";

const count = (text: string, part: string): number => text.split(part).length - 1;
const sections = (page: string): string[] =>
  [...page.matchAll(/<h2 id="([\w-]+)">/g)].map((match) => match[1]!);

describe("the page of a whole report", () => {
  const page = renderPage(handMadeReport());

  test("has every section, and each is linked to", () => {
    expect(sections(page)).toEqual([
      "answer",
      "message",
      "day",
      "tree",
      "membership",
      "mls",
      "growth",
      "counts",
      "vectors",
      "measured-on",
      "not-measured",
    ]);
    for (const id of sections(page)) expect(page).toContain(`<a href="#${id}">`);
  });

  test("loads nothing and runs nothing", () => {
    expect(page).not.toMatch(/<script|<link rel="stylesheet"|<img|<iframe|@import|url\((?!#)/i);
    expect(page).not.toMatch(/\son\w+=/i);
    const links = [...page.matchAll(/(?:href|src)="([^"]*)"/g)].map((match) => match[1]!);
    expect(links.filter((link) => !link.startsWith("#"))).toEqual(["data:,"]);
  });

  test("has a table beside every chart, each chart in two widths and described", () => {
    const figures = page.split("<figure").slice(1);
    expect(figures.length).toBeGreaterThan(30);
    for (const figure of figures) expect(count(figure.split("</figure>")[0]!, "<table")).toBe(1);
    const charts = count(page, 'class="chart" role="img" aria-label="');
    expect(charts).toBeGreaterThan(30);
    expect(count(page, '<div class="wide"><svg')).toBe(charts);
    expect(count(page, '<div class="narrow"><svg')).toBe(charts);
  });

  test("has tables with a caption and a heading for each row and column", () => {
    expect(count(page, "<caption>")).toBe(count(page, "<table"));
    const rows = page.match(/<tr>.*?<\/tr>/gs)!;
    expect(rows.filter((row) => !/^<tr><th scope="(?:col|row)"/.test(row))).toEqual([]);
  });

  test("has no two elements of the same id", () => {
    const ids = [...page.matchAll(/\sid="([^"]*)"/g)].map((match) => match[1]!);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test("says what was not measured and why, and on what the rest was", () => {
    expect(page).toContain("Peer core-crypto: An invented reason: the package is not installed.");
    expect(page).toContain("MLS, bulk-add of ts-mls at 1,000 members: &gt; 120 s.");
    expect(page).toContain("An invented processor, 2 cores");
    expect(page).toContain("hand-made fixture, not results");
  });

  test("holds no figure that is none", () => {
    expect(page).not.toMatch(/\bNaN\b|Infinity|undefined|\[object/);
  });

  test("is the same each time", () => {
    expect(renderPage(leanReport())).toBe(renderPage(leanReport()));
  });
});

describe("the page of a partial report", () => {
  test("is marked at its top and names the sections that are missing", () => {
    const page = renderPage(reportOf({ partial: true }));
    expect(page).toContain("<strong>This report is partial.</strong>");
    expect(page).toContain("Not in this run: the cost of one message (fanout).");
    expect(sections(page)).toEqual(["measured-on", "not-measured"]);
  });

  test("shows a dash where a cell is missing, and says which", () => {
    const rows = fanoutRows("mls-warm", 256, () => 5);
    const page = renderPage(
      reportOf(
        fanoutOf(
          fanoutRows("pairwise-sealed", 256, () => 9),
          rows.slice(1),
        ),
      ),
    );
    expect(page).toContain('<span class="visually-hidden">not measured</span>');
    expect(page).toContain("One message of 256 bytes, MLS, warm tree: not measured at 2 members.");
  });

  test("can hold one payload of one protocol only", () => {
    const few = fanoutRows("pairwise-sealed", 32, () => 9);
    const both = (["pairwise-sealed", "mls-warm"] as const).map((each) => fanoutRows(each, 256, () => 9));
    const page = renderPage(reportOf(fanoutOf(few, ...both)));
    expect(page).toContain("no answer, fewer than two sizes were measured for both");
  });

  test.each(["fanout", "membership", "mls", "growth", "counts", "daily", "vectors"] as const)(
    "is made without the section %s, and with it empty",
    (key) => {
      const { [key]: section, ...rest } = leanReport();
      expect(renderPage(rest as Report)).toContain("Not in this run: ");
      expect(renderPage({ ...rest, [key]: { ...section, rows: [] } } as Report)).toContain("</html>");
    },
  );
});

describe("escaping", () => {
  const hostile = `"><script>alert(1)</script>&'`;

  test("text becomes no markup, in elements and in attributes", () => {
    const escaped = "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;&#39;";
    expect(html`<p title="${hostile}">${hostile}</p>`.markup).toBe(`<p title="${escaped}">${escaped}</p>`);
  });

  test("every text of a report is text on the page", () => {
    const kept = [
      "benchmark",
      "schema",
      "unit",
      "operation",
      "protocol",
      "implementation",
      "profile",
      "name",
    ];
    const poison = (texts: readonly string[]) =>
      JSON.parse(JSON.stringify(leanReport()), (key, value) =>
        typeof value === "string" && !texts.includes(key) ? `${value}${hostile}` : value,
      ) as Report;
    for (const page of [poison(kept), poison(["benchmark", "schema", "unit"])].map(renderPage)) {
      expect(page).not.toContain("<script");
      expect(page).toContain("&lt;script&gt;alert(1)&lt;/script&gt;");
    }
  });
});

describe("files", () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "bench-report-"));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test("the page is written beside its report or where it is wanted, and the report can be read back", () => {
    const path = join(folder, "out", "report.json");
    writeReport(path, leanReport());
    expect(readReport(path)).toEqual(leanReport());
    const page = writePage(readReport(path), path);
    expect(page).toBe(join(folder, "out", "report.html"));
    const out = join(folder, "elsewhere", "page.html");
    expect(runPage([path, "--out", out])).toBe(0);
    expect(readFileSync(out, "utf8")).toBe(readFileSync(page, "utf8"));
  });

  test.each([
    ["{", "is not a readable JSON file"],
    ["null", "is not a report of the whole benchmark"],
    ['{"benchmark":"mls"}', "is not a report of the whole benchmark"],
    ['{"benchmark":"report","schema":"other/9"}', 'has the schema "other/9", and this version reads'],
    ['{"benchmark":"report","schema":"murmuration-bench/1"}', 'is no report: it has no "machine"'],
  ])("%s is refused in one sentence", (text, sentence) => {
    const path = join(folder, "refused.json");
    writeFileSync(path, text);
    expect(() => readReport(path)).toThrow(sentence);
  });
});

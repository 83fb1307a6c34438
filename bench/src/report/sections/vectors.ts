/** The page of test vectors: which official files run, and how many of their cases pass. */
import { type Html, html } from "../html.ts";
import { table } from "../parts.ts";
import type { Report, VectorRow } from "../schema.ts";
import { formatCount, joinWords } from "../units.ts";

const sourceWords: Readonly<Record<VectorRow["source"], string>> = {
  official: "official test vectors of the MLS working group",
  "known-answers": "known answers of this repository",
};

export function vectorsSection(report: Report): Html | undefined {
  const { vectors } = report;
  if (vectors === undefined || vectors.rows.length === 0) return undefined;
  const rows = vectors.rows.toSorted((a, b) => b.source.localeCompare(a.source));
  const sources = Map.groupBy(rows, ({ source }) => source);
  return html`<p>The official files are those of mlswg/mls-implementations at commit <code>${vectors.officialCommit}</code>. Cases of cipher suites that RFC 9420 does not define are skipped.</p>
${[...sources].map(([source, files]) => sourceTable(sourceWords[source] ?? source, files))}`;
}

function sourceTable(source: string, rows: readonly VectorRow[]): Html {
  const sum = (key: "cases" | "passed" | "failed" | "skipped") =>
    rows.reduce((total, row) => total + row[key], 0);
  const missing = rows.filter((row) => row.missing !== undefined);
  const ran = rows.length - missing.length;
  const failed = sum("failed");
  const skipped = sum("skipped");
  const sentence = [
    `${formatCount(ran)} of ${formatCount(rows.length)} files ran: ${formatCount(sum("passed"))} of ${formatCount(sum("cases"))} cases passed`,
    `${formatCount(failed)} failed`,
    ...(skipped > 0 ? [`${formatCount(skipped)} were skipped`] : []),
  ];
  return html`<h3>${source.charAt(0).toUpperCase()}${source.slice(1)}</h3>
<p class="${failed > 0 ? "bad" : ran === rows.length ? "good" : "soft"}">${ran === 0 ? "No file ran" : joinWords(sentence)}.</p>
${table({
  caption: `Results of the ${source}`,
  header: [
    "file",
    "cases",
    "passed",
    "failed",
    "skipped",
    ...(missing.length > 0 ? ["did not run because"] : []),
  ],
  wordColumns: [5],
  rows: rows.map((row) => [
    row.file,
    ...(row.missing === undefined
      ? [formatCount(row.cases), formatCount(row.passed), formatCount(row.failed), formatCount(row.skipped)]
      : [undefined, undefined, undefined, undefined]),
    ...(missing.length > 0 ? [row.missing ?? ""] : []),
  ]),
})}
`;
}

/** Exact counts of operations, and whether they are those that were reviewed. */
import { type Html, html } from "../html.ts";
import { table } from "../parts.ts";
import type { CountRow, CountsSection, Report } from "../schema.ts";
import { formatCount } from "../units.ts";

export function countsSection(report: Report): Html | undefined {
  const { counts } = report;
  if (counts === undefined || counts.rows.length === 0) return undefined;
  const operations = Map.groupBy(counts.rows, ({ operation }) => operation);
  return html`<p>How often each operation encrypts, signs, verifies and hashes, and what it encodes and writes: deterministic, the same on every machine.</p>
${verdict(counts)}
<div class="tables">
${[...operations].map(([operation, rows]) => operationTable(operation, rows))}</div>
`;
}

function operationTable(operation: string, rows: readonly CountRow[]): Html {
  const names = [...new Set(rows.flatMap((row) => Object.keys(row.counts)))];
  const sorted = rows.toSorted((a, b) => a.members - b.members);
  return html`<div><h3>${operation}</h3>
${table({
  caption: `Exact counts of ${operation} by members`,
  header: ["members", ...sorted.map(({ members }) => formatCount(members))],
  // What is not counted did not happen.
  rows: names.map((name) => [name, ...sorted.map((row) => formatCount(row.counts[name] ?? 0))]),
})}</div>
`;
}

function verdict({ equalsFixture, differences }: CountsSection): Html {
  if (equalsFixture === null)
    return html`<p>There are no reviewed counts for these sizes to compare with.</p>`;
  if (equalsFixture) return html`<p class="good">They equal the reviewed counts.</p>`;
  return html`<p class="bad">They differ from the reviewed counts:</p>
<ul>${differences.map((sentence) => html`<li>${sentence}</li>`)}</ul>`;
}

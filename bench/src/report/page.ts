/** The report as one page: nothing is loaded, nothing runs, everything is text, tables and pictures. */
import { resetChartIds } from "./chart.ts";
import { Html, html } from "./html.ts";
import type { Report } from "./schema.ts";
import { answerSection } from "./sections/answer.ts";
import { circumstancesSection, missingFrom, missingSection } from "./sections/circumstances.ts";
import { countsSection } from "./sections/counts.ts";
import { dailySection } from "./sections/daily.ts";
import { fanoutSection } from "./sections/fanout.ts";
import { growthSection } from "./sections/growth.ts";
import { membershipSection, treeSection } from "./sections/membership.ts";
import { mlsSection } from "./sections/mls.ts";
import { vectorsSection } from "./sections/vectors.ts";
import { styleSheet } from "./style.ts";
import { formatDate } from "./units.ts";

interface Section {
  readonly id: string;
  readonly title: string;
  readonly content: Html | undefined;
  /** Begins a sheet of its own on paper. */
  readonly ownPage?: boolean;
}

/** The same report always makes the same page. */
export function renderPage(report: Report): string {
  resetChartIds();
  const sections: readonly Section[] = [
    { id: "answer", title: "The answer", content: answerSection(report) },
    { id: "message", title: "One message", content: fanoutSection(report) },
    { id: "day", title: "A day", content: dailySection(report) },
    { id: "tree", title: "Cold and warm tree", content: treeSection(report) },
    { id: "membership", title: "Changes of a group", content: membershipSection(report) },
    { id: "mls", title: "MLS engine and peers", content: mlsSection(report) },
    { id: "growth", title: "Growth", content: growthSection(report) },
    { id: "counts", title: "Exact counts", content: countsSection(report) },
    { id: "vectors", title: "Test vectors", content: vectorsSection(report), ownPage: true },
    { id: "measured-on", title: "Machine and versions", content: circumstancesSection(report) },
    { id: "not-measured", title: "What was not measured", content: missingSection(report) },
  ];
  const shown = sections.filter(({ content }) => content !== undefined);
  const { machine } = report;
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>Murmuration: what a message to a group costs, ${formatDate(report.startedAt)}</title>
<link rel="icon" href="data:,">
<style>${new Html(styleSheet)}</style>
</head>
<body>
<header>
<h1>What a message to a group costs</h1>
<p class="soft">Murmuration, measured ${formatDate(report.startedAt)} on ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.os}. Nothing is extrapolated.</p>
${partialBanner(report)}
<nav aria-label="Sections"><ul>${shown.map(
    ({ id, title }) => html`<li><a href="#${id}">${title}</a></li>
`,
  )}</ul></nav>
</header>
<main>
${shown.map(
  ({
    id,
    title,
    content,
    ownPage,
  }) => html`<section aria-labelledby="${id}"${new Html(ownPage ? ' class="page"' : "")}>
<h2 id="${id}">${title}</h2>
${content}
</section>
`,
)}</main>
</body>
</html>
`;
  return page.markup;
}

function partialBanner(report: Report): Html | undefined {
  if (!report.partial && !report.mls?.partial) return undefined;
  const missing = missingFrom(report).length;
  return html`<p class="banner" role="note"><strong>This report is partial.</strong> The run was interrupted; ${missing} ${missing === 1 ? "point" : "points"} under <a href="#not-measured">what was not measured</a> say what is missing.</p>`;
}

/** The README's headline: a chart and tables that a stored report makes, between two markers, by nobody's hand. */
import { lineChart, resetChartIds } from "./chart.ts";
import { ABOVE, BELOW, conclude, pointsOf } from "./conclusion.ts";
import { compareCosts } from "./crossover.ts";
import { escapeHtml } from "./html.ts";
import { darkRules, ink } from "./palette.ts";
import { type Protocol, protocols, type Report } from "./schema.ts";
import { leadingPayload } from "./sections/fanout.ts";
import { formatBytes, formatCount, formatDate, formatMicroseconds } from "./units.ts";
import { type Measure, measures, nameOfProtocol } from "./words.ts";

const BEGIN = /<!-- headline of ([\w./-]+); written by `npm run bench -- readme`, not by hand -->/;
const END = "<!-- end of headline -->";
/** Where a README that has no headline yet gets it: before this heading. */
const BEFORE = "## What works today";

const SIZE = { width: 760, height: 480 };

export const HEADLINE_CHART = "docs/benchmarks-headline.svg";

/** The stored report that a README's headline says it is of. */
export const sourceOfHeadline = (readme: string): string | undefined => BEGIN.exec(readme)?.[1];

/** What stands between the markers of a README, the markers included. */
export function headlineIn(readme: string): string | undefined {
  const begin = readme.search(BEGIN);
  const end = readme.indexOf(END, begin);
  return begin < 0 || end < 0 ? undefined : readme.slice(begin, end + END.length);
}

/** The README with this headline in the place of the one before; undefined where there is no place for it. */
export function withHeadline(readme: string, headline: string): string | undefined {
  const present = headlineIn(readme);
  if (present !== undefined) return readme.replace(present, () => headline);
  const at = readme.indexOf(`${BEFORE}\n`);
  return at < 0 ? undefined : `${readme.slice(0, at)}${headline}\n\n${readme.slice(at)}`;
}

function ofFanout(report: Report): { readonly payload: number; readonly present: readonly Protocol[] } {
  const rows = report.fanout?.rows ?? [];
  const payload = leadingPayload([...new Set(rows.map(({ payloadBytes }) => payloadBytes))])!;
  const present = protocols.filter((protocol) =>
    rows.some((row) => row.protocol === protocol && row.payloadBytes === payload),
  );
  return { payload, present };
}

const measureOf = (key: Measure["key"]): Measure => measures.find((each) => each.key === key)!;

/** Markdown of a report that has a fan-out; `stored` is the report's path from the README. */
export function renderHeadline(report: Report, stored: string): string {
  const { payload, present } = ofFanout(report);
  const { machine } = report;
  const answer = conclude(report).payloads.find(({ payloadBytes }) => payloadBytes === payload)!;
  const bytes = formatCount(payload);
  const lines = [
    `<!-- headline of ${stored}; written by \`npm run bench -- readme\`, not by hand -->`,
    "## What a message to a group costs",
    "",
    `![Bytes on the sender's socket for one message of ${bytes} bytes, by protocol and members; the same figures are in the table below](${HEADLINE_CHART})`,
    "",
    `One message of ${bytes} bytes to a whole group, one device a member, measured ${formatDate(report.startedAt)} on ${escapeMarkdown(`${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.os}`)}. Is 256 members the right threshold between pairwise and MLS for it?`,
    "",
    ...answer.summary.map((sentence) => `- ${escapeMarkdown(sentence)}`),
    "",
    ...(["senderBytes", "egressBytes", "senderCpuUs"] as const).flatMap((key) =>
      markdownTable(report, measureOf(key), payload, present),
    ),
    `\`npm run bench\` measures this and more on your machine, in a page that opens without a network. [docs/benchmarks.md](docs/benchmarks.md) says how; [${stored}](${stored}) holds every figure of this run.`,
    END,
  ];
  return lines.join("\n");
}

function markdownTable(
  report: Report,
  measure: Measure,
  payload: number,
  present: readonly Protocol[],
): string[] {
  const format = measure.unit === "bytes" ? formatBytes : formatMicroseconds;
  const costs = new Map(
    present.map((protocol) => [
      protocol,
      new Map(pointsOf(report, protocol, payload, measure).map(({ members, cost }) => [members, cost])),
    ]),
  );
  const sizes = [...new Set([...costs.values()].flatMap((each) => [...each.keys()]))].sort((a, b) => a - b);
  const row = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [
    row([`${measure.title}, by members`, ...present.map(nameOfProtocol)]),
    row(["---:", ...present.map(() => "---:")]),
    ...sizes.map((members) =>
      row([
        formatCount(members),
        ...present.map((protocol) => {
          const cost = costs.get(protocol)!.get(members);
          return cost === undefined ? "not measured" : format(cost);
        }),
      ]),
    ),
    "",
  ];
}

const escapeMarkdown = (text: string): string => text.replace(/[\\`*_{}[\]<>#|]/g, "\\$&");

/** The headline's chart as a file of its own: with a legend, and light or dark by the reader's own setting. */
export function renderHeadlineChart(report: Report): string {
  resetChartIds();
  const { payload, present } = ofFanout(report);
  const measure = measureOf("senderBytes");
  const series = present.map((protocol) => ({
    name: protocol,
    label: nameOfProtocol(protocol),
    points: pointsOf(report, protocol, payload, measure).map(({ members, cost }) => [members, cost] as const),
  }));
  const title = `Bytes on the sender's socket for one message of ${formatCount(payload)} bytes`;
  const { crossings } = compareCosts(
    pointsOf(report, BELOW, payload, measure),
    pointsOf(report, ABOVE, payload, measure),
  );
  const svg = lineChart(
    {
      unit: measure.unit,
      series,
      sizes: [...new Set(series.flatMap(({ points }) => points.map(([members]) => members)))].sort(
        (a, b) => a - b,
      ),
      bands: crossings.map(({ after, upTo }) => ({ from: after, to: upTo })),
    },
    SIZE,
    { title },
  );
  const { width, height } = SIZE;
  const head = `<title>${escapeHtml(title)}</title><style>@media (prefers-color-scheme:dark){${darkRules("")}}</style><rect width="${width}" height="${height}" fill="${ink.paper.light}"/>`;
  return `${svg.replace(/^<svg ([^>]*)>/, `<svg width="${width}" height="${height}" $1>${head}`).trim()}\n`;
}

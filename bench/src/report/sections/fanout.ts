/** One message to a whole group: a chart and a table for each cost, by payload. */
import { ABOVE, BELOW, describe, pointsOf } from "../conclusion.ts";
import { compareCosts } from "../crossover.ts";
import { type Html, html } from "../html.ts";
import { type Cell, lineFigure, table, withNote } from "../parts.ts";
import { type Protocol, protocols, type Report } from "../schema.ts";
import { formatCount, formatMicroseconds, formatSpread } from "../units.ts";
import { type Measure, measures, nameOfProtocol } from "../words.ts";
import { definitionList } from "./shared.ts";

/** The payload whose charts are open; the others are one click away. */
export function leadingPayload(payloads: readonly number[]): number | undefined {
  return payloads.includes(256) ? 256 : payloads[Math.floor(payloads.length / 2)];
}

export function fanoutSection(report: Report): Html | undefined {
  const rows = report.fanout?.rows ?? [];
  if (report.fanout === undefined || rows.length === 0) return undefined;
  const payloads = [...new Set(rows.map(({ payloadBytes }) => payloadBytes))].sort((a, b) => a - b);
  const leading = leadingPayload(payloads);
  const others = payloads.filter((payloadBytes) => payloadBytes !== leading);
  return html`<p>One message of one member to all others, one device each. Bytes are those of real encoded frames and exact; CPU is the median of interleaved runs in separate processes, least and most of them below it; without those it is one run. The shaded band lies between the two measured sizes where ${nameOfProtocol(BELOW)} and ${nameOfProtocol(ABOVE)} cross.</p>
${definitionList(report.fanout.definitions)}
<h3>Messages of ${formatCount(leading!)} bytes</h3>
${measures.map((measure) => measureFigure(report, leading!, measure))}
${others.map(
  (
    payloadBytes,
  ) => html`<details><summary>The same for messages of ${formatCount(payloadBytes)} bytes</summary>
${measures.map((measure) => measureFigure(report, payloadBytes, measure))}</details>
`,
)}`;
}

function measureFigure(report: Report, payloadBytes: number, measure: Measure): Html {
  const present = protocols.filter((protocol) =>
    report.fanout?.rows.some((row) => row.protocol === protocol && row.payloadBytes === payloadBytes),
  );
  const points = new Map(
    present.map((protocol) => [protocol, pointsOf(report, protocol, payloadBytes, measure)]),
  );
  const sizes = [...new Set([...points.values()].flat().map(({ members }) => members))].sort((a, b) => a - b);
  const comparison = compareCosts(points.get(BELOW) ?? [], points.get(ABOVE) ?? []);
  const cell = (protocol: Protocol, members: number): Cell => {
    const point = points.get(protocol)?.find((each) => each.members === members);
    if (point === undefined) return undefined;
    if (measure.unit === "bytes") return formatCount(point.cost);
    const figure = formatMicroseconds(point.cost);
    if (point.least === undefined || point.most === undefined) return figure;
    return withNote(figure, formatSpread(point.least, point.most));
  };
  const unit = measure.unit === "bytes" ? ", in bytes" : "";
  return lineFigure(
    {
      title: `${measure.title}${unit}`,
      note: `Pairwise or MLS: ${describe(comparison, "pairwise", "MLS")}.`,
      table: table({
        caption: `${measure.title}${unit}, messages of ${formatCount(payloadBytes)} bytes`,
        header: ["members", ...present.map(nameOfProtocol)],
        rows: sizes.map((members) => [
          formatCount(members),
          ...present.map((protocol) => cell(protocol, members)),
        ]),
      }),
    },
    {
      unit: measure.unit,
      sizes,
      bands: comparison.crossings.map(({ after, upTo }) => ({ from: after, to: upTo })),
      series: present.map((protocol) => ({
        name: protocol,
        label: nameOfProtocol(protocol),
        points: points.get(protocol)!.map(({ members, cost }) => [members, cost] as const),
      })),
    },
  );
}

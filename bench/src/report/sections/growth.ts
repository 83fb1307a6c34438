/** What sixteen times as many members cost. */
import { type Html, html } from "../html.ts";
import { ratioFigure, table } from "../parts.ts";
import type { GrowthRow, Report } from "../schema.ts";
import { formatBytes, formatCount, formatMicroseconds, formatRatio, joinWords } from "../units.ts";
import { nameOfProtocol } from "../words.ts";
import { leadingPayload } from "./fanout.ts";
import { definitionList } from "./shared.ts";

const LINEAR = 16;

const measureWords: Readonly<Record<string, string>> = {
  senderBytes: "sender's traffic",
  storedBytes: "service's storage",
  egressBytes: "service's egress",
  receiverBytes: "one member's download",
  newcomerBytes: "newcomer's download",
  senderCpuUs: "sender's CPU",
  dsCpuUs: "service's CPU",
  receiverCpuUs: "one member's CPU",
  newcomerCpuUs: "newcomer's CPU",
  median: "time",
  medianMs: "time",
  bytes: "bytes",
};

interface Group {
  readonly title: string;
  /** What a row of it is called, its protocol and sizes apart. */
  readonly nameOf: (row: GrowthRow) => string;
  /** Of the fan-out: the payload. */
  readonly payload?: number;
}

/** Costs of one kind stand together: each cost of a message by itself, everything else by what is measured. */
function groupOf({ cost, protocol }: GrowthRow): Group {
  const words = cost.split(" ");
  const last = words.pop() ?? "";
  const measure = Object.hasOwn(measureWords, last) ? measureWords[last]! : last;
  const payload = /^fanout (\d+) B$/.exec(words.join(" "))?.[1];
  if (payload !== undefined) {
    const title = `One message of ${formatCount(Number(payload))} bytes: ${measure}`;
    return { title, nameOf: (row) => nameOfProtocol(row.protocol), payload: Number(payload) };
  }
  const own = words.join(" ") || measure;
  if (protocol === "murmuration") return { title: `MLS engine: ${measure}`, nameOf: () => own };
  return { title: `Other costs: ${measure}`, nameOf: (row) => `${own}, ${nameOfProtocol(row.protocol)}` };
}

const sizesOf = (row: GrowthRow): string => `${formatCount(row.members)} to ${formatCount(row.largeMembers)}`;

export function growthSection(report: Report): Html | undefined {
  const { growth } = report;
  if (growth === undefined || growth.rows.length === 0) return undefined;
  const groups = [...Map.groupBy(growth.rows, (row) => groupOf(row).title).values()].map((rows) => ({
    rows,
    ...groupOf(rows[0]!),
  }));
  const payloads = [...new Set(groups.flatMap(({ payload }) => payload ?? []))].sort((a, b) => a - b);
  const leading = leadingPayload(payloads);
  const of = (payload: number | undefined) =>
    groups.filter((group) => group.payload === payload).map((group) => groupFigure(group.title, group.rows));
  const others = payloads.filter((payload) => payload !== leading);
  return html`<p>The same cost at N and at ${LINEAR} N members, both measured. A cost that does not depend on the group's size stays at ×1, one that is linear in it comes to ×${LINEAR}. What is linear in the receivers is linear in N - 1, which shows in the smallest groups: from 2 to 32 members are 31 times as many receivers.</p>
${definitionList(growth.definitions)}
${leading === undefined ? undefined : of(leading)}
${others.map(
  (payload) => html`<details><summary>The same for messages of ${formatCount(payload)} bytes</summary>
${of(payload)}</details>
`,
)}
${of(undefined)}`;
}

function groupFigure(title: string, rows: readonly GrowthRow[]): Html {
  const value = (row: GrowthRow, of: number) =>
    row.unit === "bytes" ? formatBytes(of) : formatMicroseconds(of);
  const name = (row: GrowthRow) => groupOf(row).nameOf(row);
  const sizes = [...new Set(rows.map(sizesOf))];
  return ratioFigure(
    {
      title,
      note: `${joinWords(sizes)} members.`,
      table: table({
        caption: `${title}, at N and ${LINEAR} N members`,
        textColumns: [1],
        header: ["cost", "members", "at N", `at ${LINEAR} N`, "growth"],
        rows: rows.map((row) => [
          name(row),
          sizesOf(row),
          value(row, row.value),
          value(row, row.largeValue),
          formatRatio(row.ratio),
        ]),
      }),
    },
    rows.map((row) => ({
      label: sizes.length === 1 ? name(row) : `${name(row)}\n${sizesOf(row)}`,
      name: row.protocol,
      value: row.ratio,
    })),
    LINEAR,
  );
}

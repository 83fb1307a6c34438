/** On what and with what was measured, and everything that was not. */
import { type Html, html } from "../html.ts";
import { table } from "../parts.ts";
import { protocols, type Report } from "../schema.ts";
import { formatCount, formatDate, formatMicroseconds, joinWords } from "../units.ts";
import { nameOfProtocol } from "../words.ts";

/** The sections of a complete report, by their key. */
const sectionWords = {
  fanout: "the cost of one message (fanout)",
  membership: "changes of a group (membership)",
  mls: "MLS operations beside peers (mls)",
  growth: "growth from N to 16 N (growth)",
  counts: "exact counts (counts)",
  daily: "totals of a day (daily)",
  vectors: "test vectors (vectors)",
} as const;

export function circumstancesSection(report: Report): Html {
  const { machine, versions, options } = report;
  const list = (values: readonly number[]) => values.map(formatCount).join(", ");
  const facts: readonly (readonly [string, string])[] = [
    ["started", formatDate(report.startedAt)],
    ["took", `${formatCount(Math.round(report.durationSeconds))} s`],
    ["processor", `${machine.cpu}, ${formatCount(machine.cores)} cores`],
    ["memory", `${formatCount(machine.memoryGiB)} GiB`],
    ["system", machine.os],
    ["seed", report.seed],
    ["members", list(options.members)],
    ["payloads", `${list(options.payloadBytes)} bytes`],
    ["MLS sizes", list(options.mlsSizes)],
    ["peers", options.full ? "at every size" : "up to 1,000 members"],
    [
      "messages a day",
      options.messagesPerDay === null ? "each profile's own" : formatCount(options.messagesPerDay),
    ],
    ["churn a day", options.churnPerDay === null ? "each profile's own" : formatCount(options.churnPerDay)],
    ["schema", report.schema],
  ];
  // With the MLS section stands a fuller table of them.
  const primitives = report.mls === undefined ? Object.entries(report.primitivesUs ?? {}) : [];
  const measuredPeers = report.peers.filter(({ measured }) => measured);
  return html`<dl>${facts.map(
    ([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>
`,
  )}</dl>
${table({
  caption: "Versions",
  header: ["software", "version"],
  textColumns: [1],
  rows: Object.entries(versions),
})}
${
  primitives.length === 0
    ? undefined
    : table({
        caption: "What primitives cost on this machine in this run",
        header: ["primitive", "time"],
        rows: primitives.map(([name, us]) => [name, formatMicroseconds(us)]),
      })
}
${
  measuredPeers.length === 0
    ? undefined
    : html`<p>Peers that were measured: ${joinWords(measuredPeers.map(({ name, version }) => `${name} ${version ?? ""}`.trim()))}.</p>`
}`;
}

/** Every sentence on what is missing; empty when all that was asked for is there. */
export function missingFrom(report: Report): string[] {
  const sentences: string[] = [];
  if (report.partial) sentences.push("The run was interrupted: what was not complete by then is missing.");
  for (const [key, words] of Object.entries(sectionWords)) {
    if (report[key as keyof typeof sectionWords] === undefined) sentences.push(`Not in this run: ${words}.`);
  }
  for (const { name, measured, why } of report.peers) {
    if (!measured) sentences.push(`Peer ${name}: ${why === "" ? "not measured" : why}`);
  }
  sentences.push(...missingCells(report));
  for (const [what, why] of Object.entries(report.membership?.leftOut ?? {})) {
    sentences.push(`Membership, ${what}: ${why}`);
  }
  for (const [what, why] of Object.entries(report.daily?.leftOut ?? {}))
    sentences.push(`A day, ${what}: ${why}`);
  if (report.mls?.partial) sentences.push("The MLS operations were interrupted.");
  for (const row of report.mls?.rows ?? []) {
    if (row.medianMs === null) {
      sentences.push(
        `MLS, ${row.operation} of ${row.implementation} at ${formatCount(row.members)} members: ${row.cut ?? "cut"}`,
      );
    }
  }
  return sentences.map((sentence) => (/[.!?]$/.test(sentence) ? sentence : `${sentence}.`));
}

/** Fan-out cells that the options asked for and no row holds, one sentence for each protocol and payload. */
function missingCells(report: Report): string[] {
  const { fanout, options } = report;
  if (fanout === undefined) return [];
  const key = (protocol: string, payload: number, members: number) => `${protocol} ${payload} ${members}`;
  const present = new Set(fanout.rows.map((row) => key(row.protocol, row.payloadBytes, row.members)));
  return protocols.flatMap((protocol) =>
    options.payloadBytes.flatMap((payload) => {
      const missing = options.members.filter((members) => !present.has(key(protocol, payload, members)));
      if (missing.length === 0) return [];
      const sizes = joinWords(missing.map(formatCount));
      return [
        `One message of ${formatCount(payload)} bytes, ${nameOfProtocol(protocol)}: not measured at ${sizes} members`,
      ];
    }),
  );
}

export function missingSection(report: Report): Html {
  const sentences = missingFrom(report);
  if (sentences.length === 0) return html`<p>Everything that was asked for was measured.</p>`;
  return html`<ul>${sentences.map(
    (sentence) => html`<li>${sentence}</li>
`,
  )}</ul>`;
}

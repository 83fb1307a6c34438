/** The engine beside its peers and the floor that the primitives set: one chart and table for each operation. */

import type { ImplementationName, Operation, Row } from "../../mls/rows.ts";
import { type Html, html } from "../html.ts";
import { lineFigure, table, withNote } from "../parts.ts";
import type { Report } from "../schema.ts";
import { formatBytes, formatCount, formatMicroseconds, formatRatio } from "../units.ts";

const operationWords: Readonly<Record<Operation, string>> = {
  "key-package": "Make a key package",
  "bulk-add": "Add everybody in one commit",
  "join-cold": "Join, cold tree",
  "join-cold-pooled": "Join, cold tree, signatures verified on the thread pool",
  "join-warm": "Join, warm tree",
  "join-warm-pooled": "Join, warm tree, signatures verified on the thread pool",
  "commit-create-cold": "Create a commit, cold tree",
  "commit-process-cold": "Process a commit, cold tree",
  "commit-create-warm": "Create a commit, warm tree",
  "commit-process-warm": "Process a commit, warm tree",
  "application-create": "Encrypt a message",
  "application-process": "Decrypt a message",
  load: "Load a group from storage",
  "store-application": "Store what a received message changed",
  "store-commit": "Store what a commit changed",
};

/** Open on the page: what every member pays again and again, and joining. */
const leading: readonly string[] = [
  "commit-create-warm",
  "commit-process-warm",
  "join-warm",
  "application-process",
];

const implementationOrder: readonly ImplementationName[] = [
  "murmuration",
  "ts-mls",
  "ts-mls-native",
  "floor",
];
const place = (name: string): number => {
  const index = implementationOrder.indexOf(name as ImplementationName);
  return index < 0 ? implementationOrder.length : index;
};

export function mlsSection(report: Report): Html | undefined {
  const { mls } = report;
  if (mls === undefined || mls.rows.length === 0) return undefined;
  const groups = Map.groupBy(mls.rows, ({ operation }) => operation);
  const first = leading.filter((operation) => groups.has(operation as Operation));
  const rest = [...groups.keys()].filter((operation) => !first.includes(operation));
  const figure = (operation: string) =>
    operationFigure(operation as Operation, groups.get(operation as Operation)!);
  return html`<p>Wall time of one operation of an MLS group on one thread: medians of interleaved runs, the best run below each. The floor is the least number of cryptographic operations that RFC 9420 asks for, times what each costs on this machine in the same run.</p>
${mls.floorVoid.map((reason) => html`<p class="banner">Ratios to the floor are void: ${reason}.</p>`)}
${first.map(figure)}
${
  rest.length === 0
    ? undefined
    : html`<details><summary>${formatCount(rest.length)} more operations</summary>
${rest.map(figure)}</details>`
}
${memory(report)}
${primitives(report)}`;
}

function operationFigure(operation: Operation, rows: readonly Row[]): Html {
  const title = Object.hasOwn(operationWords, operation) ? operationWords[operation] : operation;
  const names = [...new Set(rows.map(({ implementation }) => implementation))].sort(
    (a, b) => place(a) - place(b),
  );
  const sizes = [...new Set(rows.map(({ members }) => members))].sort((a, b) => a - b);
  const find = (name: string, members: number) =>
    rows.find((row) => row.implementation === name && row.members === members);
  const cell = (name: string, members: number) => {
    const row = find(name, members);
    if (row === undefined) return undefined;
    if (row.medianMs === null) return row.cut ?? "cut";
    const figure = formatMicroseconds(row.medianMs * 1000);
    return row.bestMs === null || name === "floor"
      ? figure
      : withNote(figure, `best ${formatMicroseconds(row.bestMs * 1000)}`);
  };
  const own = (members: number) => find("murmuration", members);
  const nullable = (value: number | null | undefined, format: (value: number) => string) =>
    value === null || value === undefined ? undefined : format(value);
  return lineFigure(
    {
      title,
      table: table({
        caption: `${title}: time by members and implementation`,
        header: ["members", ...names, "murmuration over floor", "its bytes"],
        rows: sizes.map((members) => [
          formatCount(members),
          ...names.map((name) => cell(name, members)),
          nullable(own(members)?.ratioToFloor, formatRatio),
          nullable(own(members)?.bytes, formatCount),
        ]),
      }),
    },
    {
      unit: "us",
      sizes,
      bands: [],
      series: names.map((name) => ({
        name,
        label: name,
        points: rows.flatMap((row) =>
          row.implementation === name && row.medianMs !== null
            ? [[row.members, row.medianMs * 1000] as const]
            : [],
        ),
      })),
    },
  );
}

function memory(report: Report): Html | undefined {
  const rows = report.mls?.memory ?? [];
  if (rows.length === 0) return undefined;
  return html`<h3>Memory of a loaded group</h3>
${table({
  caption: "Memory of a loaded and idle group",
  header: ["members", "implementation", "a group", "a member"],
  textColumns: [1],
  rows: rows.map((row) => [
    formatCount(row.members),
    row.implementation,
    formatBytes(row.bytesPerGroup),
    formatBytes(row.bytesPerMember),
  ]),
})}
`;
}

function primitives(report: Report): Html | undefined {
  const rows = report.mls?.primitives ?? [];
  if (rows.length === 0) return undefined;
  return html`<h3>What the primitives cost on this machine</h3>
${table({
  caption: "Primitives by node:crypto and by openssl speed",
  header: ["primitive", "node:crypto", "openssl speed"],
  rows: rows.map(({ name, us, opensslUs }) => [
    name,
    formatMicroseconds(us),
    opensslUs === null ? undefined : formatMicroseconds(opensslUs),
  ]),
})}
`;
}

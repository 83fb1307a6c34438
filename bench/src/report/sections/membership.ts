/** What changes of a group cost, and what a cold tree adds to them. */
import { type Html, html } from "../html.ts";
import { lineFigure, table } from "../parts.ts";
import { type MembershipRow, membershipOperations, protocols, type Report } from "../schema.ts";
import { formatCount, formatMicroseconds, formatRatio } from "../units.ts";
import { nameOfProtocol, operationWords } from "../words.ts";
import { definitionList } from "./shared.ts";

const bytes = (value: number | null): string | undefined => (value === null ? undefined : formatCount(value));
const time = (us: number | null): string | undefined => (us === null ? undefined : formatMicroseconds(us));
const onSockets = (row: MembershipRow): number => row.senderBytes + row.egressBytes;
const capital = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

export function membershipSection(report: Report): Html | undefined {
  const { membership } = report;
  if (membership === undefined || membership.rows.length === 0) return undefined;
  return html`<p>What each change of a group costs everybody. The charts show all bytes on all sockets; the tables hold each place by itself, bytes exact, CPU as medians.</p>
${definitionList(membership.definitions)}
${membershipOperations.map((operation) =>
  operationFigure(
    operation,
    membership.rows.filter((row) => row.operation === operation),
  ),
)}`;
}

function operationFigure(
  operation: MembershipRow["operation"],
  rows: readonly MembershipRow[],
): Html | undefined {
  if (rows.length === 0) return undefined;
  const present = protocols.filter((protocol) => rows.some((row) => row.protocol === protocol));
  const sizes = [...new Set(rows.map(({ members }) => members))].sort((a, b) => a - b);
  const title = capital(operationWords[operation]);
  const sorted = rows.toSorted(
    (a, b) => a.members - b.members || protocols.indexOf(a.protocol) - protocols.indexOf(b.protocol),
  );
  return lineFigure(
    {
      title,
      tableBelow: true,
      table: table({
        caption: `${title}: bytes and CPU by members and protocol`,
        textColumns: [1],
        header: [
          "members",
          "protocol",
          "changed",
          "sender, bytes",
          "stored, bytes",
          "sent out, bytes",
          "one member, bytes",
          "newcomer, bytes",
          "sender CPU",
          "service CPU",
          "one member CPU",
          "newcomer CPU",
          "runs",
        ],
        rows: sorted.map((row) => [
          formatCount(row.members),
          nameOfProtocol(row.protocol),
          formatCount(row.changed),
          bytes(row.senderBytes),
          bytes(row.storedBytes),
          bytes(row.egressBytes),
          bytes(row.receiverBytes),
          bytes(row.newcomerBytes),
          time(row.senderCpuUs),
          time(row.dsCpuUs),
          time(row.receiverCpuUs),
          time(row.newcomerCpuUs),
          formatCount(row.runs),
        ]),
      }),
    },
    {
      unit: "bytes",
      sizes,
      bands: [],
      series: present.map((protocol) => ({
        name: protocol,
        label: nameOfProtocol(protocol),
        points: rows
          .filter((row) => row.protocol === protocol)
          .map((row) => [row.members, onSockets(row)] as const),
      })),
    },
  );
}

interface Pair {
  readonly what: string;
  readonly unit: "bytes" | "us";
  readonly cold: ReadonlyMap<number, number>;
  readonly warm: ReadonlyMap<number, number>;
}

/** Cold against warm tree: commits of the wire from the membership section, operations of the engine from `mls`. */
export function treeSection(report: Report): Html | undefined {
  const pairs = [...membershipPairs(report), ...enginePairs(report)].filter(({ cold, warm }) =>
    [...cold.keys()].some((members) => warm.has(members)),
  );
  if (pairs.length === 0) return undefined;
  return html`<p>A tree is warm when every parent node has a key, and cold when all are blank, as after many members were added at once. The same operation, measured in both.</p>
${pairs.map(pairFigure)}`;
}

function membershipPairs(report: Report): Pair[] {
  const rows = report.membership?.rows ?? [];
  const costs = [
    { what: "sender's bytes", unit: "bytes", of: (row: MembershipRow) => row.senderBytes },
    { what: "one member's bytes", unit: "bytes", of: (row: MembershipRow) => row.receiverBytes },
  ] as const;
  return (["self-update", "remove-1"] as const).flatMap((operation) =>
    costs.map(({ what, unit, of }) => {
      const series = (protocol: MembershipRow["protocol"]) =>
        new Map(
          rows
            .filter((row) => row.operation === operation && row.protocol === protocol)
            .map((row) => [row.members, of(row)] as const),
        );
      return {
        what: `${capital(operationWords[operation])}: ${what}`,
        unit,
        cold: series("mls-cold"),
        warm: series("mls-warm"),
      };
    }),
  );
}

const engineWords = {
  "commit-create": "Create a commit: the engine's time",
  "commit-process": "Process a commit: the engine's time",
  join: "Join and validate the tree: the engine's time",
} as const;

function enginePairs(report: Report): Pair[] {
  const rows = (report.mls?.rows ?? []).filter(({ implementation }) => implementation === "murmuration");
  return Object.entries(engineWords).map(([operation, what]) => {
    const series = (tree: string) =>
      new Map(
        rows.flatMap((row) =>
          row.operation === `${operation}-${tree}` && row.medianMs !== null
            ? [[row.members, row.medianMs * 1000] as const]
            : [],
        ),
      );
    return { what, unit: "us", cold: series("cold"), warm: series("warm") };
  });
}

function pairFigure({ what, unit, cold, warm }: Pair): Html {
  const sizes = [...new Set([...cold.keys(), ...warm.keys()])].sort((a, b) => a - b);
  const format = unit === "bytes" ? formatCount : formatMicroseconds;
  const shown = (value: number | undefined) => (value === undefined ? undefined : format(value));
  return lineFigure(
    {
      title: what,
      table: table({
        caption: `${what}, cold and warm tree`,
        header: ["members", "cold tree", "warm tree", "cold over warm"],
        rows: sizes.map((members) => {
          const [c, w] = [cold.get(members), warm.get(members)];
          const ratio = c === undefined || w === undefined ? undefined : formatRatio(c / w);
          return [formatCount(members), shown(c), shown(w), ratio];
        }),
      }),
    },
    {
      unit,
      sizes,
      bands: [],
      series: [
        { name: "mls-cold", label: "cold tree", points: [...cold] },
        { name: "mls-warm", label: "warm tree", points: [...warm] },
      ],
    },
  );
}

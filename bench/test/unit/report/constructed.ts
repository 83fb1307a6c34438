/** Reports made by hand: figures that no machine measured, for tests of what is computed from them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { FanoutRow, MembershipRow, Protocol, Report } from "../../../src/report/schema.ts";

/** The whole report that the schema's examples are in. */
export function handMadeReport(): Report {
  const path = join(import.meta.dirname, "../../fixtures/hand-made-report-not-results.json");
  return JSON.parse(readFileSync(path, "utf8"));
}

/** The same with every section and few charts, for what needs many pages. */
export function leanReport(): Report {
  const report = handMadeReport();
  const { fanout, membership, mls } = report;
  return {
    ...report,
    options: { ...report.options, payloadBytes: [256] },
    fanout: {
      ...fanout!,
      rows: fanout!.rows.filter(({ payloadBytes }) => payloadBytes === 256),
      spreads: fanout!.spreads.filter(({ payloadBytes }) => payloadBytes === 256),
    },
    membership: {
      ...membership!,
      rows: membership!.rows.filter(({ operation }) => ["add-1", "remove-1"].includes(operation)),
    },
    mls: {
      ...mls!,
      rows: mls!.rows.filter(({ operation }) => ["join-cold", "join-warm"].includes(operation)),
    },
  };
}

const costKeys = [
  "senderBytes",
  "storedBytes",
  "egressBytes",
  "receiverBytes",
  "senderCpuUs",
  "dsCpuUs",
  "receiverCpuUs",
] as const;

const sizes = [2, 128, 255, 256, 1000];

/** Rows of one protocol whose every cost is a function of the size. */
export function fanoutRows(
  protocol: Protocol,
  payloadBytes: number,
  cost: (members: number) => number,
): FanoutRow[] {
  return sizes.map((members) => {
    const costs = Object.fromEntries(costKeys.map((key) => [key, cost(members)]));
    return { protocol, members, payloadBytes, ...costs } as FanoutRow;
  });
}

export function membershipRow(
  operation: MembershipRow["operation"],
  protocol: Protocol,
  members: number,
  cost: number,
): MembershipRow {
  const costs = Object.fromEntries(costKeys.map((key) => [key, cost]));
  const rest = { newcomerBytes: null, newcomerCpuUs: null, runs: 1 };
  return { operation, protocol, members, changed: 1, ...costs, ...rest } as MembershipRow;
}

/** A report of nothing but what is given. */
export function reportOf(changes: Partial<Report> = {}): Report {
  const { benchmark, schema, startedAt, machine, versions, primitivesUs } = handMadeReport();
  return {
    benchmark,
    schema,
    startedAt,
    durationSeconds: 1,
    seed: "constructed",
    partial: false,
    options: {
      members: sizes,
      payloadBytes: [256],
      mlsSizes: [64],
      full: false,
      messagesPerDay: null,
      churnPerDay: null,
    },
    machine,
    versions,
    primitivesUs,
    peers: [],
    ...changes,
  };
}

export const fanoutOf = (...rows: FanoutRow[][]): Pick<Report, "fanout"> => ({
  fanout: { rows: rows.flat(), spreads: [], definitions: [] },
});

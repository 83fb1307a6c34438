/** Cost at N and at 16 N, out of measured rows of exactly these sizes. */
import type { MlsReport } from "../mls/rows.ts";
import type { FanoutRow, FanoutSection, GrowthRow, GrowthSection, Protocol } from "./schema.ts";

const FACTOR = 16;
const FANOUT_COSTS = [
  "senderBytes",
  "storedBytes",
  "egressBytes",
  "receiverBytes",
  "senderCpuUs",
  "dsCpuUs",
  "receiverCpuUs",
] as const satisfies readonly (keyof FanoutRow)[];

function growthRow(
  cost: string,
  protocol: Protocol | "murmuration",
  unit: GrowthRow["unit"],
  small: readonly [members: number, value: number],
  large: readonly [members: number, value: number],
): GrowthRow {
  return {
    cost,
    protocol,
    unit,
    members: small[0],
    value: small[1],
    largeMembers: large[0],
    largeValue: large[1],
    ratio: Number((large[1] / small[1]).toPrecision(4)),
  };
}

function fanoutGrowth({ rows }: FanoutSection): GrowthRow[] {
  return rows.flatMap((small) => {
    const large = rows.find(
      (row) =>
        row.protocol === small.protocol &&
        row.payloadBytes === small.payloadBytes &&
        row.members === small.members * FACTOR,
    );
    if (large === undefined) return [];
    return FANOUT_COSTS.map((cost) =>
      growthRow(
        `fanout ${small.payloadBytes} B ${cost}`,
        small.protocol,
        cost.endsWith("Bytes") ? "bytes" : "us",
        [small.members, small[cost]],
        [large.members, large[cost]],
      ),
    );
  });
}

function mlsGrowth({ rows }: MlsReport): GrowthRow[] {
  const own = rows.filter((row) => row.implementation === "murmuration");
  return own.flatMap((small) => {
    const large = own.find(
      (row) => row.operation === small.operation && row.members === small.members * FACTOR,
    );
    if (large === undefined) return [];
    const found: GrowthRow[] = [];
    const ends = <T>(of: (row: (typeof own)[number]) => T): [T, T] => [of(small), of(large)];
    const [ms, largeMs] = ends(({ medianMs }) => medianMs);
    const [bytes, largeBytes] = ends((row) => row.bytes);
    if (ms && largeMs)
      found.push(
        growthRow(
          `${small.operation} median`,
          "murmuration",
          "us",
          [small.members, Math.round(ms * 1e4) / 10],
          [large.members, Math.round(largeMs * 1e4) / 10],
        ),
      );
    if (bytes && largeBytes)
      found.push(
        growthRow(
          `${small.operation} bytes`,
          "murmuration",
          "bytes",
          [small.members, bytes],
          [large.members, largeBytes],
        ),
      );
    return found;
  });
}

/** Every pair of sizes N and 16 N that the run has. */
export function growthSection(
  fanout: FanoutSection | undefined,
  mls: MlsReport | undefined,
): GrowthSection | undefined {
  const rows = [...(fanout ? fanoutGrowth(fanout) : []), ...(mls ? mlsGrowth(mls) : [])];
  if (rows.length === 0) return undefined;
  return {
    rows,
    definitions: [
      "Both ends are measured rows of this run; nothing is computed from a curve. A ratio of 16 is linear growth, 1 is none.",
    ],
  };
}

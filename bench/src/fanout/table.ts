import { alignTable } from "../mls/table.ts";
import type { FanoutSection } from "../report/schema.ts";

const count = (value: number): string => Math.round(value).toLocaleString("en");

/** The fan-out as text. */
export function printFanout({ rows, spreads }: FanoutSection): void {
  const heads = [
    "protocol",
    "members",
    "payload",
    "sender B",
    "stored B",
    "egress B",
    "receiver B",
    "sender us",
    "DS us",
    "receiver us",
    "runs",
  ];
  const lines = rows.map((row, i) => [
    row.protocol,
    ...[
      row.members,
      row.payloadBytes,
      row.senderBytes,
      row.storedBytes,
      row.egressBytes,
      row.receiverBytes,
      row.senderCpuUs,
      row.dsCpuUs,
      row.receiverCpuUs,
      spreads[i]!.runs,
    ].map(count),
  ]);
  console.log(`\n${alignTable(heads, lines).join("\n")}`);
}

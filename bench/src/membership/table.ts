import { alignTable } from "../mls/table.ts";
import type { MembershipSection } from "../report/schema.ts";

const count = (value: number | null): string =>
  value === null ? "" : Math.round(value).toLocaleString("en");

/** The membership section as text. */
export function printMembership({ rows }: MembershipSection): void {
  const heads = [
    "operation",
    "protocol",
    "members",
    "sender B",
    "stored B",
    "egress B",
    "receiver B",
    "newcomer B",
  ];
  const times = ["sender us", "DS us", "receiver us", "newcomer us"];
  const lines = rows.map((row) => [
    row.operation,
    row.protocol,
    ...[
      row.members,
      row.senderBytes,
      row.storedBytes,
      row.egressBytes,
      row.receiverBytes,
      row.newcomerBytes,
      row.senderCpuUs,
      row.dsCpuUs,
      row.receiverCpuUs,
      row.newcomerCpuUs,
    ].map(count),
  ]);
  console.log(`\n${alignTable([...heads, ...times], lines).join("\n")}`);
}

/** The report on a terminal: exact counts first, then times. */
import type { MlsReport, Row } from "./rows.ts";

export function formatMs(ms: number): string {
  if (ms >= 10_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms >= 100) return `${ms.toFixed(0)} ms`;
  if (ms >= 1) return `${ms.toFixed(2)} ms`;
  return `${(ms * 1000).toFixed(0)} us`;
}

const SHOWN_COUNTS = ["sign", "verify", "hpkeSeal", "hpkeOpen", "hash"] as const;

function cells(row: Row): string[] {
  const counts = SHOWN_COUNTS.map((name) => {
    const value = row.counts?.[name];
    return value === undefined ? "" : Number.isInteger(value) ? `${value}` : value.toFixed(1);
  });
  const time = (ms: number | null) => (ms === null ? (row.cut ?? "") : formatMs(ms));
  return [
    row.implementation,
    row.bytes === null ? "" : row.bytes.toLocaleString("en"),
    ...counts,
    time(row.bestMs),
    row.medianMs === null ? "" : formatMs(row.medianMs),
    row.worstMs === null ? "" : formatMs(row.worstMs),
    row.ratioToFloor === null ? "" : `x${row.ratioToFloor.toFixed(2)}`,
  ];
}

/** Lines of a table whose columns are as wide as their widest cell; the first column is left-aligned. */
export function alignTable(header: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const widths = header.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]!.length)),
  );
  return [header, ...rows].map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join("  ")
      .trimEnd(),
  );
}

export function printReport(report: MlsReport): void {
  const { machine, versions } = report;
  console.log(`\n${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.os}`);
  console.log(
    Object.entries(versions)
      .map(([name, version]) => `${name} ${version}`)
      .join(", "),
  );
  const primitives = report.primitives.map(({ name, us, opensslUs }) => [
    name,
    us.toFixed(us < 0.1 ? 5 : 2),
    opensslUs === null ? "-" : opensslUs.toFixed(2),
  ]);
  console.log(`\n${alignTable(["primitive", "us", "us openssl"], primitives).join("\n")}`);
  const header = ["", "bytes", ...SHOWN_COUNTS, "best", "median", "worst receiver", "to floor"];
  const groups = Map.groupBy(report.rows, (row) => `${row.operation}, ${row.members} members`);
  for (const [title, rows] of groups) {
    console.log(`\n${title}\n${alignTable(header, rows.map(cells)).join("\n")}`);
  }
  if (report.memory.length > 0) {
    const memory = report.memory.map((row) => [
      `${row.implementation}, ${row.members} members`,
      row.bytesPerGroup.toLocaleString("en"),
      row.bytesPerMember.toLocaleString("en"),
    ]);
    console.log(`\n${alignTable(["memory of a loaded group", "bytes", "per member"], memory).join("\n")}`);
  }
  for (const reason of report.floorVoid) console.log(`\nRatios to the floor are void: ${reason}.`);
  if (report.partial) console.log("\nInterrupted: this report is partial.");
}

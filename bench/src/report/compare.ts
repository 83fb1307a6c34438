/**
 * Holds one report to another. Bytes and counts are judged row by row, since they are exact. Times are judged by
 * groups, such as all fan-outs of one protocol: the median ratio of a group's rows, after the ratio of the two runs'
 * primitives, which is how much faster or slower the machine was. So one disturbed row is no regression, and the
 * bound grows with how far the runs behind the rows scattered.
 */
import { median } from "../median.ts";
import type { FanoutReport, FanoutSection, MembershipSection, Report } from "./schema.ts";

export type Comparable = Partial<Report> | Partial<FanoutReport>;

export interface Judgement {
  readonly what: string;
  /** The later figure over the earlier one: of exact figures as they are, of times after the machine's drift. */
  readonly ratio: number;
  /** Most that the ratio may be. */
  readonly bound: number;
  readonly regressed: boolean;
}

export interface ReportBounds {
  readonly time: number;
  readonly exact: number;
}

interface Figure {
  /** Rows of one group are judged together. */
  readonly group: string;
  readonly key: string;
  readonly value: number;
  /** Most over least of the runs behind it; 1 where there was one. */
  readonly scatter: number;
}

interface Figures {
  readonly exact: ReadonlyMap<string, number>;
  readonly times: readonly Figure[];
}

const FANOUT_TIMES = [
  ["senderCpuUs", "senderCpu"],
  ["dsCpuUs", "dsCpu"],
  ["receiverCpuUs", "receiverCpu"],
] as const;
const BYTES = ["senderBytes", "storedBytes", "egressBytes", "receiverBytes"] as const;
const MEMBERSHIP_TIMES = ["senderCpuUs", "dsCpuUs", "receiverCpuUs", "newcomerCpuUs"] as const;

function addFanout({ rows, spreads }: FanoutSection, exact: Map<string, number>, times: Figure[]): void {
  for (const [i, row] of rows.entries()) {
    const key = `fanout ${row.protocol} ${row.members} members ${row.payloadBytes} B`;
    for (const name of BYTES) exact.set(`${key} ${name}`, row[name]);
    for (const [name, spread] of FANOUT_TIMES) {
      const { leastUs, mostUs } = spreads[i]![spread];
      const group = `fanout ${row.protocol} ${name}`;
      times.push({ group, key, value: row[name], scatter: leastUs > 0 ? mostUs / leastUs : 1 });
    }
  }
}

function addMembership({ rows }: MembershipSection, exact: Map<string, number>, times: Figure[]): void {
  for (const row of rows) {
    const key = `${row.operation} ${row.protocol} ${row.members} members`;
    for (const name of BYTES) exact.set(`${key} ${name}`, row[name]);
    for (const name of MEMBERSHIP_TIMES) {
      const value = row[name];
      if (value !== null) times.push({ group: `membership ${row.protocol} ${name}`, key, value, scatter: 1 });
    }
  }
}

function figuresOf(report: Comparable): Figures {
  const exact = new Map<string, number>();
  const times: Figure[] = [];
  if (report.benchmark === "fanout") addFanout(report as FanoutReport, exact, times);
  const { counts, fanout, membership, mls } = report as Partial<Report>;
  if (fanout !== undefined) addFanout(fanout, exact, times);
  if (membership !== undefined) addMembership(membership, exact, times);
  for (const row of counts?.rows ?? []) {
    for (const [name, value] of Object.entries(row.counts)) {
      exact.set(`${row.operation} ${row.members} members ${name}`, value);
    }
  }
  for (const row of mls?.rows ?? []) {
    if (row.implementation !== "murmuration" || row.medianMs === null || row.bestMs === null) continue;
    const key = `${row.operation} ${row.members} members`;
    // Its time is that of the cores that are free, which nothing here measures.
    if (row.operation.endsWith("-pooled")) continue;
    if (row.bytes !== null) exact.set(`mls ${key} bytes`, row.bytes);
    times.push({ group: `mls ${row.operation}`, key, value: row.bestMs, scatter: row.medianMs / row.bestMs });
  }
  return { exact, times };
}

/** How much slower the machine was in the later run; 1 where a run did not measure it. */
export function driftOf(before: Comparable, after: Comparable): number {
  const ratios = Object.entries(after.primitivesUs ?? {}).flatMap(([name, us]) => {
    const was = before.primitivesUs?.[name];
    return was === undefined || was === 0 ? [] : [us / was];
  });
  return ratios.length === 0 ? 1 : median(ratios);
}

/** Judges everything that both reports have. */
export function judgeReports(before: Comparable, after: Comparable, bounds: ReportBounds): Judgement[] {
  const [was, is] = [figuresOf(before), figuresOf(after)];
  return [
    ...judgeExact(was.exact, is.exact, bounds.exact),
    ...judgeTimes(was.times, is.times, bounds.time, driftOf(before, after)),
  ];
}

function judgeExact(
  was: ReadonlyMap<string, number>,
  is: ReadonlyMap<string, number>,
  bound: number,
): Judgement[] {
  return [...is].flatMap(([what, value]) => {
    const old = was.get(what);
    if (old === undefined) return [];
    const ratio = old === 0 ? (value === 0 ? 1 : Number.POSITIVE_INFINITY) : value / old;
    return [{ what, ratio, bound, regressed: ratio > bound }];
  });
}

function judgeTimes(was: readonly Figure[], is: readonly Figure[], time: number, drift: number): Judgement[] {
  const earlier = new Map(was.map((figure) => [`${figure.group}/${figure.key}`, figure]));
  const groups = new Map<string, { ratios: number[]; scatters: number[] }>();
  for (const figure of is) {
    const old = earlier.get(`${figure.group}/${figure.key}`);
    if (old === undefined || old.value === 0) continue;
    const group = groups.get(figure.group) ?? { ratios: [], scatters: [] };
    group.ratios.push(figure.value / old.value / drift);
    // Half of the scatter, as a factor, to either side of a median.
    group.scatters.push(Math.sqrt(Math.max(figure.scatter, old.scatter)));
    groups.set(figure.group, group);
  }
  return [...groups].map(([what, { ratios, scatters }]) => {
    const ratio = median(ratios);
    const bound = time * median(scatters);
    return { what, ratio, bound, regressed: ratio > bound };
  });
}

/**
 * Holds one report to another. Bytes and counts are judged row by row, since they are exact. Times are judged by
 * groups, such as all fan-outs of one protocol: the median ratio of a group's rows, after the section's weather, which
 * is the median of its groups. What a shared machine did while the section ran slows all of it, what it did to one row
 * does not move a median, and the bound grows with how far the runs behind the rows scattered. Whether the section as a
 * whole became slower than the machine's primitives did is judged by itself, and generously: primitives are measured now
and then, the section all the time.
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

type Section = "fanout" | "membership" | "mls";

interface Figure {
  readonly section: Section;
  /** Rows of one group are judged together. */
  readonly group: string;
  readonly key: string;
  readonly value: number;
  /** Most over least of the runs behind it; 1 where there was one. */
  readonly scatter: number;
  /** Peers' code is not ours to judge; it meets the same weather. */
  readonly isPeer?: boolean;
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
      const scatter = leastUs > 0 ? mostUs / leastUs : 1;
      times.push({ section: "fanout", group, key, value: row[name], scatter });
    }
  }
}

function addMembership({ rows }: MembershipSection, exact: Map<string, number>, times: Figure[]): void {
  for (const row of rows) {
    const key = `${row.operation} ${row.protocol} ${row.members} members`;
    for (const name of BYTES) exact.set(`${key} ${name}`, row[name]);
    for (const name of MEMBERSHIP_TIMES) {
      const value = row[name];
      const group = `membership ${row.protocol} ${name}`;
      if (value !== null) times.push({ section: "membership", group, key, value, scatter: 1 });
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
    if (row.implementation === "floor" || row.medianMs === null || row.bestMs === null) continue;
    // Its time is that of the cores that are free, which nothing here measures.
    if (row.operation.endsWith("-pooled")) continue;
    const key = `${row.operation} ${row.members} members`;
    const isPeer = row.implementation !== "murmuration";
    if (row.bytes !== null && !isPeer) exact.set(`mls ${key} bytes`, row.bytes);
    const group = isPeer ? `mls ${row.operation} ${row.implementation}` : `mls ${row.operation}`;
    const scatter = row.medianMs / row.bestMs;
    times.push({ section: "mls", group, key, value: row.bestMs, scatter, isPeer });
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

/** Fewer groups have no middle to speak of: the primitives stand for the weather then. */
const LEAST_GROUPS = 5;

interface Group {
  readonly what: string;
  readonly section: Section;
  readonly isPeer: boolean;
  readonly ratio: number;
  readonly scatter: number;
}

function groupsOf(was: readonly Figure[], is: readonly Figure[]): Group[] {
  const earlier = new Map(was.map((figure) => [`${figure.group}/${figure.key}`, figure]));
  const found = new Map<string, { readonly of: Figure; ratios: number[]; scatters: number[] }>();
  for (const figure of is) {
    const old = earlier.get(`${figure.group}/${figure.key}`);
    if (old === undefined || old.value === 0) continue;
    const group = found.get(figure.group) ?? { of: figure, ratios: [], scatters: [] };
    group.ratios.push(figure.value / old.value);
    // Half of the scatter, as a factor, to either side of a median.
    group.scatters.push(Math.sqrt(Math.max(figure.scatter, old.scatter)));
    found.set(figure.group, group);
  }
  return [...found].map(([what, { of, ratios, scatters }]) => ({
    what,
    section: of.section,
    isPeer: of.isPeer === true,
    ratio: median(ratios),
    scatter: median(scatters),
  }));
}

function judgeTimes(was: readonly Figure[], is: readonly Figure[], time: number, drift: number): Judgement[] {
  const groups = groupsOf(was, is);
  const judgements: Judgement[] = [];
  const judge = (what: string, ratio: number, bound: number) =>
    judgements.push({ what, ratio, bound, regressed: ratio > bound });
  for (const section of ["fanout", "membership", "mls"] as const) {
    const present = groups.filter((group) => group.section === section);
    const hasMiddle = present.length >= LEAST_GROUPS;
    const weather = hasMiddle ? median(present.map(({ ratio }) => ratio)) : drift;
    for (const { isPeer, ratio, scatter, what } of present)
      if (!isPeer) judge(what, ratio / weather, time * scatter);
    if (hasMiddle) judge(`${section}, all of it, beside the primitives`, weather / drift, time ** 2);
  }
  return judgements;
}

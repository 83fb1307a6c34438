/**
 * The answer in words: is the threshold between pairwise and MLS the right one for this payload and churn? Every
 * sentence follows from rows of the report; what they do not hold is said to be missing, never filled in.
 */
import { type Comparison, compareCosts, type Point } from "./crossover.ts";
import type { DailyRow, FanoutRow, MembershipRow, Profile, Protocol, Report } from "./schema.ts";
import {
  formatBytes,
  formatCount,
  formatMicroseconds,
  formatRatio,
  joinWords,
  significant,
} from "./units.ts";
import { type Measure, measures, nameOfProtocol } from "./words.ts";

/** Where the client core moves a group from pairwise to MLS. */
export const THRESHOLD_MEMBERS = 256;

/** What stands below the threshold and above it. */
export const BELOW: Protocol = "pairwise-sealed";
export const ABOVE: Protocol = "mls-warm";

export type Verdict = "fits" | "lower" | "higher" | "never" | "same" | "mixed" | "unmeasured";

export interface MeasureAnswer {
  readonly measure: Measure;
  readonly comparison: Comparison;
  readonly verdict: Verdict;
  /** Where which of the two costs less. */
  readonly words: string;
}

export interface BreakEven {
  readonly members: number;
  readonly protocol: Protocol;
  /** By the bytes on all sockets. */
  readonly bytes: BreakEvenMessages;
  /** By the CPU of everybody together. */
  readonly cpu: BreakEvenMessages;
}

/** For how many messages between one join and leave and the next the whole costs less than pairwise. */
export type BreakEvenMessages = "always" | "never" | { readonly from: number } | { readonly upTo: number };

export interface PayloadAnswer {
  readonly payloadBytes: number;
  readonly measures: readonly MeasureAnswer[];
  readonly breakEven: readonly BreakEven[];
  /** The verdicts on the costs of a message, then what one join and one leave add. */
  readonly summary: readonly string[];
}

export interface Conclusion {
  readonly payloads: readonly PayloadAnswer[];
  readonly profiles: readonly string[];
}

export function conclude(report: Report): Conclusion {
  const rows = report.fanout?.rows ?? [];
  const payloads = [...new Set(rows.map(({ payloadBytes }) => payloadBytes))].sort((a, b) => a - b);
  return {
    payloads: payloads.map((payloadBytes) => answerPayload(report, payloadBytes)),
    profiles: (report.daily?.profiles ?? []).flatMap((profile) => answerProfile(report, profile)),
  };
}

/** The rows of one protocol and payload as points of one measure, with the spread where it has one. */
export function pointsOf(
  report: Report,
  protocol: Protocol,
  payloadBytes: number,
  measure: Measure,
): readonly Point[] {
  const { rows = [], spreads = [] } = report.fanout ?? {};
  const spread = new Map(
    spreads
      .filter((each) => each.protocol === protocol && each.payloadBytes === payloadBytes)
      .map((each) => [each.members, each]),
  );
  return rows
    .filter((row) => row.protocol === protocol && row.payloadBytes === payloadBytes)
    .map((row) => {
      const range = measure.spread === undefined ? undefined : spread.get(row.members)?.[measure.spread];
      const point = { members: row.members, cost: row[measure.key] };
      // One run has no spread; its figure stands for itself.
      const once = (spread.get(row.members)?.runs ?? 1) < 2;
      return range === undefined || once ? point : { ...point, least: range.leastUs, most: range.mostUs };
    });
}

function answerPayload(report: Report, payloadBytes: number): PayloadAnswer {
  const answers = measures.map((measure) => {
    const comparison = compareCosts(
      pointsOf(report, BELOW, payloadBytes, measure),
      pointsOf(report, ABOVE, payloadBytes, measure),
    );
    return {
      measure,
      comparison,
      verdict: judge(comparison),
      words: describe(comparison, "pairwise", "MLS"),
    };
  });
  const breakEven = breakEvens(report, payloadBytes);
  return {
    payloadBytes,
    measures: answers,
    breakEven,
    summary: [...summarise(answers), ...describeBreakEven(breakEven)],
  };
}

/** What a comparison of what stands below the threshold with what stands above says about the threshold. */
function judge(comparison: Comparison): Verdict {
  const { sizes, crossings, cheaperAtStart } = comparison;
  if (sizes.length < 2) return "unmeasured";
  if (cheaperAtStart === undefined) return "same";
  if (crossings.length > 1) return "mixed";
  const [crossing] = crossings;
  if (crossing === undefined) return cheaperAtStart === "second" ? "lower" : "never";
  if (crossing.cheaperBefore === "second") return "mixed";
  if (crossing.upTo < THRESHOLD_MEMBERS) return "lower";
  return crossing.after < THRESHOLD_MEMBERS ? "fits" : "higher";
}

/** Where which of two costs less, at measured sizes only. */
export function describe(comparison: Comparison, first: string, second: string): string {
  const { sizes, crossings, cheaperAtStart, equalAt } = comparison;
  if (sizes.length === 0) return "no size was measured for both";
  const names = { first, second };
  const other = { first: second, second: first };
  const range =
    sizes.length === 1
      ? `at ${formatCount(sizes[0]!)}, the only size measured for both`
      : `at every measured size, ${formatCount(sizes[0]!)} to ${formatCount(sizes.at(-1)!)}`;
  if (cheaperAtStart === undefined) return `no difference that was measured ${range}`;
  const equal =
    equalAt.length === 0 ? "" : `; no difference that was measured at ${joinWords(equalAt.map(formatCount))}`;
  if (crossings.length === 0) {
    const where = equalAt.length === 0 ? range : "at every other measured size";
    return `${names[cheaperAtStart]} costs less ${where}${equal}`;
  }
  const parts = crossings.map(({ upTo, cheaperBefore }, i) => {
    const until = crossings[i + 1]?.after;
    const from = formatCount(upTo);
    if (until === undefined) return `${other[cheaperBefore]} from ${from} on`;
    return `${other[cheaperBefore]} ${until === upTo ? `at ${from}` : `from ${from} to ${formatCount(until)}`}`;
  });
  const start = `${names[cheaperAtStart]} costs less up to ${formatCount(crossings[0]!.after)}`;
  return `${[start, ...parts].join(", ")}${equal}`;
}

/** The verdict with the sizes that it rests on. */
function verdictWords(verdict: Verdict, { sizes, crossings }: Comparison): string {
  const threshold = formatCount(THRESHOLD_MEMBERS);
  const [crossing] = crossings;
  switch (verdict) {
    case "fits":
      return `yes, pairwise costs less up to ${formatCount(crossing!.after)} members and MLS from ${formatCount(crossing!.upTo)} on`;
    case "lower":
      return `a lower threshold would do, MLS costs less from ${formatCount(crossing?.upTo ?? sizes[0]!)} members on`;
    case "higher":
      return `a higher threshold would do, pairwise still costs less at ${formatCount(crossing!.after)} members`;
    case "never":
      return `MLS costs less at no measured size, ${threshold} or another`;
    case "same":
      return "any threshold would do, no difference was measured";
    case "mixed":
      return "no single threshold fits, which of the two costs less changes back again";
    case "unmeasured":
      return "no answer, fewer than two sizes were measured for both";
  }
}

/** One sentence for each verdict, the one that most costs lead to first. */
function summarise(answers: readonly MeasureAnswer[]): string[] {
  const groups = [...Map.groupBy(answers, ({ verdict, comparison }) => verdictWords(verdict, comparison))];
  return groups
    .sort(([, a], [, b]) => b.length - a.length)
    .map(([words, group]) => {
      const subjects =
        group.length === answers.length
          ? `all ${answers.length} costs of a message`
          : joinWords(group.map(({ measure }) => measure.subject));
      return `By ${subjects}: ${words}.`;
    });
}

interface Cost {
  readonly bytes: number;
  readonly cpuUs: number;
}

/** Everything one message or change costs: both sockets, and the CPU of sender, service and all receivers. */
function wholeCost(row: FanoutRow | MembershipRow, receivers: number): Cost {
  return {
    bytes: row.senderBytes + row.egressBytes,
    cpuUs:
      row.senderCpuUs +
      row.dsCpuUs +
      row.receiverCpuUs * receivers +
      ("newcomerCpuUs" in row ? (row.newcomerCpuUs ?? 0) : 0),
  };
}

function messageCost(report: Report, protocol: Protocol, members: number, payload: number): Cost | undefined {
  const row = report.fanout?.rows.find(
    (each) => each.protocol === protocol && each.members === members && each.payloadBytes === payload,
  );
  return row && wholeCost(row, members - 1);
}

/** One join and one leave, in a group that has this size before the one and after the other. */
function churnCost(report: Report, protocol: Protocol, members: number): Cost | undefined {
  const find = (operation: MembershipRow["operation"]) =>
    report.membership?.rows.find(
      (each) => each.protocol === protocol && each.members === members && each.operation === operation,
    );
  const [add, remove] = [find("add-1"), find("remove-1")];
  if (add === undefined || remove === undefined) return undefined;
  const [added, removed] = [wholeCost(add, members - 1), wholeCost(remove, members - 1)];
  return { bytes: added.bytes + removed.bytes, cpuUs: added.cpuUs + removed.cpuUs };
}

function breakEvens(report: Report, payload: number): BreakEven[] {
  const sizes = [...new Set((report.membership?.rows ?? []).map(({ members }) => members))];
  return sizes
    .sort((a, b) => a - b)
    .flatMap((members) =>
      (["mls-warm", "mls-cold"] as const).flatMap((protocol): BreakEven[] => {
        const message = [
          messageCost(report, BELOW, members, payload),
          messageCost(report, protocol, members, payload),
        ];
        const churn = [churnCost(report, BELOW, members), churnCost(report, protocol, members)];
        if ([...message, ...churn].includes(undefined)) return [];
        const between = (key: keyof Cost) =>
          breakEvenMessages(churn[1]![key] - churn[0]![key], message[0]![key] - message[1]![key]);
        return [{ members, protocol, bytes: between("bytes"), cpu: between("cpuUs") }];
      }),
    );
}

/** At how many messages what each of them saves and what the change costs more are level. */
export function breakEvenMessages(changeCostsMore: number, messageSaves: number): BreakEvenMessages {
  if (changeCostsMore <= 0) {
    return messageSaves >= 0 ? "always" : { upTo: Math.floor(changeCostsMore / messageSaves) };
  }
  return messageSaves <= 0 ? "never" : { from: Math.ceil(changeCostsMore / messageSaves) };
}

export function formatBreakEven(messages: BreakEvenMessages): string {
  if (messages === "never") return "never";
  if (messages === "always") return "always";
  if ("upTo" in messages && messages.upTo < 1) return "only without a message";
  const [word, count] = "from" in messages ? ["from", messages.from] : ["up to", messages.upTo];
  return `${word} ${formatCount(count)} ${count === 1 ? "message" : "messages"}${word === "from" ? " on" : ""}`;
}

function describeBreakEven(all: readonly BreakEven[]): string[] {
  // The size nearest to the threshold is the one the threshold is about; it is named, so nothing is passed off.
  const distance = ({ members }: BreakEven) => Math.abs(Math.log(members / THRESHOLD_MEMBERS));
  const nearest = all.toSorted((a, b) => distance(a) - distance(b))[0]?.members;
  return all
    .filter(({ members }) => members === nearest)
    .map(({ members, protocol, bytes, cpu }) => {
      const name = nameOfProtocol(protocol);
      const change = `With one join and one leave in a group of ${formatCount(members)}, ${name}`;
      if (bytes === "never" && cpu === "never") {
        return `${change} never costs less than pairwise, in bytes or in CPU of everybody together.`;
      }
      const group = `${change} costs less than pairwise`;
      const [byBytes, byCpu] = [inWords(bytes), inWords(cpu)];
      return byBytes === byCpu
        ? `${group} ${byBytes}, in bytes and in CPU of everybody together.`
        : `${group} ${byBytes} in bytes and ${byCpu} in CPU of everybody together.`;
    });
}

const inWords = (messages: BreakEvenMessages): string =>
  messages === "always" ? "whatever is written" : formatBreakEven(messages);

const plural = (count: number, noun: string): string =>
  `${significant(count)} ${noun}${count === 1 ? "" : "s"}`;

function answerProfile(report: Report, profile: Profile): string[] {
  const rows = (report.daily?.rows ?? []).filter((row) => row.profile === profile.name);
  if (rows.length === 0) return [];
  const cheapest = (key: keyof DailyRow): DailyRow =>
    rows.reduce((best, row) => (Number(row[key]) < Number(best[key]) ? row : best));
  const chosen = profile.members < THRESHOLD_MEMBERS ? BELOW : ABOVE;
  const own = rows.find(({ protocol }) => protocol === chosen);
  const [egress, download, cpu] = [
    cheapest("dsEgressBytes"),
    cheapest("memberDownloadBytes"),
    cheapest("memberCpuUs"),
  ];
  const intro = `A ${profile.name} of ${formatCount(profile.members)} members with ${formatCount(profile.messagesPerDay)} messages of ${formatCount(profile.payloadBytes)} bytes, ${plural(profile.joinsPerDay, "join")} and ${plural(profile.leavesPerDay, "leave")} a day`;
  const least = `the service sends least with ${nameOfProtocol(egress.protocol)} (${formatBytes(egress.dsEgressBytes)} a day), a member receives least with ${nameOfProtocol(download.protocol)} (${formatBytes(download.memberDownloadBytes)}) and computes least with ${nameOfProtocol(cpu.protocol)} (${formatMicroseconds(cpu.memberCpuUs)}).`;
  const comparison =
    own === undefined
      ? `What Murmuration does at this size, ${nameOfProtocol(chosen)}, was not measured.`
      : `What Murmuration does at this size, ${nameOfProtocol(chosen)}, costs ${formatRatio(own.dsEgressBytes / egress.dsEgressBytes)}, ${formatRatio(own.memberDownloadBytes / download.memberDownloadBytes)} and ${formatRatio(own.memberCpuUs / cpu.memberCpuUs)} of that.`;
  return [`${intro}: ${least} ${comparison}`];
}

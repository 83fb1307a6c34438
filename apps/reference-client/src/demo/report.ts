import type { TimelineEntry } from "./move-ledger.ts";

/** What a run over MLS has besides. Of the clients as they were before the first kill. */
export interface MlsReport {
  readonly commits: number;
  readonly commitBytesMean: number;
  readonly welcomeBytesMean: number;
  readonly commitCpuUsSender: number;
  readonly commitCpuUsReceiver: number;
  /** Commits that lost a race, or had to wait for a turn. */
  readonly refusedSubmits: number;
  /** Messages that somebody could not read, commits that somebody could not follow, times somebody entered anew. */
  readonly unreadable: number;
  readonly refusedCommits: number;
  readonly rejoins: number;
  /** Leaves that each joiner verified by itself, the fewest and the mean. */
  readonly verifiedLeavesLeast: number;
  readonly verifiedLeavesMean: number;
}

/** What a run has besides in which a group moves to MLS. */
export interface MoveReport {
  readonly timeline: readonly TimelineEntry[];
  /** The longest time between two messages that came to one member, of those who were there all the time. */
  readonly longestGapMs: number;
  /** The longest time in which no message came to anybody. */
  readonly longestSilenceMs: number;
  /** By what carried them when the service took them. */
  readonly messagesPairwise: number;
  readonly messagesMls: number;
  /** Messages in a history behind a later one of the same sender. */
  readonly reordered: number;
}

/** The result of a demo run: as JSON with exactly these keys, and as a table for people. */
export interface DemoReport extends Partial<MlsReport>, Partial<MoveReport> {
  readonly members: number;
  readonly protocol: string;
  readonly messages: number;
  /** Pairs of message and receiving member that arrived. */
  readonly deliveries: number;
  readonly lost: number;
  readonly duplicated: number;
  /** Bytes that the measured sender put on the network for one message. */
  readonly senderBytesPerMessage: number;
  /** Bytes that one receiver took from the network for one message. */
  readonly receiverBytesPerMessage: number;
  /**
   * CPU of the sender's process for one message. In a community the median, from the text in the client's hand until the
   * client has recorded that the service has it; of a pairwise message the mean of all that the process did, with receipts.
   */
  readonly senderCpuUsPerMessage: number;
  readonly receiverCpuUsPerMessage: number;
  readonly dsCpuUsPerMessage: number;
  /** From the sender's hand to the last member, median of the measured messages. */
  readonly lastMemberMsMedian: number;
  readonly kills: number;
  readonly restarts: number;
  readonly processIds: readonly number[];
  readonly wallMs: number;
  readonly seed: number;
}

export interface DemoOutcome {
  readonly report: DemoReport;
  /** What was lost, doubled or out of order, one sentence each. */
  readonly faults: readonly string[];
  /** Kills that hit while a message was on its way to somebody: without any, the run shows nothing. */
  readonly killsUnderWay: number;
}

/** True when every message is exactly once in every history that it belongs to, and in its sender's order after a move. */
export function isClean(report: DemoReport): boolean {
  return report.lost === 0 && report.duplicated === 0 && (report.reordered ?? 0) === 0;
}

const number = (value: number): string => value.toLocaleString("en-US", { maximumFractionDigits: 0 });
const milliseconds = (us: number): string =>
  `${(us / 1000).toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 })} ms`;

function mlsRows(report: DemoReport): ReadonlyArray<readonly [string, string]> {
  if (report.commits === undefined) return [];
  return [
    [
      "commits",
      `${number(report.commits)}, ${number(report.commitBytesMean ?? 0)} bytes on average; ` +
        `${number(report.refusedSubmits ?? 0)} lost a race`,
    ],
    [
      "a commit costs",
      `${milliseconds(report.commitCpuUsSender ?? 0)} CPU to make, ` +
        `${milliseconds(report.commitCpuUsReceiver ?? 0)} to take in`,
    ],
    [
      "unreadable, refused, entered anew",
      `${number(report.unreadable ?? 0)}, ${number(report.refusedCommits ?? 0)}, ${number(report.rejoins ?? 0)}`,
    ],
    [
      "each joiner",
      `${number(report.welcomeBytesMean ?? 0)} bytes of Welcome, ${number(report.verifiedLeavesMean ?? 0)} leaves verified`,
    ],
  ];
}

function moveRows(report: DemoReport): ReadonlyArray<readonly [string, string]> {
  if (report.timeline === undefined) return [];
  return [
    [
      "carried",
      `${number(report.messagesPairwise ?? 0)} pairwise, ${number(report.messagesMls ?? 0)} by MLS`,
    ],
    ["reordered", number(report.reordered ?? 0)],
    ["longest gap between two messages at a member", `${number(report.longestGapMs ?? 0)} ms`],
    ["longest time in which nobody got one", `${number(report.longestSilenceMs ?? 0)} ms`],
  ];
}

/** What happened when, counted from the moment in which the new members were to be added. */
function formatTimeline({ timeline = [] }: DemoReport): string {
  if (timeline.length === 0) return "";
  const times = timeline.map(({ atMs }) => `${number(atMs)} ms`);
  const width = Math.max(...times.map((text) => text.length));
  return `${timeline.map(({ what }, index) => `  ${times[index]!.padStart(width)}  ${what}`).join("\n")}\n\n`;
}

/** The report as aligned lines. */
export function formatReport(report: DemoReport, killsUnderWay: number): string {
  const rows: ReadonlyArray<readonly [string, string]> = [
    ["members", `${number(report.members)} (${report.protocol})`],
    ["messages", number(report.messages)],
    ["deliveries", number(report.deliveries)],
    ["lost", number(report.lost)],
    ["duplicated", number(report.duplicated)],
    ...moveRows(report),
    [
      "kills and restarts",
      `${number(report.kills)} and ${number(report.restarts)}; ${number(killsUnderWay)} hit a message under way`,
    ],
    ["processes", number(report.processIds.length)],
    [
      // A group that moves is measured while it is pairwise.
      report.protocol === "mls" && report.timeline === undefined
        ? "sender, per message, until it is accepted"
        : "sender, per message, with its receipts",
      `${number(report.senderBytesPerMessage)} bytes, ${milliseconds(report.senderCpuUsPerMessage)} CPU`,
    ],
    [
      "each receiver, per message",
      `${number(report.receiverBytesPerMessage)} bytes, ${milliseconds(report.receiverCpuUsPerMessage)} CPU`,
    ],
    ["delivery service, per message", `${milliseconds(report.dsCpuUsPerMessage)} CPU`],
    ["to the last member, median", `${number(report.lastMemberMsMedian)} ms`],
    ...mlsRows(report),
    ["time", `${(report.wallMs / 1000).toFixed(1)} s`],
    ["seed", String(report.seed)],
  ];
  const width = Math.max(...rows.map(([label]) => label.length));
  const body = rows.map(([label, value]) => `  ${label.padEnd(width)}   ${value}`).join("\n");
  const verdict = verdictOn(report);
  return `${formatTimeline(report)}${body}\n\n${verdict}\n`;
}

function verdictOn(report: DemoReport): string {
  const moved = report.timeline !== undefined;
  if (!isClean(report)) return `MESSAGES WERE LOST${moved ? ", DOUBLED OR OUT OF ORDER" : " OR DOUBLED"}.`;
  return moved
    ? "Every message is exactly once, and in its sender's order, in the history of everybody who was a member."
    : "Every message is exactly once in every member's history.";
}

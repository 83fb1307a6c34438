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

/** The result of a demo run: as JSON with exactly these keys, and as a table for people. */
export interface DemoReport extends Partial<MlsReport> {
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

/** True when every message is exactly once in every history. */
export function isClean(report: DemoReport): boolean {
  return report.lost === 0 && report.duplicated === 0;
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

/** The report as aligned lines. */
export function formatReport(report: DemoReport, killsUnderWay: number): string {
  const rows: ReadonlyArray<readonly [string, string]> = [
    ["members", `${number(report.members)} (${report.protocol})`],
    ["messages", number(report.messages)],
    ["deliveries", number(report.deliveries)],
    ["lost", number(report.lost)],
    ["duplicated", number(report.duplicated)],
    [
      "kills and restarts",
      `${number(report.kills)} and ${number(report.restarts)}; ${number(killsUnderWay)} hit a message under way`,
    ],
    ["processes", number(report.processIds.length)],
    [
      "sender, per message, with its receipts",
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
  const verdict = isClean(report)
    ? "Every message is exactly once in every member's history."
    : "MESSAGES WERE LOST OR DOUBLED.";
  return `${body}\n\n${verdict}\n`;
}

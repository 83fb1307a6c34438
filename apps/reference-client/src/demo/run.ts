/**
 * One demo run: a delivery service and N clients as processes over real sockets, a group, M messages, kills and
 * restarts on the way, and a count of what is in every history at the end.
 */
import { CommandFailed } from "../failures.ts";
import type { Progress } from "../progress.ts";
import { Crew } from "./crew.ts";
import type { ClientRequest, History, Opened } from "./messages.ts";
import { MEASURED_SENDER, type Plan, type PlannedKill, type PlannedMessage } from "./plan.ts";
import { ProcessEnded } from "./processes.ts";
import type { DemoReport, MlsReport } from "./report.ts";
import { messageText, type Tally, tally } from "./tally.ts";

/**
 * Without a single event for this long, what has not arrived counts as lost, ms. Longer than every pause of a
 * client, so that what is late is late and not lost.
 */
const PATIENCE_MS = 120_000;
/** How long nothing may happen before a count is taken: late receipts, or a double, would show. */
const QUIET_MS = 1_500;

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Costs of one message, from the part of the run in which nothing is killed. */
type Costs = Pick<
  DemoReport,
  | "senderBytesPerMessage"
  | "receiverBytesPerMessage"
  | "senderCpuUsPerMessage"
  | "receiverCpuUsPerMessage"
  | "dsCpuUsPerMessage"
  | "lastMemberMsMedian"
>;

export interface DemoOutcome {
  readonly report: DemoReport;
  /** What was lost or doubled, one sentence each. */
  readonly faults: Tally["faults"];
  /** Kills that hit while a message was on its way to somebody: without any, the run shows nothing. */
  readonly killsUnderWay: number;
}

/** Runs the plan in an empty folder. Every process is ended before it returns or throws; `signal` breaks it off. */
export async function runDemo(
  plan: Plan,
  folder: string,
  progress: Progress,
  signal: AbortSignal,
): Promise<DemoOutcome> {
  const crew = new Crew(plan, folder);
  const broken = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(new CommandFailed("Interrupted.")), { once: true });
  });
  let gentle = false;
  try {
    const report = await Promise.race([runWith(crew, plan, progress), broken]);
    gentle = true;
    return report;
  } finally {
    progress.end();
    await crew.end(gentle);
  }
}

async function runWith(crew: Crew, plan: Plan, progress: Progress): Promise<DemoOutcome> {
  const startedMs = Date.now();
  progress.stage("registering members", plan.members);
  const accounts = await crew.start(() => progress.step());
  const group = await formGroup(crew, plan, accounts, progress);
  const costs = await measuredPart(crew, plan, group, progress);
  const community = await communityCosts(crew);
  await eventfulPart(crew, plan, group, progress);
  await everythingArrived(crew, plan, progress);
  const histories = await readHistories(crew, plan, group, progress);
  const { faults, ...counts } = tally(
    plan.messages,
    histories.map(({ messages }) => messages),
    crew.events,
  );
  const report: DemoReport = {
    members: plan.members,
    protocol: histories[MEASURED_SENDER]!.protocol,
    messages: plan.messages.length,
    ...counts,
    ...costs,
    ...(histories[MEASURED_SENDER]!.protocol === "mls" ? community : {}),
    kills: crew.kills,
    restarts: crew.restarts,
    processIds: crew.processIds,
    wallMs: Date.now() - startedMs,
    seed: plan.seed,
  };
  return { report, faults, killsUnderWay: crew.killsUnderWay };
}

async function formGroup(
  crew: Crew,
  { members }: Plan,
  accounts: readonly Opened[],
  progress: Progress,
): Promise<string> {
  progress.stage("forming the group", members);
  const cards = accounts.map(({ contactCard }) => contactCard);
  const creator = cards[MEASURED_SENDER]!;
  const others = accounts.slice(1);
  await crew.ask({ op: "add-contacts", member: MEASURED_SENDER, cards: cards.slice(1) });
  await Promise.all(
    others.map((_, index) => crew.ask({ op: "add-contacts", member: index + 1, cards: [creator] })),
  );
  const group = await crew.ask<string>({
    op: "create-group",
    member: MEASURED_SENDER,
    accounts: others.map(({ accountId }) => accountId),
  });
  await Promise.all(
    accounts.map(async (_, member) => {
      await crew.ask({ op: "await-group", member, group, members });
      progress.step();
    }),
  );
  return group;
}

/** The measured sender alone: one message at a time, each until every member has it. */
async function measuredPart(crew: Crew, plan: Plan, group: string, progress: Progress): Promise<Costs> {
  const measured = plan.messages.filter(({ part }) => part === "measured");
  await treeIsWarm(crew, progress);
  for (const { index, sender, part } of plan.messages) {
    if (part !== "warm-up") break;
    await crew.ask({ op: "send", member: sender, group, text: messageText(index) });
    await arrived(crew, plan, index);
  }
  progress.stage("measured messages", measured.length);
  await quiet(crew);
  const before = await crew.usage();
  const lastMemberMs: number[] = [];
  for (const { index, sender } of measured) {
    const sentAt = performance.now();
    await crew.ask({ op: "send", member: sender, group, text: messageText(index) });
    await arrived(crew, plan, index);
    lastMemberMs.push(performance.now() - sentAt);
    progress.step();
  }
  await quiet(crew);
  const after = await crew.usage();
  const difference = (key: "cpuUs" | "sent" | "received", from: number, to: number): number => {
    let sum = 0;
    for (let at = from; at < to; at++) sum += after.clients[at]![key] - before.clients[at]![key];
    return sum;
  };
  const processes = plan.processes.length;
  const pairs = measured.length * (plan.members - 1);
  return {
    senderBytesPerMessage: Math.round(difference("sent", 0, 1) / measured.length),
    receiverBytesPerMessage: Math.round(difference("received", 1, processes) / pairs),
    senderCpuUsPerMessage: Math.round(difference("cpuUs", 0, 1) / measured.length),
    receiverCpuUsPerMessage: Math.round(difference("cpuUs", 1, processes) / pairs),
    dsCpuUsPerMessage: Math.round((after.service.cpuUs - before.service.cpuUs) / measured.length),
    lastMemberMsMedian: Math.round(lastMemberMs.sort((a, b) => a - b)[Math.floor(lastMemberMs.length / 2)]!),
  };
}

/** What commits and joins have cost until now, nothing having been killed yet. */
async function communityCosts(crew: Crew): Promise<MlsReport> {
  const costs = await crew.costs();
  const sum = (key: keyof (typeof costs)[number]) => costs.reduce((total, one) => total + one[key], 0);
  const mean = (total: number, count: number) => (count === 0 ? 0 : Math.round(total / count));
  const commits = sum("commitsCreated");
  // CPU is measured at some members only.
  const measured = (cpu: keyof (typeof costs)[number], count: keyof (typeof costs)[number]) =>
    costs.filter((one) => one[cpu] > 0).reduce((total, one) => total + one[count], 0);
  const joiners = costs.filter(({ welcomes }) => welcomes > 0);
  return {
    commits,
    commitBytesMean: mean(sum("commitBytes"), commits),
    welcomeBytesMean: mean(sum("welcomeBytes"), sum("welcomes")),
    commitCpuUsSender: mean(sum("commitCreateCpuUs"), measured("commitCreateCpuUs", "commitsCreated")),
    commitCpuUsReceiver: mean(sum("commitReceiveCpuUs"), measured("commitReceiveCpuUs", "commitsReceived")),
    refusedSubmits: sum("refusedSubmits"),
    unreadable: sum("unreadable"),
    refusedCommits: sum("refusedCommits"),
    rejoins: sum("rejoins"),
    verifiedLeavesLeast: Math.min(...joiners.map(({ verifiedLeaves }) => verifiedLeaves)),
    verifiedLeavesMean: mean(sum("verifiedLeaves"), joiners.length),
  };
}

/** Several members send; processes are killed while messages are under way. */
async function eventfulPart(crew: Crew, plan: Plan, group: string, progress: Progress): Promise<void> {
  const rest = plan.messages.filter(({ part }) => part === "eventful");
  progress.stage("messages, with kills and restarts", rest.length);
  for (const message of rest) {
    const kill = plan.kills.find(({ duringMessage }) => duringMessage === message.index);
    await sendOnce(crew, message, group, kill);
    progress.step();
  }
  await crew.allAlive();
}

/**
 * Hands a message to its sender exactly once: when the sender's process died without an answer, its history says
 * after the restart whether the message had been persisted.
 */
async function sendOnce(
  crew: Crew,
  { index, sender }: PlannedMessage,
  group: string,
  kill: PlannedKill | undefined,
): Promise<void> {
  const request = { op: "send", member: sender, group, text: messageText(index) } as const;
  if (kill !== undefined) {
    // The next kill comes when everything is up again, and the message is handed over to a living sender.
    await crew.allAlive();
    setTimeout(() => crew.kill(kill), kill.afterMs);
  }
  for (;;) {
    try {
      await crew.ask(request);
      break;
    } catch (error) {
      if (!(error instanceof ProcessEnded)) throw error;
    }
    await crew.allAlive();
    const { messages } = await crew.askUntilAnswered<History>({ op: "history", member: sender, group });
    if (messages.includes(index)) break;
  }
  if (kill !== undefined) await sleep(kill.afterMs);
}

async function everythingArrived(crew: Crew, plan: Plan, progress: Progress): Promise<void> {
  progress.stage("waiting for the last ones", plan.messages.length);
  for (const { index } of plan.messages) {
    await arrived(crew, plan, index);
    progress.step();
  }
  await quiet(crew);
}

/** Resolves when every member has reported the message, or when nothing at all happens for too long. */
async function arrived(crew: Crew, { members }: Plan, index: number): Promise<void> {
  while (crew.events.membersWith(index, members) < members) {
    if (Date.now() - crew.lastEventAtMs > PATIENCE_MS) return;
    await sleep(10);
  }
}

/** The service warms the tree of a community turn by turn: a message is measured when no commit comes any more. */
async function treeIsWarm(crew: Crew, progress: Progress): Promise<void> {
  const commits = async () => (await crew.costs()).reduce((sum, one) => sum + one.commitsReceived, 0);
  let before = await commits();
  if (before === 0) return;
  progress.stage("warming the tree", 1);
  for (;;) {
    await sleep(QUIET_MS);
    const now = await commits();
    if (now === before) return;
    before = now;
  }
}

async function quiet(crew: Crew): Promise<void> {
  const since = Date.now();
  while (Date.now() - Math.max(since, crew.lastEventAtMs) < QUIET_MS) await sleep(50);
}

function readHistories(crew: Crew, plan: Plan, group: string, progress: Progress): Promise<History[]> {
  progress.stage("reading histories", plan.members);
  return Promise.all(
    Array.from({ length: plan.members }, async (_, member) => {
      const history = await crew.ask<History>({ op: "history", member, group } satisfies ClientRequest);
      progress.step();
      return history;
    }),
  );
}

/** What the runs of the demo have in common: forming the group, measuring one sender, handing over, waiting, reading. */
import { defaultSettings, receiptDelayOf } from "@murmuration/client-core";
import type { Progress } from "../progress.ts";
import type { Crew } from "./crew.ts";
import type { ClientRequest, History, Opened, Sent } from "./messages.ts";
import { foundersOf, MEASURED_SENDER, type Plan, type PlannedKill, type PlannedMessage } from "./plan.ts";
import { ProcessEnded } from "./processes.ts";
import type { DemoReport, MlsReport } from "./report.ts";
import { messageText } from "./tally.ts";

/**
 * Without a single event for this long, what has not arrived counts as lost, ms. Longer than every pause of a
 * client, so that what is late is late and not lost.
 */
const PATIENCE_MS = 120_000;
/** How long nothing may happen before a count is taken: late receipts, or a double, would show. */
const QUIET_MS = 1_500;
/** Messages of the measured sender to itself, after which its code is compiled. */
const PRACTICE = 400;
/** How long no commit may come before a tree is taken for warm: the service waits 5 s after the last member that came, ms. */
const WARM_QUIET_MS = 6_500;
/** The longest in which it is measured what is spent while nothing is said, ms. */
const MOST_IDLE_MS = 10_000;
/** The longest that is waited for a tree to be warm, ms. */
const MOST_WARM_MS = 12_000;

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

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

export async function formGroup(
  crew: Crew,
  { founders }: Plan,
  accounts: readonly Opened[],
  progress: Progress,
): Promise<string> {
  progress.stage("forming the group", founders);
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
    accounts: others.slice(0, founders - 1).map(({ accountId }) => accountId),
  });
  await Promise.all(
    accounts.slice(0, founders).map(async (_, member) => {
      await crew.ask({ op: "await-group", member, group, members: founders });
      progress.step();
    }),
  );
  return group;
}

/** Everybody's usage at one moment. */
type Snapshot = Awaited<ReturnType<Crew["usage"]>> & { readonly atMs: number };

const snapshotOf = async (crew: Crew): Promise<Snapshot> => ({
  ...(await crew.usage()),
  atMs: performance.now(),
});

/**
 * The measured sender alone: one message at a time, each until every member has it. In a community a commit may come in
 * between, which has lines of its own in the report: there the median of the messages counts. A pairwise message goes on to
 * cost something when all have it, by its receipts: there the mean counts, with what came until all was quiet. In a large
 * group that takes a minute: what connections cost in such a time by themselves is measured before, and taken off.
 *
 * The sender's CPU for a community message ends where the client is done with it: see {@link Sent}. Until the last of a
 * thousand has it the process goes on to report to the orchestrator, and to take acknowledgements from it, which a product
 * does not; the sender's CPU of a pairwise message is that of its process, reports included, since receipts come all the time.
 */
export async function measuredPart(
  crew: Crew,
  plan: Plan,
  group: string,
  progress: Progress,
): Promise<Costs> {
  const measured = plan.messages.filter(({ part }) => part === "measured");
  const isCommunity = await hasCommits(crew);
  if (isCommunity) {
    progress.stage("warming the tree", 1);
    await Promise.all([
      treeIsWarm(crew),
      crew.ask({ op: "practise", member: MEASURED_SENDER, messages: PRACTICE }),
    ]);
  }
  for (const { index, sender, part } of plan.messages) {
    if (part !== "warm-up") break;
    await crew.ask({ op: "send", member: sender, group, text: messageText(index) });
    await arrived(crew, foundersOf(plan), index);
  }
  progress.stage("measured messages", measured.length);
  if (!isCommunity) await receiptsCame(plan);
  await quiet(crew);
  const before = await snapshotOf(crew);
  if (!isCommunity) await sleep(Math.min(MOST_IDLE_MS, receiptWaitMs(plan)));
  const snapshots = [await snapshotOf(crew)];
  const lastMemberMs: number[] = [];
  const sendCpuUs: number[] = [];
  for (const { index, sender } of measured) {
    const sentAt = performance.now();
    const request = { op: "send", member: sender, group, text: messageText(index) } as const;
    // How soon the answer comes changes no figure: what arrives is reported by events.
    const sent = await crew.ask<Sent>(isCommunity ? { ...request, measured: true } : request);
    if (sent.cpuUs !== undefined) sendCpuUs.push(sent.cpuUs);
    await arrived(crew, foundersOf(plan), index);
    lastMemberMs.push(performance.now() - sentAt);
    if (isCommunity) snapshots.push(await snapshotOf(crew));
    progress.step();
  }
  if (!isCommunity) {
    await receiptsCame(plan);
    await quiet(crew);
    snapshots.push(await snapshotOf(crew));
  }
  const messages = isCommunity ? 1 : measured.length;
  /** What one message cost, of what a snapshot adds up. */
  const cost = (total: (snapshot: Snapshot) => number): number => {
    const spent = (from: Snapshot, to: Snapshot) => total(to) - total(from);
    const idle = isCommunity ? 0 : spent(before, snapshots[0]!) / (snapshots[0]!.atMs - before.atMs);
    const costs = snapshots.slice(1).map((snapshot, at) => {
      const last = snapshots[at]!;
      return Math.max(0, spent(last, snapshot) - idle * (snapshot.atMs - last.atMs)) / messages;
    });
    return median(costs);
  };
  const receivers = (key: "cpuUs" | "received") => (snapshot: Snapshot) =>
    snapshot.clients.slice(1).reduce((sum, client) => sum + client[key], 0) / (plan.founders - 1);
  return {
    senderBytesPerMessage: cost(({ clients }) => clients[0]!.sent),
    receiverBytesPerMessage: cost(receivers("received")),
    senderCpuUsPerMessage: isCommunity ? median(sendCpuUs) : cost(({ clients }) => clients[0]!.cpuUs),
    receiverCpuUsPerMessage: cost(receivers("cpuUs")),
    dsCpuUsPerMessage: cost(({ service }) => service.cpuUs),
    lastMemberMsMedian: median(lastMemberMs),
  };
}

/**
 * Receipts of a group come late, the larger it is: the session of a member who has not answered yet carries the key
 * exchange with each message, and what receipts cost belongs to the messages that they confirm.
 */
const receiptsCame = (plan: Plan): Promise<void> => sleep(receiptWaitMs(plan));

/** The longest that a receipt waits. */
const receiptWaitMs = ({ founders }: Plan): number =>
  receiptDelayOf(founders, defaultSettings.receiptDelayMs, 1);

/** Rounded. */
function median(values: readonly number[]): number {
  return Math.round([...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!);
}

/** What commits and joins have cost until now, nothing having been killed yet. */
export async function communityCosts(crew: Crew): Promise<MlsReport> {
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

/**
 * Hands a message to its sender exactly once: when the sender's process died without an answer, its history says
 * after the restart whether the message had been persisted. Resolves with what the sender answered, if it could.
 */
export async function sendOnce(
  crew: Crew,
  { index, sender }: Pick<PlannedMessage, "index" | "sender">,
  group: string,
  kill?: PlannedKill,
): Promise<Sent | undefined> {
  const request = { op: "send", member: sender, group, text: messageText(index) } as const;
  if (kill !== undefined) {
    // The next kill comes when everything is up again, and the message is handed over to a living sender.
    await crew.allAlive();
    setTimeout(() => crew.kill(kill), kill.afterMs);
  }
  let sent: Sent | undefined;
  for (;;) {
    try {
      sent = await crew.ask<Sent>(request);
      break;
    } catch (error) {
      if (!(error instanceof ProcessEnded)) throw error;
    }
    await crew.allAlive();
    const { messages } = await crew.askUntilAnswered<History>({ op: "history", member: sender, group });
    if (messages.includes(index)) break;
  }
  if (kill !== undefined) await sleep(kill.afterMs);
  return sent;
}

/** Resolves when everybody of `readers` has reported the message, or when nothing at all happens for too long. */
export async function arrived(crew: Crew, readers: ReadonlySet<number>, index: number): Promise<void> {
  while (crew.events.membersWith(index, readers) < readers.size) {
    if (Date.now() - crew.lastEventAtMs > PATIENCE_MS) return;
    await sleep(10);
  }
}

/** Commits that everybody has received until now, added up. */
async function commitsReceived(crew: Crew): Promise<number> {
  return (await crew.costs()).reduce((sum, one) => sum + one.commitsReceived, 0);
}

const hasCommits = async (crew: Crew): Promise<boolean> => (await commitsReceived(crew)) > 0;

/**
 * The service warms the tree of a community turn by turn: a message is measured when no commit comes any more, or after a
 * while all the same.
 */
async function treeIsWarm(crew: Crew): Promise<void> {
  let before = await commitsReceived(crew);
  const deadline = Date.now() + MOST_WARM_MS;
  while (Date.now() < deadline) {
    await sleep(WARM_QUIET_MS);
    const now = await commitsReceived(crew);
    if (now === before) break;
    before = now;
  }
}

export async function quiet(crew: Crew): Promise<void> {
  const since = Date.now();
  while (Date.now() - Math.max(since, crew.lastEventAtMs) < QUIET_MS) await sleep(50);
}

export function readHistories(crew: Crew, plan: Plan, group: string, progress: Progress): Promise<History[]> {
  progress.stage("reading histories", plan.members);
  return Promise.all(
    Array.from({ length: plan.members }, async (_, member) => {
      const history = await crew.ask<History>({ op: "history", member, group } satisfies ClientRequest);
      progress.step();
      return history;
    }),
  );
}

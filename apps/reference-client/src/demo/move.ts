/** A run in which a pairwise group moves to MLS while its members talk, because more are added than it has room for. */
import type { Progress } from "../progress.ts";
import type { Crew } from "./crew.ts";
import type { ClientRequest, Opened } from "./messages.ts";
import {
  arrived,
  communityCosts,
  formGroup,
  measuredPart,
  quiet,
  readHistories,
  sendOnce,
  sleep,
} from "./parts.ts";
import { chatter, foundersOf, MEASURED_SENDER, type Plan, type PlannedMove } from "./plan.ts";
import type { DemoOutcome, DemoReport } from "./report.ts";
import { disorder, type Said, tally } from "./tally.ts";

/** How long the talk goes on before the move begins, and after everybody is in, ms. */
const TALK_BEFORE_MS = 2_000;
const TALK_AFTER_MS = 2_000;
const LOOK_MS = 20;

/** The run of a plan that has a move. */
export async function runMove(crew: Crew, plan: Plan, progress: Progress): Promise<DemoOutcome> {
  const startedMs = Date.now();
  progress.stage("registering members", plan.members);
  const accounts = await crew.start(() => progress.step());
  const group = await formGroup(crew, plan, accounts, progress);
  const costs = await measuredPart(crew, plan, group, progress);
  const talk = new Talk(crew, plan, group, accounts);
  const move = await moving(crew, plan, group, accounts, talk, progress);
  const community = await communityCosts(crew);
  const founders = foundersOf(plan);
  const said: Said[] = [
    ...plan.messages.map(({ index, sender }) => ({ index, sender, readers: founders })),
    ...talk.said,
  ];
  progress.stage("waiting for the last ones", said.length);
  for (const { index, readers } of said) {
    await arrived(crew, readers!, index);
    progress.step();
  }
  await quiet(crew);
  const histories = await readHistories(crew, plan, group, progress);
  const read = histories.map(({ messages }) => messages);
  const { faults, ...counts } = tally(said, read, crew.events);
  const late = disorder(said, read);
  const [fromMs, toMs] = talk.spanMs;
  const gap = crew.move.longestGap(founders, fromMs, toMs);
  const report: DemoReport = {
    members: plan.members,
    protocol: histories.every(({ protocol }) => protocol === "mls") ? "mls" : "pairwise",
    messages: said.length,
    ...counts,
    ...costs,
    ...community,
    kills: crew.kills,
    restarts: crew.restarts,
    processIds: crew.processIds,
    wallMs: Date.now() - startedMs,
    seed: plan.seed,
    timeline: crew.move.timeline(move.askedAtMs, MEASURED_SENDER, founders, gap),
    longestGapMs: gap.ms,
    longestSilenceMs: crew.move.longestSilenceMs(fromMs, toMs),
    ...crew.move.carried(),
    reordered: late.length,
  };
  return { report, faults: [...faults, ...late], killsUnderWay: crew.killsUnderWay };
}

/** Adds the others while the talk goes on, until everybody sees everybody. */
async function moving(
  crew: Crew,
  plan: Plan,
  group: string,
  accounts: readonly Opened[],
  talk: Talk,
  progress: Progress,
): Promise<{ readonly askedAtMs: number }> {
  const { founders, members } = plan;
  progress.stage("members who see everybody, while they talk", members);
  const over = new AbortController();
  const talking = talk.goOn(over.signal);
  // Whoever waits for the move hears of it when the talk broke off.
  const orBroken = <T>(work: Promise<T>): Promise<T> =>
    Promise.race([work, talking.then(() => Promise.reject(new Error("nobody talks any more")))]);
  await orBroken(sleep(TALK_BEFORE_MS));
  const askedAtMs = Date.now();
  const killing = killOnTheWay(crew, plan.move!, talk);
  const added = accounts.slice(founders).map(({ accountId }) => accountId);
  const request = { op: "add", member: MEASURED_SENDER, group, accounts: added } as const;
  await orBroken(crew.askUntilAnswered(request));
  await orBroken(
    Promise.all(
      accounts.map(async (_, member) => {
        await crew.askUntilAnswered({ op: "await-group", member, group, members } satisfies ClientRequest);
        progress.step();
      }),
    ),
  );
  await orBroken(killing);
  await orBroken(sleep(TALK_AFTER_MS));
  over.abort();
  await talking;
  return { askedAtMs };
}

/** Each when so many are ready as is planned, and the one before is over. */
async function killOnTheWay(crew: Crew, { kills }: PlannedMove, talk: Talk): Promise<void> {
  for (const { target, whenReady, downMs } of kills) {
    while (crew.move.readyPart() < whenReady) await sleep(LOOK_MS);
    crew.kill({ duringMessage: talk.latest, target, downMs });
    await crew.allAlive();
  }
}

/** The talkers: each says one thing after the other, all together at a steady rate. */
class Talk {
  readonly said: Said[] = [];
  latest = 0;
  private readonly crew: Crew;
  private readonly plan: Plan;
  private readonly group: string;
  private readonly memberOf: ReadonlyMap<string, number>;
  /** Whom each talker sees as members. Replaced, never changed: messages keep theirs. */
  private readonly seen = new Map<number, ReadonlySet<number>>();
  private startedMs = 0;
  private endedMs = 0;

  constructor(crew: Crew, plan: Plan, group: string, accounts: readonly Opened[]) {
    this.crew = crew;
    this.plan = plan;
    this.group = group;
    this.memberOf = new Map(accounts.map(({ accountId }, member) => [accountId, member]));
  }

  /** First and last moment of the talk, ms since 1970. */
  get spanMs(): readonly [number, number] {
    return [this.startedMs, this.endedMs];
  }

  /** Until the signal aborts. Rejects when something could not be said. */
  async goOn(signal: AbortSignal): Promise<void> {
    this.startedMs = Date.now();
    const turns = new Map<number, Promise<void>>();
    let failure: unknown;
    let nextMs = this.startedMs;
    for (const { index, sender, pauseMs } of chatter(this.plan)) {
      nextMs += pauseMs;
      await sleep(Math.max(0, nextMs - Date.now()));
      if (signal.aborted || failure !== undefined) break;
      this.latest = index;
      const turn = (turns.get(sender) ?? Promise.resolve()).then(() => this.say(index, sender));
      turns.set(sender, turn);
      turn.catch((error: unknown) => {
        failure ??= error;
      });
    }
    this.endedMs = Date.now();
    await Promise.all(turns.values());
  }

  private async say(index: number, sender: number): Promise<void> {
    const sent = await sendOnce(this.crew, { index, sender }, this.group);
    const before = this.seen.get(sender) ?? foundersOf(this.plan);
    const joined = (sent?.joined ?? []).map((account) => this.memberOf.get(account)!);
    const readers = joined.every((member) => before.has(member)) ? before : new Set([...before, ...joined]);
    this.seen.set(sender, readers);
    this.said.push({ index, sender, readers });
  }
}

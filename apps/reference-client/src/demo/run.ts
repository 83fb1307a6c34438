/**
 * One demo run: a delivery service and N clients as processes over real sockets, a group, M messages, kills and
 * restarts on the way, and a count of what is in every history at the end.
 */
import { CommandFailed } from "../failures.ts";
import type { Progress } from "../progress.ts";
import { Crew } from "./crew.ts";
import { runMove } from "./move.ts";
import { arrived, communityCosts, formGroup, measuredPart, quiet, readHistories, sendOnce } from "./parts.ts";
import { foundersOf, MEASURED_SENDER, type Plan } from "./plan.ts";
import type { DemoOutcome, DemoReport } from "./report.ts";
import { tally } from "./tally.ts";

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
  const work = plan.move === undefined ? runWith : runMove;
  let gentle = false;
  try {
    const report = await Promise.race([work(crew, plan, progress), broken]);
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

async function everythingArrived(crew: Crew, plan: Plan, progress: Progress): Promise<void> {
  progress.stage("waiting for the last ones", plan.messages.length);
  for (const { index } of plan.messages) {
    await arrived(crew, foundersOf(plan), index);
    progress.step();
  }
  await quiet(crew);
}

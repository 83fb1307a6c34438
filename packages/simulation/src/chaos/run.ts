/** One chaos run from its start to its verdict. */
import { setTimeout as sleep } from "node:timers/promises";
import { type FaultProxy, startFaultProxy } from "../fault-proxy.ts";
import { seededRandom } from "../seeded-random.ts";
import { Cluster } from "./cluster.ts";
import { Crew, type Group, type Pulse } from "./crew.ts";
import type { Kill } from "./evidence.ts";
import { Load } from "./load.ts";
import { type ChaosOptions, type ChaosPlan, planChaos } from "./plan.ts";
import { type ChaosReport, disagreements, judge } from "./verdict.ts";

/** A kill waits so long for its moment. */
const MOMENT_MS = 5_000;
/** After everything is up again. */
const CONVERGE_MS = 150_000;
const TELL_EVERY_MS = 10_000;
/** What comes twice may come late. */
const QUIET_MS = 3_000;

/** Rejects when the run could not be made, and when `signal` aborts. Whatever happens, everything it started is ended. */
export async function runChaos(
  options: ChaosOptions,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<ChaosReport> {
  const plan = planChaos(options);
  for (const { atMs, target, moment, downMs } of plan.kills)
    say(`plan: ${seconds(atMs)} kill ${target} in a ${moment}, back after ${seconds(downMs)}`);
  await using stack = new AsyncDisposableStack();
  const cluster = stack.adopt(await Cluster.start(), (opened) => opened.dispose());
  const proxy = stack.use(await startFaultProxy({ target: roundNodes(cluster, plan.seed) }));
  const crew = stack.adopt(new Crew(plan), (opened) => opened.close());
  const aborted = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(new Error("interrupted")), { once: true });
  });
  return await Promise.race([play(plan, cluster, proxy, crew, say), aborted]);
}

/** Every connection of a client goes to any node that is up. */
export function roundNodes({ nodes }: Cluster, seed: number): () => number {
  const random = seededRandom(seed + 1);
  return () => {
    const ready = nodes.filter(({ isReady }) => isReady);
    return (ready[random.below(ready.length)] ?? nodes[0]).port;
  };
}

async function play(
  plan: ChaosPlan,
  cluster: Cluster,
  proxy: FaultProxy,
  crew: Crew,
  say: (line: string) => void,
): Promise<ChaosReport> {
  await crew.gather(proxy.origin, cluster.directory);
  say(`${plan.clients} clients in ${plan.groups.length} groups; the load begins`);
  const load = new Load(crew, plan.seed);
  const kills = await killOneByOne(plan, cluster, crew, say);
  await load.stop();
  say(`everything is up, ${load.said.length} messages were said; waiting until all members have the same`);
  const healedAtMs = Date.now();
  const converged = await untilAlike(crew, load, say);
  const secondsToConverge = converged ? (Date.now() - healedAtMs) / 1_000 : undefined;
  await sleep(QUIET_MS);

  return judge({ plan, cluster, crew, load, kills, secondsToConverge });
}

async function killOneByOne(
  plan: ChaosPlan,
  cluster: Cluster,
  crew: Crew,
  say: (line: string) => void,
): Promise<readonly Kill[]> {
  const startedAtMs = Date.now();
  const kills: Kill[] = [];
  const until = (atMs: number) => sleep(Math.max(0, startedAtMs + atMs - Date.now()));
  for (const { atMs, target, moment, downMs } of plan.kills) {
    await until(atMs);
    await crew.next(moment, MOMENT_MS);
    kills.push({ target, atMs: Date.now() });
    await cluster.kill(target);
    say(`${seconds(Date.now() - startedAtMs)} killed ${target}`);
    await sleep(downMs);
    await cluster.start(target);
    // One that ended by itself is a fault that the verdict names; the run goes on.
    for (const node of cluster.nodes) if (!node.isReady) await node.start();
  }
  await until(plan.minutes * 60_000);
  return kills;
}

/** Waits until nothing is under way, and all members have the same. Now and then it says what is still missing. */
async function untilAlike(crew: Crew, load: Load, say: (line: string) => void): Promise<boolean> {
  const startedAtMs = Date.now();
  let saidAtMs = startedAtMs;
  while (Date.now() < startedAtMs + CONVERGE_MS) {
    const pulse = await crew.pulse();
    const missing = crew.groups.flatMap((group) => missingIn(group, pulse, load));
    if (missing.length === 0 && pulse.waiting === 0) return true;
    if (Date.now() > saidAtMs + TELL_EVERY_MS) {
      saidAtMs = Date.now();
      say(`after ${seconds(saidAtMs - startedAtMs)}: ${pulse.waiting} messages wait; ${missing.join("; ")}`);
    }
    await sleep(500);
  }
  return false;
}

function missingIn(group: Group, pulse: Pulse, load: Load): readonly string[] {
  const said = load.said.filter((message) => message.group === group).length;
  const behind = pulse.seen.filter(
    (one) => one.group === group && group.members.includes(one.client) && one.lines < said,
  );
  return [
    ...behind.map(({ client, lines }) => `client ${client} has ${lines} of ${said} in ${group.name}`),
    ...disagreements(group, pulse).map((fault) => `${group.name}, ${fault}`),
  ];
}

const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`;

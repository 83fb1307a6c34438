/** One chaos run from its start to its verdict. */
import { setTimeout as sleep } from "node:timers/promises";
import { type FaultProxy, startFaultProxy } from "../fault-proxy.ts";
import { seededRandom } from "../seeded-random.ts";
import { Cluster } from "./cluster.ts";
import { Crew, type Group, type Pulse } from "./crew.ts";
import { countHits, findLosses, type Hits, type Kill, type Story } from "./evidence.ts";
import { countOutbox, epochsWithoutOneCommit, isGapless, readGroupLogs } from "./group-logs.ts";
import { Load } from "./load.ts";
import type { ClientReport, GroupHistory } from "./messages.ts";
import {
  type ChaosOptions,
  type ChaosPlan,
  type PlannedKill,
  planChaos,
  TARGETS,
  type Target,
} from "./plan.ts";

/** A kill waits so long for its moment. */
const MOMENT_MS = 5_000;
/** After everything is up again. */
const CONVERGE_MS = 150_000;
const TELL_EVERY_MS = 10_000;
/** What comes twice may come late. */
const QUIET_MS = 3_000;
const EXAMPLES = 12;

export interface Check {
  readonly name: string;
  /** What is wrong, a line each, the first ones only; empty when it holds. */
  readonly faults: readonly string[];
}

export interface ChaosReport {
  readonly seed: number;
  readonly minutes: number;
  readonly checks: readonly Check[];
  readonly hits: Hits;
  readonly kills: Readonly<Record<Target, number>>;
  /** Taken by `send`, and pairs of message and member that have it. */
  readonly messages: number;
  readonly deliveries: number;
  readonly commitsSubmitted: number;
  readonly commitsInLogs: number;
  readonly changes: number;
  /** Changes and messages that were refused to the application, by code. */
  readonly refusals: Readonly<Record<string, number>>;
  /** Of all clients: submits that lost a race or waited for a turn, messages not readable, groups entered anew. */
  readonly costs: Readonly<Record<"refusedSubmits" | "unreadable" | "refusedCommits" | "rejoins", number>>;
  /** From when everything was up and the load had ended; undefined: not within its time. */
  readonly secondsToConverge: number | undefined;
  /** What nodes logged as warnings and errors, by event and code. */
  readonly logged: Readonly<Record<string, number>>;
}

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
function roundNodes({ nodes }: Cluster, seed: number): () => number {
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

  const pulse = await crew.pulse();
  const [reports, commits, histories, logs, outbox] = await Promise.all([
    crew.reports(),
    crew.commits(),
    Promise.all(crew.groups.map((group) => crew.histories(group))),
    readGroupLogs(cluster.postgres.query),
    countOutbox(cluster.postgres.query),
  ]);
  const stories = tellStories(crew.groups, load, reports, histories);
  const losses = findLosses(stories);
  const allHistories = histories.flat();
  const check = (name: string, faults: readonly string[]): Check => ({ name, faults });
  return {
    seed: plan.seed,
    minutes: plan.minutes,
    checks: [
      check("every message that was sent has been accepted", losses.neverAccepted),
      check("every accepted message is in the history of each member", losses.lost),
      check("no message is in a history twice", [...losses.doubled, ...guestsTwice(crew.groups, histories)]),
      check(
        "no message was given up as undecipherable",
        allHistories
          .filter(({ messagesLost }) => messagesLost > 0)
          .map((one) => `${one.messagesLost} messages`),
      ),
      check(
        "each epoch is left by exactly one commit",
        logs.flatMap((log, index) =>
          epochsWithoutOneCommit(log).map((epoch) => `log ${index}, epoch ${epoch}`),
        ),
      ),
      check(
        "logs have no gap",
        logs.flatMap((log, index) => (isGapless(log) ? [] : `log ${index}`)),
      ),
      ...crew.groups.map((group) =>
        check(
          group.protocol === "mls"
            ? `all members of ${group.name} are in the same epoch with the same secrets, title and members`
            : `all members of ${group.name} have the same title and members`,
          disagreements(group, pulse),
        ),
      ),
      check(
        "nobody has anything left to send",
        pulse.waiting + outbox === 0 ? [] : [`${pulse.waiting} + ${outbox}`],
      ),
      check(
        "nobody had to decide anything",
        reports.flatMap(({ decisions }, client) => decisions.map((code) => `client ${client}: ${code}`)),
      ),
      check(
        "no node ended by itself",
        cluster.nodes.flatMap(({ ends }, index) => (ends > 0 ? `node ${index}: ${ends} times` : [])),
      ),
    ],
    hits: countHits(kills, commits, stories),
    kills: Object.fromEntries(
      TARGETS.map((target) => [target, kills.filter((kill) => kill.target === target).length]),
    ) as Record<Target, number>,
    messages: stories.length,
    deliveries: losses.deliveries,
    commitsSubmitted: commits.length,
    commitsInLogs: logs.flatMap(({ entries }) => entries.filter(({ kind }) => kind === "commit")).length,
    changes: load.changes,
    refusals: load.refusals,
    costs: sumCosts(reports),
    secondsToConverge,
    logged: sumLogged(cluster),
  };
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
  for (const { atMs, target, moment, downMs } of plan.kills satisfies readonly PlannedKill[]) {
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

/** Members, and those guests that are members now, beside what the owner has. */
function disagreements(group: Group, { seen }: Pulse): readonly string[] {
  const views = seen.filter((one) => one.group === group);
  const shown = ({ group: _, client: __, lines: ___, ...view }: Pulse["seen"][number]) =>
    JSON.stringify(view);
  const owner = views.find(({ client }) => client === group.members[0])!;
  const count = owner.members.length;
  const faults = views
    .filter(({ client, state }) => group.members.includes(client) || state === "active")
    .filter((view) => shown(view) !== shown(owner))
    .map((view) => `client ${view.client}: ${brief(view)}; the owner: ${brief(owner)}`);
  const active = views.filter(({ state }) => state === "active").length;
  return active === count ? faults : [...faults, `${active} are in a group of ${count}`];
}

function brief({
  state,
  standing = "",
  title,
  expiry,
  members,
  epoch,
  authenticator,
}: Pulse["seen"][number]) {
  return `${state} ${standing} "${title}" ${expiry} ${members.length} members, epoch ${epoch} ${authenticator.slice(0, 8)}`;
}

function tellStories(
  groups: readonly Group[],
  { said }: Load,
  reports: readonly ClientReport[],
  histories: readonly (readonly GroupHistory[])[],
): readonly Story[] {
  const accepted = reports.map((report) => new Map(report.accepted));
  const stored = new Map(
    groups.map((group, index) => [
      group,
      group.members.map((client, at) => ({
        member: `client ${client}`,
        times: byText(histories[index]![at]!),
      })),
    ]),
  );
  return said.map(({ text, sender, group }) => ({
    text,
    acceptedAtMs: accepted[sender]!.get(text),
    stored: stored.get(group)!.map(({ member, times }) => ({ member, atMs: times.get(text) ?? [] })),
  }));
}

function byText({ lines }: GroupHistory): ReadonlyMap<string, readonly number[]> {
  const times = new Map<string, number[]>();
  for (const [text, atMs] of lines) {
    const known = times.get(text);
    if (known === undefined) times.set(text, [atMs]);
    else known.push(atMs);
  }
  return times;
}

/** Guests may miss what was said while they were away, but have nothing twice. */
function guestsTwice(
  groups: readonly Group[],
  histories: readonly (readonly GroupHistory[])[],
): readonly string[] {
  return groups.flatMap(({ members, guests }, index) =>
    guests.flatMap((client, at) =>
      [...byText(histories[index]![members.length + at]!)]
        .filter(([, times]) => times.length > 1)
        .map(([text]) => `"${text}" at guest ${client}`),
    ),
  );
}

function sumCosts(reports: readonly ClientReport[]): ChaosReport["costs"] {
  const sum = (name: keyof ChaosReport["costs"]) =>
    reports.reduce((total, { costs }) => total + costs[name], 0);
  return {
    refusedSubmits: sum("refusedSubmits"),
    unreadable: sum("unreadable"),
    refusedCommits: sum("refusedCommits"),
    rejoins: sum("rejoins"),
  };
}

function sumLogged({ nodes }: Cluster): Readonly<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const node of nodes)
    for (const level of ["warn", "error"] as const)
      for (const [name, count] of Object.entries(node.logged(level)))
        counts[`${level} ${name}`] = (counts[`${level} ${name}`] ?? 0) + count;
  return counts;
}

/** The first faults of a check, in words. */
export function firstFaults({ faults }: Check): readonly string[] {
  const more = faults.length - EXAMPLES;
  return more > 0 ? [...faults.slice(0, EXAMPLES), `and ${more} more`] : faults;
}

const seconds = (ms: number) => `${(ms / 1_000).toFixed(1)} s`;

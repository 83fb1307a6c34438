/** What a chaos run has shown: counts, and checks that hold or not. */
import type { Cluster } from "./cluster.ts";
import type { Crew, Group, Pulse } from "./crew.ts";
import { countHits, findLosses, type Hits, type Kill, type Story } from "./evidence.ts";
import { countOutbox, epochsWithoutOneCommit, isGapless, readGroupLogs } from "./group-logs.ts";
import type { Load } from "./load.ts";
import type { ClientReport, GroupHistory } from "./messages.ts";
import { type ChaosPlan, TARGETS, type Target } from "./plan.ts";

const EXAMPLES = 12;
/** What takes longer waits for a chance, and not for the machine. */
const SOON_SECONDS = 30;

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

interface Played {
  readonly plan: ChaosPlan;
  readonly cluster: Cluster;
  readonly crew: Crew;
  readonly load: Load;
  readonly kills: readonly Kill[];
  readonly secondsToConverge: number | undefined;
}

/** Asks clients and PostgreSQL what they have, once the load has ended. O(messages × members). */
export async function judge(played: Played): Promise<ChaosReport> {
  const { plan, cluster, crew, load, kills, secondsToConverge } = played;
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
  const logged = sumLogged(cluster);
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
      check(
        "no node met a state that its code says cannot be",
        Object.entries(logged).flatMap(([name, count]) =>
          name.startsWith("error internal-error") ? `${name}: ${count} times` : [],
        ),
      ),
      check(
        "everybody had the same soon after everything was up",
        secondsToConverge !== undefined && secondsToConverge <= SOON_SECONDS
          ? []
          : [`after ${secondsToConverge ?? "too many"} seconds`],
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
    logged,
  };
}

/** Members, and those guests that are members now, beside what the owner has. */
export function disagreements(group: Group, { seen }: Pulse): readonly string[] {
  const views = seen.filter((one) => one.group === group);
  const shown = (view: Pulse["seen"][number]) => `${brief(view)} ${view.members}`;
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
  return `${state} ${standing} "${title}" ${expiry} ${members.length} members, epoch ${epoch} ${authenticator}`;
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
  for (const [name, count] of nodes.flatMap((node) => Object.entries(node.logged())))
    counts[name] = (counts[name] ?? 0) + count;
  return counts;
}

/** The first faults of a check, in words. */
export function firstFaults({ faults }: Check): readonly string[] {
  const more = faults.length - EXAMPLES;
  return more > 0 ? [...faults.slice(0, EXAMPLES), `and ${more} more`] : faults;
}

/** Who talks where in a chaos run, and what is killed when: all of it follows from the options and the seed. */
import { type SeededRandom, seededRandom } from "../seeded-random.ts";

export const TARGETS = ["node A", "node B", "redis", "postgres"] as const;
export type Target = (typeof TARGETS)[number];

/** What a kill waits for, a few seconds at most, so that it hits something. */
export type Moment = "commit" | "fan-out";

export interface ChaosOptions {
  readonly seed: number;
  readonly minutes: number;
  /** Between two kills. */
  readonly everySeconds: number;
}

export interface PlannedKill {
  /** After the load began. */
  readonly atMs: number;
  readonly target: Target;
  readonly moment: Moment;
  readonly downMs: number;
}

/** A group of the run. Members are numbers of clients. */
export interface PlannedGroup {
  readonly name: string;
  readonly protocol: "mls" | "pairwise";
  /** Members from before the load begins until the end; the first one is the owner. */
  readonly members: readonly number[];
  /** Those of them who change the group: the owner, and admins. */
  readonly admins: readonly number[];
  /** Are added and removed all the time, and say nothing. */
  readonly guests: readonly number[];
  /** Mean time between two messages. */
  readonly messageEveryMs: number;
  /** Mean time between two changes of one admin. */
  readonly changeEveryMs: number;
}

export interface ChaosPlan extends ChaosOptions {
  readonly clients: number;
  readonly groups: readonly PlannedGroup[];
  readonly kills: readonly PlannedKill[];
}

const CLIENTS = 16;
const FIRST_KILL_MS = 4_000;
const DOWN_MS = { least: 1_000, most: 4_000 };

const range = (from: number, count: number): readonly number[] =>
  Array.from({ length: count }, (_, index) => from + index);

const groups: readonly PlannedGroup[] = [
  community("flock", range(0, 12), [12, 13]),
  community("swarm", range(2, 12), [14, 15]),
  circle("nest", [4, 5, 6, 7], 8),
  circle("brood", [9, 10, 11, 12], 15),
  circle("clutch", [14, 15, 0, 1], 2),
];

function community(name: string, members: readonly number[], guests: readonly number[]): PlannedGroup {
  const admins = members.slice(0, 2);
  return { name, protocol: "mls", members, admins, guests, messageEveryMs: 500, changeEveryMs: 900 };
}

function circle(name: string, members: readonly number[], guest: number): PlannedGroup {
  const admins = members.slice(0, 1);
  const pace = { messageEveryMs: 900, changeEveryMs: 2_500 };
  return { name, protocol: "pairwise", members, admins, guests: [guest], ...pace };
}

/** The same options give the same plan. */
export function planChaos(options: ChaosOptions): ChaosPlan {
  const random = seededRandom(options.seed);
  const everyMs = options.everySeconds * 1_000;
  const count = Math.floor((options.minutes * 60_000 - FIRST_KILL_MS) / everyMs) + 1;
  const targets = rounds(TARGETS, random);
  const moments = rounds<Moment>(["commit", "fan-out"], random);
  const kills = range(0, Math.max(1, count)).map((index) => ({
    atMs: FIRST_KILL_MS + index * everyMs,
    target: targets(),
    moment: moments(),
    downMs: DOWN_MS.least + random.below(DOWN_MS.most - DOWN_MS.least),
  }));
  return { ...options, clients: CLIENTS, groups, kills };
}

/** Hands out each value once, in random order, and then all of them again. */
function rounds<T>(values: readonly T[], random: SeededRandom): () => T {
  let left: T[] = [];
  return () => {
    if (left.length === 0) left = [...values];
    return left.splice(random.below(left.length), 1)[0]!;
  };
}
